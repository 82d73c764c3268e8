"""The join of archive and label table: one row per image, and a reason for all that is left out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

import polars as pl

from mammography.archive.dialects import DENSITY, Key, Label, Reading, read_dialect
from mammography.archive.files import FoundFile
from mammography.archive.headers import Archive, read_archive
from mammography.archive.label_table import LabelTable, read_label_table
from mammography.archive.matching import ArchiveFile, By
from mammography.archive.rows import Class5, Rows, TableRow, judge, refuse_class_5
from mammography.dicom.header import ImageFacts
from mammography.errors import ImageRejected, NothingLeftError, UsageError
from mammography.runs import pseudonym
from mammography.tables import FACT_COLUMNS, MANIFEST_COLUMNS, rejects_frame
from mammography.vocabulary import CLASS_5, RejectCode

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """Every image that can be worked on, with its label and what its header says.

    Attributes:
        frame: One row per image, sorted by path: `mammography.tables.MANIFEST_COLUMNS`, the label
            column where there is a table, `mammography.tables.FACT_COLUMNS`.
        rejects: What did not become a row, with reasons: `mammography.tables.REJECT_COLUMNS`.
            `path` is null where a row of the table is meant and not a file.
        table: The user's table; None where there is none. `table.rows_of(frame["table_row"])` are
            its rows beside those of the frame.
        label: Name, classes and display names of the label column.
        key: The user's column that identified, and what it named.
        warnings: What the user should know beside the rejects.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    table: LabelTable | None = None
    label: Label | None = None
    key: Key | None = None
    warnings: tuple[str, ...] = ()

    def without(self, verdicts: Mapping[str, ImageRejected]) -> Manifest:
        """The manifest without images that turned out to be unusable, which join the rejects.

        Args:
            verdicts: Why, by the image's path.
        """
        gone = self.frame.filter(pl.col("path").is_in(list(verdicts)))
        rejects = [
            {**row, "code": verdicts[row["path"]].code, "reason": verdicts[row["path"]].reason}
            for row in gone.select("path", "table_row", "exam").to_dicts()
        ]
        return replace(
            self,
            frame=self.frame.filter(~pl.col("path").is_in(list(verdicts))),
            rejects=rejects_frame(self.rejects.to_dicts() + rejects),
        )


class EmptyManifestError(NothingLeftError):
    """Nothing of the archive became a row; the rejects in `manifest` say why."""

    def __init__(self, message: str, manifest: Manifest) -> None:
        super().__init__(message)
        self.manifest = manifest


def build_manifest(
    dicom_root: Path,
    csv: Path | None,
    *,
    label_column: str | None = None,
    id_column: str | None = None,
    dialect: str | None = None,
    class5: Class5 = "refuse",
    workers: int = 0,
    exclude: Sequence[Path] = (),
) -> Manifest:
    """Join an archive with its label table.

    Headers only: an image whose pixels cannot be decoded is still in the manifest.

    Args:
        dicom_root: The archive's folder.
        csv: The label table; without one every image becomes a row, and there is no label.
        label_column: The table's column of labels, where its name does not say so.
        id_column: The table's column that names exams or images, likewise.
        dialect: The way the table is written, where it does not show.
        class5: What to do with rows of class 5 in a density table: refuse to go on, leave them
            out, or keep them as a class of their own.
        workers: How many processes read headers; 0 for one per core.
        exclude: Files and folders below the root to pass over, such as an output folder.

    Raises:
        UsageError: There is no such folder, or the table has rows of class 5 and `class5` is
            "refuse".
        LabelTableError: The table cannot be read.
        EmptyManifestError: No image is left.
    """
    if not dicom_root.is_dir():
        raise UsageError(f"There is no folder {dicom_root}; --dicom-root is the archive's folder.")
    if csv is None:
        archive = read_archive(dicom_root, workers=workers, exclude=exclude)
        manifest = _unlabelled(archive)
    else:
        table = read_label_table(csv)
        reading = read_dialect(
            table, dialect=dialect, label_column=label_column, id_column=id_column
        )
        if class5 == "refuse":
            refuse_class_5(table, reading)
        archive = read_archive(dicom_root, workers=workers, exclude=[*exclude, csv])
        manifest = _labelled(dicom_root, archive, table, reading, class5)
    for warning in manifest.warnings:
        logger.warning("%s", warning)
    logger.info(
        "%d images in the manifest, %d rejects", manifest.frame.height, manifest.rejects.height
    )
    if manifest.frame.is_empty():
        raise EmptyManifestError(_why_empty(dicom_root, manifest), manifest)
    return manifest


def _unlabelled(archive: Archive) -> Manifest:
    images = [_image(file, facts, None) for file, facts in archive.images.values()]
    rejects = [_reject(path, None, verdict, None) for path, verdict in archive.rejected.items()]
    return Manifest(_frame(images, None), rejects_frame(rejects))


