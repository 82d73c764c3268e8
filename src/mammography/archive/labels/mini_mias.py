"""Mini-MIAS: one row per film, with its background tissue as one of three classes.

The tissue types are those of the Mammographic Image Analysis Society's digital mammogram database
(Suckling et al., 1994): F fatty, G fatty-glandular, D dense-glandular. They are no BI-RADS
densities and are not turned into any. Each woman was examined once.
"""

from __future__ import annotations

from mammography.archive.columns import columns_called
from mammography.archive.dialects import Choice, Dialect, Key, Label, Reading
from mammography.archive.label_table import LabelTable
from mammography.archive.matching import By

_TISSUE = Label("tissue", ("F", "G", "D"), ("fatty", "fatty-glandular", "dense-glandular"))


def fit(table: LabelTable, choice: Choice) -> int:
    """Fits the table that names films and women and whose tissue is F, G or D throughout."""
    columns = columns_called(table, ["imageid", "woman", "tissue"])
    if choice != Choice() or len(columns) < 3:
        return 0
    return 2 if set(table.cells(columns[2])) <= {"", *_TISSUE.classes} else 0


def read(table: LabelTable, choice: Choice) -> Reading:
    """The woman is the patient, and her one examination the exam."""
    ids = choice.id_column or table.column("image_id", "dialect mini-mias")
    tissue = choice.label_column or table.column("tissue", "dialect mini-mias")
    woman = table.column("woman", "dialect mini-mias")
    return Reading(
        keys=(Key(ids, By.NAME), *(Key(path, By.PATH) for path in columns_called(table, ["file"]))),
        label_column=tissue,
        label=_TISSUE,
        values=[cell if cell in _TISSUE.classes else None for cell in table.cells(tissue)],
        patient_column=woman,
        exam_column=woman,
        laterality_column=table.column("laterality", "dialect mini-mias"),
        view_column=table.column("view", "dialect mini-mias"),
    )


PLUGIN = Dialect(fit, read)
