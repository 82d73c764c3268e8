"""From the bytes of an uncompressed frame to samples, and from samples to stored values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammography.dicom.description import PixelDescription
from mammography.errors import ImageRejected
from mammography.vocabulary import RejectCode

_SUBSAMPLED = ("YBR_FULL_422", "YBR_PARTIAL_422")


def bytes_per_frame(description: PixelDescription) -> int:
    """The size of an uncompressed frame.

    Raises:
        ImageRejected: Such colours cannot be read.
    """
    pixels = description.rows * description.columns
    if description.photometric in _SUBSAMPLED:
        if description.allocated != 8 or description.columns % 2:
            raise ImageRejected(
                RejectCode.UNSUPPORTED, "subsampled colour of odd width or more than 8 bits"
            )
        return 2 * pixels
    if description.photometric == "YBR_PARTIAL_420":
        raise ImageRejected(RejectCode.UNSUPPORTED, "uncompressed YBR_PARTIAL_420")
    return pixels * description.samples * description.allocated // 8


def samples_of_bytes(data: bytes, description: PixelDescription, order: str) -> NDArray[Any]:
    """Uncompressed bytes as samples.

    Args:
        data: One frame.
        description: What it holds.
        order: "<" or ">", the byte order.

    Returns:
        (rows, columns), or (rows, columns, 3) for colour; only the luma where the colours are
        subsampled (PS3.3 C.7.6.3.1.2). Unsigned, in the machine's byte order.
    """
    shape = (description.rows, description.columns)
    samples = np.frombuffer(data, f"{order}u{description.allocated // 8}")
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if description.photometric in _SUBSAMPLED:
        return samples.reshape(shape[0], shape[1] // 2, 4)[..., :2].reshape(shape)
    if description.samples == 1:
        return samples.reshape(shape)
    if description.planar:
        return np.moveaxis(samples.reshape(description.samples, *shape), 0, -1)
    return samples.reshape(*shape, description.samples)


def stored_values(samples: NDArray[Any], bits: int, shift: int, signed: bool) -> NDArray[Any]:
    """Samples without the bits that are not theirs, and with their sign.

    Args:
        samples: Of any integer type; the sign of the type does not matter.
        bits: Bits that carry a value, at most 16.
        shift: Unused bits below them.
        signed: Whether they are a two's complement.

    Returns:
        Values of an integer type of 8 or 16 bits.
    """
    size = samples.dtype.itemsize
    samples = samples.view(f"u{size}")
    if shift:
        samples = samples >> np.array(shift, samples.dtype)
    if size == 4:
        samples, size = samples.astype(np.uint16), 2
    spare = 8 * size - bits
    if signed:
        return (samples << np.array(spare, samples.dtype)).view(f"i{size}") >> np.array(
            spare, f"i{size}"
        )
    if spare and samples.max() >> bits:
        return samples & np.array((1 << bits) - 1, samples.dtype)
    return samples
