"""Damaged files of every kind: each must give an image or one sentence why not, nothing else."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from mammography.archive.files import read_facts
from mammography.archive.images import read_image
from mammography.archive.workers import over_items
from mammography.dicom.phantom.codecs import SYNTAXES
from mammography.dicom.phantom.files import image_dataset, write_dicom
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

PATIENT = "Doe^Jane"
SIDE = 24


def gradient(bits: int, *shape: int) -> np.ndarray:
    """Smooth enough for lossy codecs, with some noise."""
    rng = np.random.default_rng(bits)
    shape = shape or (SIDE, SIDE - 3)
    ramp = np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)
    values = ((ramp + rng.normal(0, 0.02, shape)) * 2**bits).clip(0, 2**bits - 1)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def good_files(folder: Path) -> dict[str, bytes]:
    """One small file of every syntax, layout and picture format."""
    made: dict[str, bytes] = {}

    def dicom(name: str, pixels: np.ndarray, **options: object) -> None:
        path = folder / f"{name}.dcm"
        write_dicom(path, pixels, PatientName=PATIENT, **options)
        made[name] = path.read_bytes()

    for syntax in SYNTAXES:
        if syntax != "jpeg-extended":
            dicom(f"{syntax}-8", gradient(8), syntax=syntax)
        if syntax != "jpeg-baseline":
            dicom(f"{syntax}-12", gradient(12), syntax=syntax, BitsStored=12, HighBit=11)
        if syntax not in ("jpeg-baseline", "jpeg-extended"):
            dicom(f"{syntax}-3", gradient(12, 3, 12, 10), syntax=syntax, BitsStored=12)
    for syntax in ("explicit", "rle", "jpeg-baseline", "jpeg2000", "jpeg-ls"):
        dicom(f"{syntax}-rgb", gradient(8, 12, 10, 3), syntax=syntax, photometric="RGB")
    voi = Dataset()
    voi.LUTDescriptor, voi.LUTData = [256, 0, 8], bytes(range(256))
    group, per_frame = Dataset(), Dataset()
    group.FrameVOILUTSequence = [voi]
    per_frame.PixelValueTransformationSequence = [Dataset()]
    per_frame.PixelValueTransformationSequence[0].RescaleSlope = 2
    dicom(
        "groups",
        gradient(8, 2, 12, 10),
        SharedFunctionalGroupsSequence=[group],
        PerFrameFunctionalGroupsSequence=[per_frame, per_frame],
        VOILUTSequence=[voi],
    )
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 8]), ("Data", bytes(range(256))))
    }
    dicom("palette", gradient(8), PhotometricInterpretation="PALETTE COLOR", **palette)
    dicom("float", gradient(8).astype(np.float32))
    bare = image_dataset(folder / "bare.dcm", gradient(12), syntax="implicit")
    del bare.file_meta
    bare.save_as(folder / "bare.dcm", implicit_vr=True, little_endian=True)
    made["bare"] = (folder / "bare.dcm").read_bytes()

    def picture(name: str, image: Image.Image, kind: str, **options: object) -> None:
        stream = BytesIO()
        image.save(stream, kind, **options)
        made[name] = stream.getvalue()

    eight, sixteen = Image.fromarray(gradient(8)), Image.fromarray(gradient(16))
    colour = Image.fromarray(gradient(8, 12, 10, 3))
    for name, image in (("8", eight), ("16", sixteen), ("rgb", colour), ("1", eight.convert("1"))):
        picture(f"png-{name}", image, "PNG")
        picture(f"tiff-{name}", image, "TIFF")
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
            picture(f"tiff-{name}-{compression}", image, "TIFF", compression=compression)
    picture("png-p", colour.quantize(16), "PNG")
    picture("tiff-float", Image.fromarray(gradient(8).astype(np.float32)), "TIFF")
    picture("tiff-jpeg", eight, "TIFF", compression="jpeg")
    picture("jpeg-gray", eight, "JPEG")
    picture("jpeg-rgb", colour, "JPEG")
    picture("jpeg-progressive", eight, "JPEG", progressive=True)
    made["pgm-5"] = b"P5\n# a comment\n10 12\n255\n" + gradient(8, 12, 10).tobytes()
    made["pgm-16"] = b"P5 10 12 4095\n" + gradient(12, 12, 10).astype(">u2").tobytes()
    made["pgm-2"] = b"P2\n10 12\n255\n" + " ".join(map(str, gradient(8, 120))).encode()
    return made


KEYWORDS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"),
    *("PlanarConfiguration", "RescaleSlope", "PixelPaddingValue", "WindowCenter", "WindowWidth"),
    *("VOILUTFunction", "SOPClassUID", "VOILUTSequence", "PixelSpacing"),
    *("SpecificCharacterSet", "PatientName", "PixelData"),
)

Mutation = Callable[[np.random.Generator, bytes], bytes]

WILD_NUMBERS = (0, 1, 2, 7, 8, 9, 12, 15, 16, 17, 31, 32, 64, 255, 256, 32768, 60000, 65535)
WILD_TEXTS = ("", "-1", "1e9", "99999999999", "NaN", "inf", "abc", "0", "1\\2\\3", "\x00", "2.5")


def flip(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for position in rng.integers(0, len(data), rng.integers(1, 12)):
        changed[position] = rng.integers(0, 256)
    return bytes(changed)


def flip_late(rng: np.random.Generator, data: bytes) -> bytes:
    """In the second half, where the pixels are."""
    half = len(data) // 2
    return data[:half] + flip(rng, data[half:])


def cut_end(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: rng.integers(0, len(data))]


def cut_piece(rng: np.random.Generator, data: bytes) -> bytes:
    start = int(rng.integers(0, len(data)))
    return data[:start] + data[start + int(rng.integers(1, 200)) :]


def insert(rng: np.random.Generator, data: bytes) -> bytes:
    start = int(rng.integers(0, len(data)))
    return data[:start] + rng.bytes(int(rng.integers(1, 64))) + data[start:]


def zero_piece(rng: np.random.Generator, data: bytes) -> bytes:
    start = int(rng.integers(0, len(data)))
    length = int(rng.integers(1, 200))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def double(rng: np.random.Generator, data: bytes) -> bytes:
    start, end = sorted(rng.integers(0, len(data), 2))
    return data[:end] + data[start:end] + data[end:]


def wild_word(rng: np.random.Generator, data: bytes) -> bytes:
    """A length, offset or size replaced by an extreme one."""
    position = int(rng.integers(0, max(1, len(data) - 4)))
    value = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 60000, 1 << 24, 1 << 31]))
    form = rng.choice(["<I", ">I", "<H", ">H"])
    word = struct.pack(form, value & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
    return data[:position] + word + data[position + len(word) :]


def wild_fragment(rng: np.random.Generator, data: bytes) -> bytes:
    """The length of an item of a sequence or of the pixel data."""
    items = [match.start() for match in re.finditer(b"\xfe\xff\x00\xe0", data)]
    if not items:
        return wild_word(rng, data)
    position = int(rng.choice(items)) + 4
    length = int.from_bytes(data[position : position + 4], "little")
    wild = [length ^ 2, max(0, length - 2), 0, 1, 0xFFFFFFFF, 0xFFFFFFF0, 1 << 30]
    return data[:position] + struct.pack("<I", int(rng.choice(wild))) + data[position + 4 :]


def wild_marker(rng: np.random.Generator, data: bytes) -> bytes:
    """A byte shortly after a JPEG or JPEG 2000 marker."""
    markers = [m.start() for m in re.finditer(rb"\xff[\x4f-\x5f\x90-\x93\xc0-\xfe]", data)]
    if not markers:
        return flip(rng, data)
    position = min(int(rng.choice(markers)) + int(rng.integers(1, 24)), len(data) - 1)
    return data[:position] + bytes([int(rng.integers(0, 256))]) + data[position + 1 :]


def wild_chunk(rng: np.random.Generator, data: bytes) -> bytes:
    """A PNG header field, with its checksum made right again."""
    if not data.startswith(b"\x89PNG"):
        return wild_word(rng, data)
    header = bytearray(data[16:29])
    field = int(rng.integers(0, 7))
    if field < 2:
        header[4 * field : 4 * field + 4] = struct.pack(">I", int(rng.choice(WILD_NUMBERS)))
    else:
        header[6 + field] = int(rng.integers(0, 18))
    checksum = zlib.crc32(b"IHDR" + bytes(header))
    return data[:16] + bytes(header) + struct.pack(">I", checksum) + data[33:]


def wild_tag(rng: np.random.Generator, data: bytes) -> bytes:
    """A tag removed, or given a wild value, sometimes in the wrong VR."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(BytesIO(data), force=True)
            for keyword in rng.choice(KEYWORDS, rng.integers(1, 3)):
                _spoil_tag(rng, dataset, str(keyword))
            stream = BytesIO()
            dataset.save_as(stream)
            return stream.getvalue()
    except Exception:  # noqa: BLE001  (pydicom will not write it: another damage then)
        return flip(rng, data)


