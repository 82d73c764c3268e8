"""Every image that comes with pydicom, read by both."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_color_lut

from mammography.archive.files import read_facts
from mammography.archive.images import read_image
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

#: Files that pydicom's decoders here cannot read and ours can.
ONLY_OURS = {"JPEG-lossy.dcm", "JPGExtended.dcm"}


def files() -> list[Path]:
    return sorted(path for path in FOLDER.rglob("*") if path.is_file())


def gray_by_pydicom(path: Path, frame: int) -> tuple[np.ndarray, pydicom.Dataset]:
    """Its pixels; colour becomes luma, which of YBR is the first component before conversion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        pixels, used = decoder.as_array(dataset, index=frame - 1, raw=True)
        rgb = used["photometric_interpretation"] not in ("YBR_FULL", "YBR_FULL_422")
        if used["photometric_interpretation"] == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
    if pixels.ndim == 2:
        return pixels, dataset
    if not rgb:
        return pixels[..., 0], dataset
    red, green, blue = np.moveaxis(pixels.astype(int), -1, 0)
    return (299 * red + 587 * green + 114 * blue + 500) // 1000, dataset


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_equal_to_pydicom_or_refused(path: Path) -> None:
    try:
        image = read_image(path)
    except ImageRejected:
        image = None
    try:
        theirs, dataset = gray_by_pydicom(path, image.frame if image else 1)
    except Exception:  # noqa: BLE001  (whatever it is, pydicom cannot read this one)
        assert image is None or path.name in ONLY_OURS
        return
    if dataset.BitsStored > 16 or dataset.BitsAllocated == 1:  # doses and segmentations
        assert image is None
        return
    assert image is not None
    assert path.name not in ONLY_OURS
    np.testing.assert_array_equal(image.pixels, theirs)
    facts = read_facts(path)
    assert (facts.rows, facts.columns) == (dataset.Rows, dataset.Columns)
    assert facts.number_of_frames == int(dataset.get("NumberOfFrames") or 1)


def test_the_oracle_was_asked_often_enough() -> None:
    """So that a change in pydicom's folders does not leave the test above without work."""
    read = 0
    for path in files():
        try:
            read_image(path)
            read += 1
        except ImageRejected:
            continue
    assert read >= 70


def test_no_report_or_plan_passes_for_an_image() -> None:
    for name in ("reportsi.dcm", "rtplan.dcm", "rtstruct.dcm", "test-SR.dcm", "waveform_ecg.dcm"):
        with pytest.raises(ImageRejected) as verdict:
            read_facts(FOLDER / name)
        assert verdict.value.code == RejectCode.NOT_AN_IMAGE