def _labelled(
    root: Path, archive: Archive, table: LabelTable, reading: Reading, class5: Class5
) -> Manifest:
    rows = judge(table, reading, _files(archive), archive.image_paths, root, class5)
    images, rejects = [], []
    for path, (file, facts) in archive.images.items():
        row = rows.owner.get(path)
        if row is not None and row.code is None:
            images.append(_image(file, facts, row))
        else:
            rejects.append(_reject(path, facts.accession_number, _left_out(row), row))
    for path, verdict in archive.rejected.items():
        rejects.append(_reject(path, None, verdict, rows.owner.get(path)))
    for row in rows.rows:
        if row.code is not None:
            rejects.append(_row_reject(row.number, row.exam, row.code, row.reason))
    for number in sorted(table.faults.keys() - set(table.numbers)):
        fault = table.faults[number]
        rejects.append(_row_reject(number, None, RejectCode.UNREADABLE_ROW, fault))
    label = reading.label
    if CLASS_5 in reading.values and label == DENSITY and class5 == "keep":
        label = replace(label, classes=(*DENSITY.classes, CLASS_5), names=(*DENSITY.names, "5"))
    warnings = (*rows.warnings, *_disagreements(archive, rows))
    return Manifest(_frame(images, label), rejects_frame(rejects), table, label, rows.key, warnings)


def _files(archive: Archive) -> list[ArchiveFile]:
    """All files by path, for matching."""
    files = [
        ArchiveFile(path, facts.accession_number, facts.sop_instance_uid)
        for path, (_, facts) in archive.images.items()
    ]
    files += [ArchiveFile(path) for path in archive.rejected]
    return sorted(files, key=lambda file: file.path)


def _image(file: FoundFile, facts: ImageFacts, row: TableRow | None) -> dict[str, object]:
    """One row of the manifest; what the header leaves open, the table may say."""
    patient = facts.patient_id and _pseudonym(facts.patient_id)
    return {
        "image_id": file.image_id,
        "path": file.path,
        "exam": (row and row.exam) or _exam(file.path, facts.accession_number),
        "patient": (row and row.patient) or patient,
        "laterality": facts.laterality or (row and row.laterality),
        "view": facts.view or (row and row.view),
        "table_row": row and row.number,
        "label": row and row.label,
        **{name: value for name, value in asdict(facts).items() if name in FACT_COLUMNS},
    }


#: Reads the salt once per patient and not once per image.
_pseudonym = lru_cache(maxsize=None)(pseudonym)


def _exam(path: str, accession_number: str | None) -> str | None:
    """The AccessionNumber, else the folder; None for a file that lies in the root itself."""
    folder = PurePosixPath(path).parent.as_posix()
    return accession_number or (folder if folder != "." else None)


def _frame(images: list[dict[str, object]], label: Label | None) -> pl.DataFrame:
    """The rows with their types; they are in the order of their paths already."""
    labels = {"label": label.dtype} if label else {}
    schema = {**MANIFEST_COLUMNS, **labels, **FACT_COLUMNS}
    frame = pl.DataFrame({name: [row[name] for row in images] for name in schema}, schema=schema)
    if not (frame["image_id"].is_unique().all() and frame["path"].is_unique().all()):
        raise AssertionError("an image has more than one row in the manifest")
    return frame.rename({"label": label.name}) if label else frame


def _left_out(row: TableRow | None) -> ImageRejected:
    """The verdict on an image that no standing row speaks for."""
    if row is None or row.code is None:
        return ImageRejected(RejectCode.NOT_IN_TABLE, "no row of the label table names this image")
    return ImageRejected(row.code, f"row {row.number} of the label table fell: {row.reason}")


def _reject(
    path: str, accession_number: str | None, verdict: ImageRejected, row: TableRow | None
) -> dict[str, object]:
    return {
        "path": path,
        "table_row": row and row.number,
        "exam": (row and row.exam) or _exam(path, accession_number),
        "code": str(RejectCode(verdict.code).value),
        "reason": verdict.reason,
    }


def _row_reject(number: int, exam: str | None, code: RejectCode, reason: str) -> dict[str, object]:
    return {"path": None, "table_row": number, "exam": exam, "code": code.value, "reason": reason}


def _disagreements(archive: Archive, rows: Rows) -> list[str]:
    """Where header and table say different things, counted; which of them is believed."""
    counts: Counter[str] = Counter()
    for path, row in rows.owner.items():
        if row.code is not None or path not in archive.images:
            continue
        facts = archive.images[path][1]
        if rows.key.by is By.EXAM and _differ(facts.accession_number, row.exam):
            counts["AccessionNumber differs from the folder's name, which is believed"] += 1
        if _differ(facts.laterality, row.laterality):
            counts["laterality in the table differs from the header's, which is believed"] += 1
        if _differ(facts.view, row.view):
            counts["view in the table differs from the header's, which is believed"] += 1
    return [f"images whose {what}: {count}" for what, count in counts.items()]


def _differ(one: str | None, other: str | None) -> bool:
    return bool(one and other and one != other)


def _why_empty(root: Path, manifest: Manifest) -> str:
    """The reasons by count, each with its first example."""
    if manifest.rejects["path"].drop_nulls().is_empty():
        return f"There is no file below {root}; --dicom-root is the archive's folder."
    reasons = manifest.rejects.group_by("code", maintain_order=True).agg(
        pl.len(), pl.col("reason").first()
    )
    listed = "; ".join(
        f"{row['len']} {row['code']} (such as: {row['reason']})"
        for row in reasons.sort("len", descending=True, maintain_order=True).head(4).to_dicts()
    )
    way_on = " --id-column and --label-column name other columns." if manifest.table else ""
    return f"No image below {root} is left to work on: {listed}.{way_on}"
