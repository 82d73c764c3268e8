"""What does an epoch of `train-density` cost beside the network? Ratios measured in one run.

    python benchmarks/train_density.py [--images 48] [--size 512] [--repeats 3] [--device auto]

On synthetic mammograms it measures, in turn and several times over, images a second of

- ``network``: forward, backward and optimiser step of the same classifier on one batch that lies
  ready: the bound;
- ``memory``, ``disk``: a training epoch of the command's trainer with grays from that cache;
- ``augmented``: the same from disk with augmentation, which the bound does not have;
- ``none``: decoding again in each epoch.

Medians are written to train_density.json beside this file, and a table is printed. A cached epoch
is to take at most 10 % longer than the network alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mammography import plugins
from mammography.archive.workers import cores
from mammography.commands.phantom import Phantom
from mammography.encoders.registry import find_architecture, load_encoder
from mammography.encoders.torch_backend import choose_device
from mammography.preprocess.cache import prepare_images
from mammography.runs import git_commit, versions
from mammography.training.classifier import Classifier, trained_modules
from mammography.training.data import ImageBatches, Images
from mammography.training.density import DensityTask
from mammography.training.fit import Loading, fit
from mammography.training.objective import find_objective
from mammography.training.settings import FitSettings

HERE = Path(__file__).parent
MODES = ("memory", "disk", "augmented", "none")


def task_of(arch: str, settings: FitSettings, size: int, last_block: bool) -> DensityTask:
    """A classifier of four classes with random weights."""
    encoder = load_encoder(arch, "random", seed=0, size=(size, size))
    classifier = Classifier(encoder.network, encoder.info.width, 4, 0.2)
    classifier.freeze_all_but(
        trained_modules(
            find_architecture(arch), encoder.network, train_backbone=True, last_block=last_block
        )
    )
    info = encoder.info
    objective = find_objective("cross-entropy")
    return DensityTask(classifier, objective, settings, np.ones(4), info.mean, info.std)


def network_rate(task: DensityTask, images: Images, batches: int) -> float:
    """Images a second of the network's training step alone."""
    device = torch.device(task.settings.device)
    task.to(device).train()
    rows = list(range(task.settings.batch_size))
    batch = ImageBatches(images)[rows].to(device)
    grays = task.images(batch.grays.to(torch.float32) / 65535)
    optimizer = torch.optim.Adam(
        [weight for weight in task.classifier.parameters() if weight.requires_grad], 1e-4
    )

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=task.settings.amp):
            logits = task.classifier(grays)
        torch.nn.functional.cross_entropy(logits.float(), batch.codes).backward()
        optimizer.step()
        float(task.classifier.linear.weight.detach().sum())  # wait for the device

    step()
    start = time.perf_counter()
    for _ in range(batches):
        step()
    return batches * len(rows) / (time.perf_counter() - start)


def epoch_rate(task: DensityTask, images: Images, loading: Loading) -> float:
    """Images a second of the second training epoch, its validation of one image included."""
    ends: list[float] = []
    rows = np.arange(len(images.codes))
    with tempfile.TemporaryDirectory() as folder:
        fit(
            task, images, rows, rows[:1], list("ABCD"), Path(folder), loading,
            on_epoch=lambda line: ends.append(time.perf_counter()),
        )  # fmt: skip
    return len(rows) / (ends[1] - ends[0])


def main() -> None:
    """Make the images, measure, print, write train_density.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--arch", default="efficientnet_b0")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--full", action="store_true", help="train all layers, not the last block")
    parser.add_argument("--out", type=Path, default=HERE / "train_density.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    device = choose_device(options.device)
    settings = FitSettings(
        epochs=2, batch_size=options.batch_size, augment=False, device=device, amp=options.amp
    )
    recipe = plugins.get("recipes", "density").with_options(size=(options.size, options.size))
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "phantoms"
        Phantom(root, exams=(options.images + 3) // 4, balanced=True).run()
        paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.dcm"))
        paths = paths[: options.images]
        codes = np.arange(len(paths)) % 4
        grays = {
            mode: prepare_images(
                root, paths, recipe, mode, Path(folder) / "cache", workers=cores(),
                max_pixels=10**9, progress=lambda images, rejected: None,
            )[0]
            for mode in ("none", "memory", "disk")
        }  # fmt: skip
        batches = len(paths) // options.batch_size
        for _ in range(options.repeats):
            task = task_of(options.arch, settings, options.size, not options.full)
            rate = network_rate(task, Images(grays["memory"], codes), batches)
            rates.setdefault("network", []).append(rate)
            for mode in MODES:
                augmented = mode == "augmented"
                images = Images(grays["disk" if augmented else mode], codes)
                task = task_of(
                    options.arch, replace(settings, augment=augmented), options.size,
                    not options.full,
                )  # fmt: skip
                loading = Loading(workers=cores() if mode == "none" else 0)
                rates.setdefault(mode, []).append(epoch_rate(task, images, loading))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print("| epoch | images/s | time against the network alone |\n|---|---|---|")
    for name, rate in medians.items():
        print(f"| {name} | {rate:.2f} | {medians['network'] / rate:.3f} |")
    result = {
        "command": " ".join(sys.argv),
        "device": device,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "images_per_second": medians,
        "all": rates,
        "versions": versions(),
        "git_commit": git_commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
