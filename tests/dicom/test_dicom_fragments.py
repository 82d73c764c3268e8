"""Frames of several fragments, with and without offset tables, against pydicom's `get_frame`."""

from __future__ import annotations

import struct
from io import BytesIO

import numpy as np
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame

from mammography.dicom.fragments import CompressedFrames
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"


def jpeg_like(seed: int) -> bytes:
    """Random bytes of odd and even number that end as JPEG does, and only there."""
    rng = np.random.default_rng(seed)
    body = rng.integers(0, 255, 60 + 7 * seed, np.uint8).tobytes()
    return b"\xff\xd8" + body + b"\xff\xd9"


def frames_of(data: bytes, frames: int, prefix: bytes = b"") -> list[bytes]:
    found = CompressedFrames(BytesIO(prefix + data), len(prefix), frames)
    return [found.read(number) for number in range(1, frames + 1)]


def items(*contents: bytes) -> bytes:
    return b"".join(ITEM + struct.pack("<I", len(content)) + content for content in contents)


@pytest.mark.parametrize("end", [END, b""])
@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("fragments", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_frames_are_those_of_pydicom(
    count: int, fragments: int, table: bool, end: bytes
) -> None:
    frames = [jpeg_like(number) for number in range(count)]
    data = encapsulate(frames, fragments_per_frame=fragments, has_bot=table).removesuffix(END)
    found = frames_of(data + end, count, prefix=b"what comes before")
    expected = [get_frame(data + END, index, number_of_frames=count) for index in range(count)]
    assert found == expected
    assert [one.rstrip(b"\0") for one in found] == [one.rstrip(b"\0") for one in frames]


def test_extended_offset_tables_are_not_needed() -> None:
    frames = [jpeg_like(number) for number in range(4)]
    data, _, _ = encapsulate_extended(frames)
    assert [one.rstrip(b"\0") for one in frames_of(data, 4)] == frames


def test_a_different_number_of_fragments_in_every_frame() -> None:
    one, two, three = (jpeg_like(2 * number) for number in range(3))
    pieces = [one, two[:20], two[20:], three[:10], three[10:30], three[30:]]
    offsets = np.cumsum([0, *(len(piece) + 8 for piece in pieces)])[[0, 1, 3]]
    table = offsets.astype("<u4").tobytes()
    assert frames_of(items(table, *pieces) + END, 3) == [one, two, three]
    assert frames_of(items(b"", *pieces) + END, 3) == [one, two, three]


@pytest.mark.parametrize(
    "offsets", [[0, 1, 2], [0, 9999999, 3], [0, 0, 0], [5, 6, 7], [0, 300, 76], [0, 76], [0] * 9]
)
def test_wrong_offset_tables_are_not_followed(offsets: list[int]) -> None:
    one, two, three = (jpeg_like(2 * number) for number in range(3))
    pieces = [one, two[:20], two[20:], three]
    table = np.array(offsets, "<u4").tobytes()
    assert frames_of(items(table, *pieces) + END, 3) == [one, two, three]
    assert frames_of(items(table, one, two, three) + END, 3) == [one, two, three]


def test_the_end_marker_may_be_followed_by_padding() -> None:
    one, two = jpeg_like(1) + b"\0", jpeg_like(2) + b"\0\0\0"
    assert frames_of(items(b"", one[:9], one[9:], two) + END, 2) == [one, two]


def refused(data: bytes, frames: int) -> RejectCode:
    with pytest.raises(ImageRejected) as verdict:
        frames_of(data, frames)
    return verdict.value.code


@pytest.mark.parametrize(
    ("data", "frames", "code"),
    [
        (b"", 1, RejectCode.NO_PIXEL_DATA),
        (END, 1, RejectCode.NO_PIXEL_DATA),
        (items(b""), 1, RejectCode.NO_PIXEL_DATA),
        (items(b"") + END, 1, RejectCode.NO_PIXEL_DATA),
        (b"pixels that are not compressed", 1, RejectCode.DECODE_FAILED),
        (items(b"", b"abcd") + b"\x10\x00\x10\x00PN\0\0", 1, RejectCode.DECODE_FAILED),
        (items(b"", jpeg_like(0)) + END, 2, RejectCode.MISMATCH),
        (items(b"", b"ab", b"cd", b"ef") + END, 2, RejectCode.MISMATCH),
        (items(b"", jpeg_like(0), jpeg_like(0), b"ab") + END, 2, RejectCode.MISMATCH),
        (items(b"", b"abcd") + END, 10**9, RejectCode.MISMATCH),
        (items(b"") + ITEM + b"\xff\xff\xff\xff" + b"abcd", 1, RejectCode.TRUNCATED),
        (items(b"", b"abcd")[:-1], 1, RejectCode.TRUNCATED),
        (ITEM + b"\xf0\xff\xff\x7f", 1, RejectCode.TRUNCATED),
    ],
)
def test_fragments_that_make_no_frames(data: bytes, frames: int, code: RejectCode) -> None:
    assert refused(data, frames) == code


def test_a_bomb_of_empty_fragments_is_refused() -> None:
    assert refused(items(b"") * 1_000_010, 1) == RejectCode.DECODE_FAILED
