"""What each of the processes does that `mammography.training.ranks.launch` starts."""

from __future__ import annotations

import logging
import pickle
import sys
from pathlib import Path

from mammography.errors import MammographyError
from mammography.training.ranks import rank


def main(question: str, answer: str) -> int:
    """Run the command that lies in one file; the first process writes its result into another."""
    command = pickle.loads(Path(question).read_bytes())  # noqa: S301  (our own parent's question)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("mammography").setLevel(logging.INFO)
    try:
        result = command.run()
    except MammographyError as error:
        if rank() == 0:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    if rank() == 0:
        Path(answer).write_bytes(pickle.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
