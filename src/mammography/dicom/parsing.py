"""What other libraries raise on damaged bytes, as a verdict on the file.

A reason never repeats what a parser of the header says: in a damaged header any word may turn up
anywhere, the patient's name too. What decoders of pixels say is quoted; they see no header.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.errors import BytesLengthException, InvalidDicomError

from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

#: What pydicom, imagecodecs and Pillow raise on damaged bytes; anything else is a defect of ours.
PARSER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@contextmanager
def parsing(code: RejectCode, what: str, *, quote: bool = False) -> Iterator[None]:
    """Turn whatever another library raises on damaged bytes into an `ImageRejected`.

    Warnings of these libraries are not shown.

    Args:
        code: The reject code to give.
        what: What is being read, as the first words of the reason: "the header".
        quote: Whether the library's own words become part of the reason.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"pydicom\b|PIL\b")
            yield
    except ImageRejected:
        raise
    except MemoryError as error:
        raise ImageRejected(RejectCode.TOO_LARGE, f"not enough memory for {what}") from error
    except PARSER_ERRORS as error:
        words = " ".join(str(error).split())[:160] if quote else ""
        detail = words or f"damaged ({type(error).__name__})"
        raise ImageRejected(code, f"{what} cannot be read: {detail}") from error
