"""How fast and how large is `mammography embed`? Ratios measured in one run on one machine.

    python benchmarks/embed.py [--images 96] [--repeats 3]

On archives of synthetic full-size mammograms (3,328 x 2,560, 12-14 bits in 16) it measures, in turn
and several times over, each in a process of its own:

- ``plain``: the loop that everybody writes: pydicom, np.percentile, cv2.resize, eager PyTorch,
  one image at a time;
- ``decode``: reading and preprocessing alone, on all cores;
- ``network``: the network alone, on all cores;
- ``embed``: the command's engine. Start-up is counted in none of the four.

The bound is what decode and network allow when they share the cores: 1 / (1/decode + 1/network).
Peak memory is that of the whole command with all its processes (proportional set size), at N and at
4 N images. Medians are written to embed.json beside this file, and a table is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mammography.encoders.backends import Backend
    from mammography.preprocess.recipe import Recipe

HERE = Path(__file__).parent

#: Row of the table: syntax of the archive, reduced decode, mixed precision.
CASES = [
    ("explicit", "full", False),
    ("explicit", "full", True),
    ("jpeg-lossless", "full", False),
    ("jpeg-lossless", "full", True),
    ("jpeg2000", "full", False),
    ("jpeg2000", "half", False),
    ("jpeg2000", "half", True),
]


def plain(files: list[Path]) -> float:
    """Images a second of the everyday loop, with pydicom's and PyTorch's own defaults."""
    import cv2
    import numpy as np
    import pydicom
    import torch
    from torchvision.models import resnet50

    network = resnet50(weights=None)
    network.fc = torch.nn.Identity()
    network.eval()
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def features(file: Path) -> object:
        dataset = pydicom.dcmread(file)
        image = dataset.pixel_array.astype(np.float32)
        if dataset.PhotometricInterpretation == "MONOCHROME1":
            image = image.max() - image
        low, high = np.percentile(image, (0.5, 99.5))
        image = np.clip((image - low) / (high - low), 0, 1)
        image = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
        image = (np.stack([image] * 3, axis=-1) - mean) / std
        tensor = torch.from_numpy(image.transpose(2, 0, 1)).float().unsqueeze(0)
        with torch.no_grad():
            return network(tensor).numpy()

    features(files[0])
    start = time.perf_counter()
    for file in files:
        features(file)
    return len(files) / (time.perf_counter() - start)


def _recipe(reduced: str) -> Recipe:
    from mammography import plugins

    return plugins.get("recipes", "imagenet").with_options(reduced_decode=reduced)


def _backend(amp: bool) -> Backend:
    from mammography.encoders.backends import EncoderRequest, open_backend

    return open_backend(EncoderRequest("resnet50", "random", 42, (224, 224), amp=amp))[1]


def decode(files: list[Path], reduced: str) -> float:
    """Images a second of workers alone."""
    from mammography.archive.workers import cores, over_items
    from mammography.preprocess.recipe import preparer

    outcomes = over_items(preparer(_recipe(reduced), 10**9), [*files[:4], *files], cores())
    for _ in range(4):
        next(outcomes)
    start = time.perf_counter()
    count = sum(1 for _ in outcomes)
    return count / (time.perf_counter() - start)


def network(images: int, amp: bool) -> float:
    """Images a second of the network alone."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    backend = _backend(amp)
    batch = np.random.default_rng(0).standard_normal((backend.batch_size, 3, 224, 224), np.float32)
    rounds = max(images, 96) // backend.batch_size
    with ThreadPoolExecutor(backend.streams) as pool:
        list(pool.map(backend.infer, [batch] * backend.streams))
        start = time.perf_counter()
        list(pool.map(backend.infer, [batch] * rounds))
        return rounds * backend.batch_size / (time.perf_counter() - start)


def embed(root: Path, files: list[Path], reduced: str, amp: bool) -> float:
    """Images a second of the command's engine, by what these files add to a few of them.

    The difference between two runs leaves out what does not grow with the archive, such as the
    start of the workers.
    """
    backend, recipe = _backend(amp), _recipe(reduced)
    few = files[:16]
    seconds = _embed_seconds(root, few + files, recipe, backend)
    return len(files) / (seconds - _embed_seconds(root, few, recipe, backend))


