"""The schemas of the tables that cross rooms.

Column names are DICOM keywords in snake case where DICOM has one. Every identifier is text.
"""

from __future__ import annotations

import polars as pl

#: What the header of an image file says about it; see `mammography.dicom.header.ImageFacts`.
FACT_COLUMNS: dict[str, type[pl.DataType]] = {
    "rows": pl.Int32,
    "columns": pl.Int32,
    "number_of_frames": pl.Int32,
    "bits_stored": pl.Int32,
    "photometric_interpretation": pl.String,
    "transfer_syntax": pl.String,
    "pixel_spacing": pl.Float64,
    "manufacturer": pl.String,
    "model": pl.String,
    "presentation_intent": pl.String,
}

#: One row per image. The label columns that the dialect gives stand between `view` and the facts.
MANIFEST_COLUMNS: dict[str, type[pl.DataType]] = {
    "image_id": pl.String,
    "path": pl.String,
    "exam": pl.String,
    "patient": pl.String,
    "laterality": pl.String,
    "view": pl.String,
    "table_row": pl.Int32,
}

#: One row per thing that did not become a row of the manifest. `path` is relative to the archive's
#: root; `table_row` counts the label table's rows from 1, its header not among them.
REJECT_COLUMNS: dict[str, type[pl.DataType]] = {
    "path": pl.String,
    "table_row": pl.Int32,
    "exam": pl.String,
    "code": pl.String,
    "reason": pl.String,
}


def rejects_frame(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Rejects as a frame in their canonical order: by path, then table row, then code."""
    frame = pl.DataFrame(rows, schema=REJECT_COLUMNS, orient="row")
    return frame.sort("path", "table_row", "code", nulls_last=True, maintain_order=True)
