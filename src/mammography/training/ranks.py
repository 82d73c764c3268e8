"""The processes that train together: starting them, who is first, what the others are told.

``torchrun`` starts them and says who is who in the environment; without it there is one.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from mammography.archive.workers import cores
from mammography.errors import MammographyError

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def placement() -> dict[str, Any]:
    """How Lightning's trainer shall train: alone, or in step with the others."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    strategy = "ddp" if world() > 1 else "auto"
    return {"devices": here, "num_nodes": world() // here, "strategy": strategy}


def agreed(value: T) -> T:
    """The first process's value, in all of them; it must be picklable."""
    if world() == 1:
        return value
    import torch.distributed as distributed

    if not distributed.is_initialized():
        distributed.init_process_group()
        atexit.register(_leave)
    values: list[Any] = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def _leave() -> None:
    """Leave the group of processes; one that ended within it might be aborted."""
    import torch.distributed as distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def launch(command: Any, processes: int) -> Any:
    """Run a command in several processes on this machine, as ``torchrun`` does.

    Args:
        command: A command's dataclass; it must be picklable.
        processes: How many.

    Returns:
        What its `run` returned in the first process.

    Raises:
        MammographyError: It failed; the processes said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "command", Path(folder) / "result"
        question.write_bytes(pickle.dumps(command))
        done = subprocess.run(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                f"--nproc-per-node={processes}", "-m", "mammography.training.launched",
                str(question), str(answer),
            ],
            env={"OMP_NUM_THREADS": str(max(1, cores() // processes))} | os.environ,
            check=False,
        )  # fmt: skip
        if done.returncode or not answer.exists():
            raise MammographyError(f"The {processes} processes failed; what they said is above.")
        return pickle.loads(answer.read_bytes())  # noqa: S301  (our own processes' answer)
