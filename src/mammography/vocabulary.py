"""The field's own words and their canonical order.

Laterality and view use the DICOM code strings of Image Laterality (0020,0062) and View Position
(0018,5101); breast density uses the four BI-RADS (5th edition) categories, stored as 1-4.
"""

from __future__ import annotations

import re
from enum import Enum, IntEnum

LATERALITIES = ("R", "L", "B")

#: View code values (DICOM CID 4014: SNOMED-RT and SNOMED CT) to View Position code strings.
VIEW_OF_CODE = {
    "R-10224": "ML",
    "399260004": "ML",
    "R-10226": "MLO",
    "399368009": "MLO",
    "R-10228": "LM",
    "399352003": "LM",
    "R-10230": "LMO",
    "399099002": "LMO",
    "R-10242": "CC",
    "399162004": "CC",
    "R-10244": "FB",
    "399196006": "FB",
    "R-102D0": "SIO",
    "399188001": "SIO",
    "R-40AAA": "ISO",
    "441555000": "ISO",
    "R-1024A": "XCC",
    "399192008": "XCC",
    "R-1024B": "XCCL",
    "399101009": "XCCL",
    "R-102CF": "XCCM",
    "399265009": "XCCM",
}


class Density(IntEnum):
    """BI-RADS breast density category, from almost entirely fatty to extremely dense."""

    A = 1
    B = 2
    C = 3
    D = 4


#: The value that density tables use for "not a density class"; see `--class5`.
CLASS_5 = 5

_DENSITY_PREFIX = re.compile(r"^(?:BREAST\s+)?(?:DENSITY|ACR|BI-?RADS|CATEGORY|TYPE)[\s:_-]*", re.I)


def parse_density(text: str) -> int | None:
    """Read one density label as 1-4, or 5 where the table says 5.

    Accepts ``1``-``5``, ``3.0``, ``A``-``D`` in either case, with a leading word such as
    ``DENSITY``, ``ACR`` or ``BI-RADS``. Nothing is ever shifted: a table that counts from 0 gets
    ``None`` for its zeros.

    Args:
        text: The label as the table writes it.

    Returns:
        The class, or None where the text is not a density label.
    """
    word = _DENSITY_PREFIX.sub("", text.strip()).strip().upper()
    if word in Density.__members__:
        return int(Density[word])
    number = re.fullmatch(r"([1-5])(?:\.0+)?", word)
    return int(number.group(1)) if number else None


class RejectCode(str, Enum):
    """Why something in the archive or the label table did not become a row of the manifest."""

    # An image file that cannot be used; these count against the readable share.
    DAMAGED_HEADER = "damaged-header"
    NO_PIXEL_DATA = "no-pixel-data"
    WRONG_LENGTH = "wrong-length"
    TRUNCATED = "truncated"
    MISMATCH = "header-and-pixels-disagree"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"
    DECODE_FAILED = "decode-failed"
    DECODER_CRASHED = "decoder-crashed"
    FLAT = "zero-variance"
    NOT_FINITE = "not-finite"
    MISSING_FILE = "missing-file"
    # A file that is no image.
    NOT_AN_IMAGE = "not-an-image"
    FOREIGN_FILE = "foreign-file"
    # A row of the label table, or an exam without one.
    UNREADABLE_ROW = "unreadable-row"
    BLANK_ID = "blank-id"
    BLANK_LABEL = "blank-label"
    UNREADABLE_LABEL = "unreadable-label"
    CLASS_5 = "class-5"
    DUPLICATE_ROW = "duplicate-row"
    CONTRADICTING_ROWS = "contradicting-rows"
    MISSING_EXAM = "missing-exam"
    AMBIGUOUS_NAME = "ambiguous-name"
    NOT_IN_TABLE = "not-in-table"


#: The codes that make a file an unreadable image in the 95 % rule.
UNREADABLE = frozenset(
    {
        RejectCode.DAMAGED_HEADER,
        RejectCode.NO_PIXEL_DATA,
        RejectCode.WRONG_LENGTH,
        RejectCode.TRUNCATED,
        RejectCode.MISMATCH,
        RejectCode.TOO_LARGE,
        RejectCode.UNSUPPORTED,
        RejectCode.DECODE_FAILED,
        RejectCode.DECODER_CRASHED,
        RejectCode.FLAT,
        RejectCode.NOT_FINITE,
        RejectCode.MISSING_FILE,
    }
)
