"""Does training collapse where one class is twenty times as frequent as another?

    python benchmarks/collapse.py --work FOLDER [--arch NAME] [--weights imagenet|FILE] \
        [--mean M M M --std S S S] [--img-size 96] [--seeds 42 43]

Phantoms of 208 x 160 with the densities of a screening archive, 5 exams of A, 36 of B, 100 of C and
33 of D, each of another woman, and `mammography train-density` as it is by default apart from the
encoder and the size of the images; then without class weights, and with the sampler in their place.

A run has collapsed where its best epoch takes all images for one class, misses a class altogether
though it is no rarity, or has a quadratic kappa or an adjusted balanced accuracy below 0.3. Class A
has one exam, four images, to validate with: its recall says little.

A table is printed and collapse.json written beside this file.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mammography import train_density
from mammography.archive.workers import over_items
from mammography.dicom.phantom.archive import write_exam
from mammography.dicom.phantom.plan import PhantomExam, plan_exams
from mammography.runs import git_commit, versions

HERE = Path(__file__).parent
EXAMS = {1: 5, 2: 36, 3: 100, 4: 33}
RARE = "1"

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "--class-weights none": {"class_weights": "none"},
    "--use-sampler": {"use_sampler": True},
}


def write_archive(folder: Path) -> None:
    """Write the phantoms and their table, unless they are there."""
    table = folder / "classificacao.csv"
    if table.exists():
        return
    densities = [density for density, count in EXAMS.items() for _ in range(count)]
    drawn = plan_exams(len(densities), 42, ("explicit",), balanced=False, lesions=True)
    exams: list[PhantomExam] = [
        replace(exam, density=density, woman=number, visit=0, patient=f"PHANTOM-{number:04d}")
        for number, (exam, density) in enumerate(zip(drawn, densities, strict=True))
    ]
    for _ in over_items(partial(write_exam, folder / "archive", rows=208, columns=160), exams, 2):
        pass
    rows = "".join(f"{exam.accession},{exam.density}\n" for exam in exams)
    table.write_text("AccessionNumber,Classification\n" + rows)


def measure(work: Path, name: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Train once; a row of the table."""
    result = train_density(
        work / "classificacao.csv",
        work / "archive",
        work / name.strip("-").replace(" ", "_"),
        cache_dir=work / "cache",
        seed=seed,
        **options,
    )
    [run] = result.runs
    metrics = run.metrics
    classes = metrics["per_class"]
    signs = [
        f"{key} {metrics[key]:.2f}" for key in ("kappa", "bal_acc_adj") if metrics[key] < 0.3
    ] + [
        f"no {density} is recognised"
        for density, of_class in classes.items()
        if density != RARE and not of_class["recall"]
    ]
    history = json.loads((run.folder / "train_history.json").read_text())
    return {
        "setting": name,
        "seed": seed,
        "best_epoch": metrics["epoch"],
        **{key: metrics[key] for key in ("accuracy", "bal_acc_adj", "kappa")},
        "last_kappa": history["val_kappa"][-1],
        "recalls": {density: of_class["recall"] for density, of_class in classes.items()},
        "confusion_matrix": metrics["confusion_matrix"],
        "signs": signs,
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arch", default="efficientnet_b0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--mean", type=float, nargs=3)
    parser.add_argument("--std", type=float, nargs=3)
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43])
    given = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    write_archive(given.work)
    weights = given.weights
    encoder = {
        "arch": given.arch,
        "weights": weights if weights in ("imagenet", "random") else Path(weights),
        "img_size": given.img_size,
        "mean": given.mean and tuple(given.mean),
        "std": given.std and tuple(given.std),
    }
    rows = [
        measure(given.work, name, seed, encoder | options)
        for name, options in SETTINGS.items()
        for seed in given.seeds
    ]
    print(f"{'':<22}seed  acc  adj  kappa (last)  recalls of A B C D     signs of collapse")
    for row in rows:
        recalls = " ".join(f"{value or 0:.2f}" for value in row["recalls"].values())
        print(
            f"{row['setting']:<22}{row['seed']}  {row['accuracy']:.2f} {row['bal_acc_adj']:.2f} "
            f"{row['kappa']:.2f} ({row['last_kappa'] or 0:.2f})   {recalls}   "
            f"{'; '.join(row['signs']) or 'none'}"
        )
    told = {"encoder": encoder | {"weights": Path(weights).name}, "exams": EXAMS}
    (HERE / "collapse.json").write_text(
        json.dumps(told | {"runs": rows, "commit": git_commit(), "versions": versions()}, indent=2)
        + "\n"
    )


if __name__ == "__main__":
    main()
