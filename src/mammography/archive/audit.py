"""The audit of an archive: what is in it, how much of it can be read, what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from pydicom.config import IGNORE
from pydicom.uid import UID

from mammography.archive.manifest import Manifest
from mammography.vocabulary import UNREADABLE, RejectCode

#: What the documents' "at least 95 % of the DICOM files referenced in the CSV must be readable"
#: is taken to mean.
DEFINITION = (
    "readable images of the label table's standing rows, divided by the same and the image files "
    "that these rows name and that are unreadable or do not exist; an exam without any file is "
    "counted on its own, because nobody knows how many images it had"
)


def readable_share(manifest: Manifest) -> tuple[int, int]:
    """How many of the images that the table refers to can be read, and how many cannot.

    Files that cannot be read count where a standing row names them, by exam or by image; without a
    table all count. A row that names a single image which does not exist counts as one.

    Returns:
        Readable and unreadable images; the share of `DEFINITION` is the first over their sum.
    """
    rejects = manifest.rejects
    unreadable = pl.col("code").is_in([code.value for code in UNREADABLE])
    if manifest.table is None:
        return manifest.frame.height, rejects.filter(unreadable).height
    fallen = rejects.filter(
        pl.col("path").is_null() & (pl.col("code") != RejectCode.MISSING_FILE.value)
    )["table_row"]
    standing = pl.col("table_row").is_not_null() & ~pl.col("table_row").is_in(fallen.to_list())
    return manifest.frame.height, rejects.filter(unreadable & standing).height


def gate(share: float | None, min_readable: float) -> bool:
    """Whether enough of an archive can be read; without anything to read it is not."""
    return share is not None and share >= min_readable


def audit(manifest: Manifest, *, decoded: bool) -> dict[str, Any]:
    """Describe an archive in numbers.

    Args:
        manifest: The manifest; images whose pixels turned out to be unreadable are taken out of it
            first, with `Manifest.without`.
        decoded: Whether that was done; otherwise only headers have been read, and the audit says
            so.

    Returns:
        Values ready for JSON. Counts are of images unless their key says otherwise, the most
        frequent first; what the header leaves open is "unknown".
    """
    frame, rejects = manifest.frame, manifest.rejects
    readable, unreadable = readable_share(manifest)
    total = readable + unreadable
    return {
        "images": frame.height,
        "exams": frame["exam"].drop_nulls().n_unique(),
        "patients": frame["patient"].drop_nulls().n_unique(),
        "readable": {
            "share": readable / total if total else None,
            "readable": readable,
            "unreadable": unreadable,
            "checked": "pixels" if decoded else "headers only",
            "definition": DEFINITION,
        },
        "missing_exams": _of_code(rejects, RejectCode.MISSING_EXAM).height,
        "classes": _classes(manifest),
        "class_5_rows": _of_code(rejects, RejectCode.CLASS_5)
        .filter(pl.col("path").is_null())
        .select("table_row", "exam")
        .to_dicts(),
        "views": _counts(frame["view"]),
        "lateralities": _counts(frame["laterality"]),
        "manufacturers": _counts(frame["manufacturer"]),
        "transfer_syntaxes": {
            uid: {"name": UID(uid, validation_mode=IGNORE).name, "images": count}
            for uid, count in _counts(frame["transfer_syntax"]).items()
        },
        "photometric_interpretations": _counts(frame["photometric_interpretation"]),
        "frames_per_image": _counts(frame["number_of_frames"]),
        "images_per_exam": _how_many(frame, "image_id", per="exam"),
        "patients_per_exam": _how_many(frame, "patient", per="exam"),
        "exams_per_patient": _how_many(frame, "exam", per="patient"),
        "rejects": _rejects(rejects),
        "warnings": [*manifest.warnings, *_mixed_exams(frame)],
    }


def _of_code(rejects: pl.DataFrame, code: RejectCode) -> pl.DataFrame:
    return rejects.filter(pl.col("code") == code.value)


def _counts(values: pl.Series) -> dict[str, int]:
    """How often each value occurs, the most frequent first, ties in the order of the values."""
    counted = values.cast(pl.String).fill_null("unknown").alias("value").value_counts()
    ordered = counted.sort(["count", "value"], descending=[True, False])
    return dict(ordered.iter_rows())


def _classes(manifest: Manifest) -> dict[str, Any] | None:
    """Images and exams of every class, also of those that do not occur."""
    label = manifest.label
    if label is None:
        return None
    counts = {}
    for value, name in zip(label.classes, label.names, strict=True):
        of_class = manifest.frame.filter(pl.col(label.name) == value)
        exams = of_class["exam"].drop_nulls().n_unique()
        counts[name] = {"images": of_class.height, "exams": exams}
    return {"label": label.name, "counts": counts}


def _how_many(frame: pl.DataFrame, what: str, *, per: str) -> dict[str, int]:
    """In how many groups there are 1, 2, 3… different values; groups without any are left out."""
    groups = frame.drop_nulls([what, per]).group_by(per).agg(pl.col(what).n_unique())
    counted = groups[what].value_counts().sort(what)
    return {str(number): count for number, count in counted.iter_rows()}


def _rejects(rejects: pl.DataFrame) -> dict[str, Mapping[str, int]]:
    """By code: how many files, and how many rows of the table."""
    counted = rejects.group_by("code").agg(
        pl.col("path").is_not_null().sum().alias("files"),
        pl.col("path").is_null().sum().alias("rows"),
    )
    ordered = counted.sort([pl.col("files") + pl.col("rows"), "code"], descending=[True, False])
    return {code: {"files": files, "rows": rows} for code, files, rows in ordered.iter_rows()}


def _mixed_exams(frame: pl.DataFrame) -> list[str]:
    patients = (
        frame.drop_nulls(["exam", "patient"]).group_by("exam").agg(pl.col("patient").n_unique())
    )
    mixed = patients.filter(pl.col("patient") > 1).sort("exam")
    if mixed.is_empty():
        return []
    return [
        f"exams that hold images of more than one patient: {mixed.height}, such as "
        f"{mixed['exam'][0]!r} with {mixed['patient'][0]}"
    ]