def _embed_seconds(root: Path, files: list[Path], recipe: Recipe, backend: Backend) -> float:
    from mammography.archive.workers import cores
    from mammography.embeddings.extract import extract
    from mammography.embeddings.store import PartialSet

    paths = [file.relative_to(root).as_posix() for file in files]
    with tempfile.TemporaryDirectory() as folder:
        target = PartialSet(Path(folder), {}, len(paths), part_rows=128)
        start = time.perf_counter()
        extract(
            root,
            paths,
            target,
            recipe,
            backend,
            workers=cores(),
            max_pixels=10**9,
            progress=lambda images, rejected: None,
        )
        return time.perf_counter() - start


def peak_memory(archive: Path, images: int) -> float:
    """Peak of the command and all its processes in MB (proportional set size)."""
    import psutil

    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "mammography", "embed", "--csv", archive / "classificacao.csv",
            "--dicom-root", archive / "archive", "--outdir", Path(folder) / "set",
            "--weights", "random", "--limit", str(images),
        ]  # fmt: skip
        process = psutil.Popen(
            [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        peak = 0
        while process.poll() is None:
            total = 0
            for part in [process, *process.children(recursive=True)]:
                try:
                    total += part.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total)
            time.sleep(0.05)
        if process.returncode != 0:
            raise SystemExit(f"embed failed with exit code {process.returncode}")
    return peak / 1e6


def _phantoms(folder: Path, syntax: str, images: int) -> Path:
    archive = folder / syntax
    if not archive.exists():
        from mammography.commands.phantom import Phantom

        Phantom(archive, exams=(images + 3) // 4, syntax=(syntax,)).run()
    return archive


def _measured(*words: object) -> float:
    """One measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def measure(what: str, archive: Path, images: int, reduced: str, amp: bool) -> float:
    """The child's side of `_measured`."""
    root = archive / "archive"
    files = sorted(root.rglob("*.dcm"))[:images]
    if what == "plain":
        return plain(files)
    if what == "decode":
        return decode(files, reduced)
    if what == "network":
        return network(images, amp)
    return embed(root, files, reduced, amp)


def run_case(archive: Path, images: int, reduced: str, amp: bool, repeats: int) -> dict:
    """All measurements of one row, taken in turn; medians."""
    rates: dict[str, list[float]] = {}
    for _ in range(repeats):
        for what in ("plain", "embed", "decode", "network"):
            rates.setdefault(what, []).append(_measured(what, archive, images, reduced, amp))
    row: dict = {what: statistics.median(values) for what, values in rates.items()}
    row["bound"] = 1 / (1 / row["decode"] + 1 / row["network"])
    row["against_plain"] = row["embed"] / row["plain"]
    row["against_bound"] = row["embed"] / row["bound"]
    row["all"] = rates
    return row


def main() -> None:
    """Make the archives, measure, print, write embed.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the archives here")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, archive, images, reduced, amp = options.measure
        print(measure(what, Path(archive), int(images), reduced, amp == "True"))
        return
    folder = options.folder or Path(tempfile.mkdtemp())
    rows = []
    print(
        "| archive | decode | precision | plain | embed | bound | against plain | against bound |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for syntax, reduced, amp in CASES:
        archive = _phantoms(folder, syntax, 4 * options.images)
        row = run_case(archive, options.images, reduced, amp, options.repeats)
        precision = "bfloat16" if amp else "float32"
        rows.append({"archive": syntax, "decode": reduced, "precision": precision, **row})
        print(
            f"| {syntax} | {reduced} | {precision} | {row['plain']:.1f} | {row['embed']:.1f} "
            f"| {row['bound']:.1f} | {row['against_plain']:.2f} × | {row['against_bound']:.2f} |",
            flush=True,
        )
    archive = _phantoms(folder, "explicit", 4 * options.images)
    memory = {
        "N": options.images,
        "peak_MB_at_N": peak_memory(archive, options.images),
        "peak_MB_at_4N": peak_memory(archive, 4 * options.images),
    }
    print(
        f"\npeak memory of all processes: {memory['peak_MB_at_N']:.0f} MB at N = {memory['N']}, "
        f"{memory['peak_MB_at_4N']:.0f} MB at 4 N"
    )
    from mammography.runs import git_commit, versions

    result = {
        "command": " ".join(sys.argv),
        "images": options.images,
        "repeats": options.repeats,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "rows": rows,
        "memory": memory,
        "versions": versions(),
        "git_commit": git_commit(),
    }
    (HERE / "embed.json").write_text(json.dumps(result, indent=1) + "\n")
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
