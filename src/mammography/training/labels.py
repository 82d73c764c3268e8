"""Which classes a classifier tells apart, and the code of every image among them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.archive.dialects import DENSITY, Label
from mammography.errors import UsageError

Classes = Literal["density", "binary", "label"]

#: Not dense against dense, as BI-RADS groups its four categories.
BINARY = Label("density_binary", ("AB", "CD"), ("A or B", "C or D"))


def label_and_codes(
    frame: pl.DataFrame, label: Label, classes: Classes | None
) -> tuple[Label, NDArray[np.int64]]:
    """The label to train on, and each image's position among its classes.

    Args:
        frame: A manifest's frame with the column of `label`.
        label: Of the manifest.
        classes: "density" for A to D, "binary" for A and B against C and D, "label" or None for
            whatever classes the table has.

    Raises:
        UsageError: The table's label is no density, or only one class occurs.
    """
    if classes in ("density", "binary") and label != DENSITY:
        raise UsageError(
            f"--classes {classes} needs a table of BI-RADS densities, and this one has "
            f"{label.name} ({', '.join(label.names)}); use --classes label."
        )
    place = {value: code for code, value in enumerate(label.classes)}
    codes = np.array([place[value] for value in frame[label.name]], np.int64)
    if classes == "binary":
        label, codes = BINARY, (codes >= 2).astype(np.int64)
    present = sorted(set(codes.tolist()))
    if len(present) < 2:
        raise UsageError(
            f"Every image is of class {label.names[present[0]]}: there is nothing to learn."
        )
    return label, codes
