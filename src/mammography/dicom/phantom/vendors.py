"""The habits of mammography units, as far as they show in an image and its header."""

from __future__ import annotations

from dataclasses import dataclass

#: The image height, in pixels, at which a vendor's pixel spacing holds; others are scaled.
NOMINAL_ROWS = 3328


@dataclass(frozen=True)
class Vendor:
    """One make of mammography unit.

    Attributes:
        manufacturer: Manufacturer (0008,0070).
        model: Manufacturer's Model Name (0008,1090).
        spacing: Detector pixel spacing in mm.
        bits: Bits Stored.
        monochrome1: Whether images are stored inverted.
        tissue_range: Darkest and brightest tissue as shares of the range of the bits.
        air_noise: Standard deviation of the noise in air, likewise; 0 where air is erased.
        voi_function: VOI LUT Function (0028,1056), or None where the header has none.
        windows: Names and widths of its windows, the width relative to the usual one.
        pads: Whether erased air is declared as Pixel Padding Value.
        scheme: Coding scheme of its view codes: "SCT" or the older "SRT".
        detector: Detector Type (0018,7004).
        target: Anode Target Material.
        filter_material: Filter Material.
    """

    manufacturer: str
    model: str
    spacing: float
    bits: int
    monochrome1: bool
    tissue_range: tuple[float, float]
    air_noise: float
    voi_function: str | None
    windows: tuple[tuple[str, float], ...]
    pads: bool
    scheme: str
    detector: str
    target: str
    filter_material: str


VENDORS = (
    Vendor(
        manufacturer="HOLOGIC, Inc.",
        model="Selenia Dimensions",
        spacing=0.07,
        bits=12,
        monochrome1=False,
        tissue_range=(0.06, 0.95),
        air_noise=0.0,
        voi_function=None,
        windows=(("NORMAL", 1.0),),
        pads=False,
        scheme="SRT",
        detector="DIRECT",
        target="TUNGSTEN",
        filter_material="RHODIUM",
    ),
    Vendor(
        manufacturer="GE MEDICAL SYSTEMS",
        model="Senographe Essential",
        spacing=0.0941,
        bits=12,
        monochrome1=False,
        tissue_range=(0.45, 0.80),
        air_noise=0.0,
        voi_function="SIGMOID",
        windows=(("NORMAL", 1.0), ("HARDER", 0.83), ("SOFTER", 1.17)),
        pads=True,
        scheme="SRT",
        detector="SCINTILLATOR",
        target="RHODIUM",
        filter_material="RHODIUM",
    ),
    Vendor(
        manufacturer="SIEMENS",
        model="Mammomat Inspiration",
        spacing=0.085,
        bits=13,
        monochrome1=False,
        tissue_range=(0.10, 0.75),
        air_noise=0.001,
        voi_function="LINEAR",
        windows=(("USER1", 1.0), ("USER2", 0.8)),
        pads=False,
        scheme="SCT",
        detector="DIRECT",
        target="TUNGSTEN",
        filter_material="RHODIUM",
    ),
    Vendor(
        manufacturer="FUJIFILM Corporation",
        model="AMULET Innovality",
        spacing=0.05,
        bits=14,
        monochrome1=True,
        tissue_range=(0.15, 0.90),
        air_noise=0.0005,
        voi_function=None,
        windows=(("NORMAL", 1.0),),
        pads=False,
        scheme="SCT",
        detector="DIRECT",
        target="TUNGSTEN",
        filter_material="ALUMINUM",
    ),
)