def _spoil_tag(rng: np.random.Generator, dataset: Dataset, keyword: str) -> None:
    tag = pydicom.tag.Tag(keyword)
    dataset.pop(tag, None)
    choice = rng.integers(0, 4)
    if choice == 0 or keyword == "PixelData":
        return
    if choice == 1:
        dataset.add_new(tag, "US", int(rng.choice(WILD_NUMBERS)))
    elif choice == 2:
        dataset.add_new(tag, "LO", str(rng.choice(WILD_TEXTS)))
    else:
        item = Dataset()
        item.PatientName = PATIENT
        dataset.add_new(tag, "SQ", [item])


MUTATIONS: tuple[Mutation, ...] = (
    *(flip, flip_late, cut_end, cut_piece, insert, zero_piece, double, wild_word),
    *(wild_fragment, wild_marker, wild_chunk, wild_tag, wild_tag),
)


def damaged(good: dict[str, bytes], case: int) -> tuple[str, bytes]:
    """The case's damaged file, and how it was made; the same number gives the same file."""
    rng = np.random.default_rng(case)
    name = sorted(good)[case % len(good)]
    mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    return f"{name} {mutation.__name__}", mutation(rng, good[name])


def outcome(path: Path) -> str:
    """Read the facts, and the image in a way that the file's name decides."""
    reduce, frame = len(path.name) % 3, ("middle", "max", 1)[len(path.name) % 2]
    try:
        read_facts(path)
        image = read_image(path, reduce=reduce, frame=frame, max_pixels=1_000_000)
    except ImageRejected as verdict:
        check_verdict(verdict, path)
        return verdict.code
    assert image.pixels.ndim == 2
    assert image.pixels.dtype in (np.uint8, np.int8, np.uint16, np.int16, np.float32)
    assert image.pixels.dtype.isnative
    return "image"


