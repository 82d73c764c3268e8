"""What the columns of a label table are called, in the order in which a name is believed."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mammography.archive.label_table import LabelTable, plain
from mammography.errors import LabelTableError

logger = logging.getLogger(__name__)

#: Column names as `plain` writes them, best first.
EXAM_NAMES = (
    "accessionnumber", "accession", "accessionno", "exam", "examid", "examnumber", "exame",
    "idexame", "study", "studyid", "studyinstanceuid",
)  # fmt: skip
PATH_NAMES = (
    "path", "filepath", "imagepath", "imagefilepath", "dicompath", "relativepath", "caminho",
)  # fmt: skip
FILE_NAMES = (
    "file", "filename", "imagefile", "imagefilename", "dicomfile", "arquivo", "image", "imageid",
    "imagename",
)  # fmt: skip
UID_NAMES = ("sopinstanceuid", "sopuid", "instanceuid", "imageuid")
IMAGE_NAMES = (*PATH_NAMES, *FILE_NAMES, *UID_NAMES)
PATIENT_NAMES = (
    "patient",
    "patientid",
    "patientnumber",
    "paciente",
    "subject",
    "subjectid",
    "woman",
)
LATERALITY_NAMES = ("laterality", "imagelaterality", "side", "lateralidade", "leftorrightbreast")
VIEW_NAMES = ("view", "viewposition", "imageview", "projection", "incidencia")
#: A column about density by name cannot hold anything else.
DENSITY_NAMES = (
    "breastdensity", "density", "densidade", "densidademamaria", "densitycategory", "densityclass",
    "biradsdensity", "acrdensity", "breastcomposition",
)  # fmt: skip
#: After those, the name of the field's own documents; ACR is the European name of the density
#: categories; a label may be anything; BI-RADS comes last because it usually is the assessment
#: (0-6, how suspicious), of which 1-4 would pass for densities.
LABEL_NAMES = (*DENSITY_NAMES, "classification", "classificacao", "acr", "label", "class", "birads")


def columns_called(table: LabelTable, names: Sequence[str]) -> list[str]:
    """The table's columns that have one of these names, in the order of the names."""
    return [column for name in names for column in table.frame.columns if plain(column) == name]


def columns_for(
    table: LabelTable, chosen: str | None, names: Sequence[str], holds: str, option: str
) -> list[str]:
    """The column that the user chose, else those that have one of these names.

    Args:
        table: The table.
        chosen: The user's choice, spelled as in the table.
        names: Names as `plain` writes them, best first.
        holds: What the column holds, for the messages: "labels".
        option: The option that chooses it.

    Returns:
        At least one column, best first.

    Raises:
        LabelTableError: There is none.
    """
    if chosen:
        return [chosen]
    found = columns_called(table, names)
    if not found:
        raise LabelTableError(
            f"No column of {table.path} is known to hold {holds}: say which one does with "
            f"{option}; {table.listing()}."
        )
    others = ", ".join(map(repr, found[1:]))
    logger.info(
        "%s: %s in column %r, by its name (%s overrides%s)",
        table.path, holds, found[0], option, f"; there is also {others}" if others else "",
    )  # fmt: skip
    return found


def context_columns(table: LabelTable) -> dict[str, str | None]:
    """The columns that say whose an image is and what it shows, as keywords of a `Reading`."""
    context = {
        "patient_column": PATIENT_NAMES,
        "exam_column": EXAM_NAMES,
        "laterality_column": LATERALITY_NAMES,
        "view_column": VIEW_NAMES,
    }
    return {
        keyword: next(iter(columns_called(table, names)), None)
        for keyword, names in context.items()
    }
