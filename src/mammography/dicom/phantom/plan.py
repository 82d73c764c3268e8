"""Who is examined in a synthetic archive: drawn once, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammography.dicom.phantom.codecs import syntax_named
from mammography.dicom.phantom.image import LATERALITIES
from mammography.dicom.phantom.vendors import VENDORS, Vendor
from mammography.errors import UsageError

#: Share of each BI-RADS category among women screened, about.
SCREENED = {1: 0.1, 2: 0.4, 3: 0.4, 4: 0.1}

#: One exam in so many is the second exam of an earlier patient.
EXAMS_PER_REVISIT = 10

#: Share of exams with lesions, in one breast.
LESION_SHARE = 0.35

#: Bits of a sample that a transfer syntax prescribes.
_BITS_OF_SYNTAX = {"jpeg-baseline": 8, "jpeg-extended": 12}


@dataclass(frozen=True)
class PhantomExam:
    """One exam of the archive.

    Attributes:
        number: Position in the archive, from 0.
        accession: Accession Number: eight digits, often with leading zeros.
        patient: Patient ID.
        woman: Seed of the woman, shared by her exams.
        visit: 0 for her first exam, 1 for her second.
        density: BI-RADS category, 1-4.
        vendor: The unit.
        syntax: Name of the transfer syntax.
        lesion_side: "R", "L", or None where there is none.
    """

    number: int
    accession: str
    patient: str
    woman: int
    visit: int
    density: int
    vendor: Vendor
    syntax: str
    lesion_side: str | None

    @property
    def bits(self) -> int:
        """Bits Stored: the vendor's, unless the transfer syntax prescribes them."""
        return _BITS_OF_SYNTAX.get(self.syntax, self.vendor.bits)

    @property
    def photometric(self) -> str:
        """Photometric Interpretation."""
        return "MONOCHROME1" if self.vendor.monochrome1 else "MONOCHROME2"


def plan_exams(
    count: int, seed: int, syntaxes: tuple[str, ...], *, balanced: bool, lesions: bool
) -> list[PhantomExam]:
    """Draw the exams of an archive.

    Args:
        count: How many, at least 1.
        seed: Where the randomness comes from.
        syntaxes: Names of the transfer syntaxes, used about equally often.
        balanced: Equal numbers of each BI-RADS category instead of about 10, 40, 40 and 10 %.
        lesions: Whether about a third of the exams have lesions.
    """
    if count < 1 or not syntaxes:
        raise UsageError("A phantom archive needs at least one exam and one transfer syntax.")
    for name in syntaxes:
        syntax_named(name)
    rng = np.random.default_rng(seed)
    densities = rng.permutation(_densities(count, balanced)).tolist()
    first_visits = _first_visits(densities)
    units = rng.permutation(count)
    formats = rng.permutation(count)
    accessions = _accessions(count, rng)
    sides = rng.choice(LATERALITIES, count).tolist()
    affected = rng.permutation(count) < LESION_SHARE * count
    women = rng.integers(0, 2**62, count).tolist()
    return [
        PhantomExam(
            number=number,
            accession=accessions[number],
            patient=f"PHANTOM-{first_visits.get(number, number) + 1:04d}",
            woman=women[first_visits.get(number, number)],
            visit=int(number in first_visits),
            density=densities[number],
            vendor=VENDORS[units[number] % len(VENDORS)],
            syntax=syntaxes[formats[number] % len(syntaxes)],
            lesion_side=sides[number] if lesions and affected[number] else None,
        )
        for number in range(count)
    ]


def _densities(count: int, balanced: bool) -> list[int]:
    """So many categories in their proportions; each at least once from four exams on."""
    shares = dict.fromkeys(SCREENED, 0.25) if balanced else SCREENED
    least = int(count >= len(shares))
    counts = {density: max(least, round(share * count)) for density, share in shares.items()}
    while sum(counts.values()) > count:
        counts[max(counts, key=lambda density: counts[density])] -= 1
    while sum(counts.values()) < count:
        counts[min(counts, key=lambda density: counts[density] - shares[density] * count)] += 1
    return [density for density, many in counts.items() for _ in range(many)]


def _first_visits(densities: list[int]) -> dict[int, int]:
    """Second exams to the first exams of the same women, who keep their density."""
    first: dict[int, int] = {}
    for number, density in enumerate(densities):
        if len(first) == len(densities) // EXAMS_PER_REVISIT:
            break
        if number in first:
            continue
        later = range(number + 1, len(densities))
        again = next((n for n in later if densities[n] == density and n not in first), None)
        if again is not None:
            first[again] = number
    return first


def _accessions(count: int, rng: np.random.Generator) -> list[str]:
    """Distinct numbers of three to eight digits, written with eight."""
    found: dict[str, None] = {}
    while len(found) < count:
        digits = int(rng.integers(3, 9))
        found[f"{rng.integers(10 ** (digits - 1), 10**digits):08d}"] = None
    return list(found)
