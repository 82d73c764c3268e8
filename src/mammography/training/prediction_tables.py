"""Predictions as tables: a row per image, a row per exam."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.archive.dialects import Label


def image_table(
    label: Label,
    frame: pl.DataFrame,
    probabilities: NDArray[np.float64],
    calibrated: NDArray[np.float64],
) -> pl.DataFrame:
    """One row per image: what was predicted, and which image it is.

    Args:
        label: The classes.
        frame: A manifest's frame.
        probabilities: (images, classes).
        calibrated: Likewise.
    """
    classes = [str(name) for name in label.classes]
    columns = {"sample_id": frame["image_id"]}
    columns |= {"pred_label": pl.Series([classes[code] for code in probabilities.argmax(1)])}
    for prefix, values in (("prob", probabilities), ("cal_prob", calibrated)):
        columns |= {
            f"{prefix}_{name}": pl.Series(values[:, code]) for code, name in enumerate(classes)
        }
    columns |= {name: frame[name] for name in ("path", "exam", "patient", "laterality", "view")}
    return pl.DataFrame(columns)


def exam_table(label: Label, images: pl.DataFrame) -> pl.DataFrame:
    """One row per exam: the mean of its images' probabilities.

    Args:
        label: The classes.
        images: `image_table`'s; images without an exam are left out.
    """
    classes = [str(name) for name in label.classes]
    means = [name for name in images.columns if name.startswith(("prob_", "cal_prob_"))]
    exams = (
        images.drop_nulls("exam")
        .group_by("exam", maintain_order=True)
        .agg(
            pl.when(pl.col("patient").n_unique() == 1).then(pl.col("patient").first()),
            pl.len().alias("images"),
            pl.col(means).mean(),
        )
    )
    codes = exams.select(f"prob_{name}" for name in classes).to_numpy().argmax(1)
    predicted = pl.Series("pred_label", [classes[code] for code in codes], pl.String)
    return exams.insert_column(3, predicted)