def check_verdict(verdict: ImageRejected, path: Path) -> None:
    reason = verdict.reason
    assert isinstance(verdict.code, RejectCode)
    assert reason.strip() == reason
    assert 5 < len(reason) < 300
    assert reason.isprintable(), reason
    assert str(path.parent) not in reason
    assert " at 0x" not in reason, reason
    assert PATIENT not in reason
    assert "Jane" not in reason


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return good_files(tmp_path_factory.mktemp("good"))


def test_the_good_files_are_good(good: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in good.items():
        (tmp_path / name).write_bytes(data)
        assert outcome(tmp_path / name) == "image", name


def write_cases(good: dict[str, bytes], folder: Path, cases: range) -> list[Path]:
    files = []
    for case in cases:
        how, data = damaged(good, case)
        files.append(folder / f"{case} {how}")
        files[-1].write_bytes(data)
    return files


@pytest.mark.parametrize("start", range(0, 2000, 200))
def test_damage_gives_an_image_or_a_reason(
    good: dict[str, bytes], tmp_path: Path, start: int, capfd: pytest.CaptureFixture
) -> None:
    """And no warning or traceback on the terminal."""
    found = {outcome(file) for file in write_cases(good, tmp_path, range(start, start + 200))}
    assert {"image", RejectCode.DECODE_FAILED, RejectCode.DAMAGED_HEADER} <= found
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert "pydicom" not in printed


def test_damage_gives_the_same_in_worker_processes(good: dict[str, bytes], tmp_path: Path) -> None:
    files = write_cases(good, tmp_path, range(5000, 5300))
    found = list(over_items(outcome, files, workers=2))
    assert [file for file, _ in found] == files
    assert [result for _, result in found] == [outcome(file) for file in files]


@pytest.mark.parametrize("name", ["explicit-12", "deflated-8", "groups", "rle-3", "jpeg-ls-12",
                                  "jpeg-lossless-3", "jpeg2000-8"])  # fmt: skip
def test_no_beginning_of_a_dicom_file_passes_for_the_whole(
    good: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    """Only the eight bytes that end the fragments, and the end of a deflate stream, may miss."""
    path, data = tmp_path / "a.dcm", good[name]
    path.write_bytes(data)
    whole = read_image(path).pixels
    for length in range(0, len(data), 3):
        path.write_bytes(data[:length])
        try:
            found = read_image(path).pixels
        except ImageRejected:
            continue
        assert length >= len(data) - 8
        np.testing.assert_array_equal(found, whole)


def rewritten(data: bytes, at: bytes, offset: int, value: bytes) -> bytes:
    position = data.index(at) + offset
    return data[:position] + value + data[position + len(value) :]


BOMB = """
import resource, sys
from pathlib import Path
from mammography.archive.files import read_facts
from mammography.archive.images import read_image
from mammography.archive.workers import over_items
from mammography.errors import ImageRejected

gigabyte = 1 << 30
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + gigabyte // 2,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
for path in map(Path, sys.argv[1:]):
    try:
        read_facts(path)
        read_image(path)
        print(path.name, "image")
    except ImageRejected as verdict:
        print(path.name, verdict.code.value)
"""


def test_bombs_take_neither_memory_nor_time(good: dict[str, bytes], tmp_path: Path) -> None:
    """Files that claim 100 megapixels or gigabytes, read with half a gigabyte to spare."""
    side = struct.pack(">H", 9999) * 2
    rows, columns = b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"
    large = struct.pack("<H", 9999)

    def claiming(name: str) -> bytes:
        return rewritten(rewritten(good[name], rows, 8, large), columns, 8, large)

    bombs = {
        "header": claiming("explicit-12"),
        "rle": claiming("rle-12"),
        "jpeg-ls": rewritten(claiming("jpeg-ls-12"), b"\xff\xf7", 5, side),
        "jpeg2000": rewritten(claiming("jpeg2000-12"), b"\xff\x4f\xff\x51", 8,
                              struct.pack(">II", 9999, 9999)),
        "frames": rewritten(good["jpeg-lossless-3"], b"\x28\x00\x08\x00IS", 6,
                            b"\x0a\x00999999999 "),
        "element": rewritten(good["explicit-12"], b"\x10\x00\x10\x00PN", 4,
                             b"OB\0\0\xf0\xff\xff\xbf"),
        "png": rewritten(good["png-16"], b"IHDR", 4, struct.pack(">II", 9999, 9999)),
        "pgm": good["pgm-16"].replace(b"10 12", b"9999 9999"),
    }  # fmt: skip
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
    files = [str(tmp_path / name) for name in bombs]
    command = [sys.executable, "-c", BOMB, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found.keys() == bombs.keys()
    assert "image" not in found.values()
    assert "too-large" not in found.values()  # none was refused for want of memory
