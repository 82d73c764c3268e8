"""Allotting groups of images to parts of given sizes, with every class in proportion.

A greedy allotment as in scikit-learn's `StratifiedGroupKFold`, for parts that need not be equal
and with an order that no version of a random number generator decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray


def drawn_order(names: Sequence[str], sizes: Sequence[int], seed: int) -> list[int]:
    """The order in which groups are allotted: the largest first, equal ones drawn by lot.

    The lot is a hash of seed and name, so it depends neither on the order of the groups nor on
    the machine.

    Args:
        names: One for each group, all different.
        sizes: Images of each group.
        seed: Another seed is another draw.
    """

    def lot(group: int) -> tuple[int, bytes]:
        return -sizes[group], hashlib.sha256(f"{seed}/{names[group]}".encode()).digest()

    return sorted(range(len(names)), key=lot)


def allot(
    images: NDArray[np.int64], order: Sequence[int], shares: Sequence[float]
) -> NDArray[np.int64]:
    """Give every group to the part that most lacks its classes.

    Each group goes where it makes the sum over parts and columns of (images - wanted)² /
    (wanted x all images of the column) smallest: Pearson's chi-square distance from the wanted
    counts, which are share x all. Columns are the classes and, so that parts come out equally
    large too, all images together.

    Args:
        images: (groups, classes) counts; no class without images.
        order: The groups in the order in which they are allotted.
        shares: Of each part, above 0, with sum 1.

    Returns:
        (groups,) The part of each group.
    """
    columns = np.column_stack([images, images.sum(axis=1)]).astype(np.float64)
    total = columns.sum(axis=0)
    wanted = np.outer(shares, total)
    filled = np.zeros_like(wanted)
    part = np.empty(len(images), dtype=np.int64)
    for group in order:
        more = columns[group]
        growth = more * (2 * (filled - wanted) + more) / (wanted * total)
        part[group] = growth.sum(axis=1).argmin()
        filled[part[group]] += more
    return part


def complete(
    images: NDArray[np.int64], order: Sequence[int], part: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give part 0 a group of every class, and then part 1 one of every class that can be spared.

    A proportion rounds to nothing for a class of two or three groups, and what is not there can be
    neither learned nor measured. The smallest group is taken; part 0 gives none away that is the
    last one of a class.

    Args:
        images: (groups, classes) counts.
        order: As for `allot`; of equally small groups the last is taken.
        part: (groups,) What `allot` gave for two shares.

    Returns:
        (groups,) The part of each group.
    """
    part = part.copy()

    def can_be_spared(group: int) -> bool:
        others = (part == 0) & (np.arange(len(part)) != group)
        return bool(images[others].any(axis=0)[images[group] > 0].all())

    for side, label in product((0, 1), range(images.shape[1])):
        if images[part == side, label].any():
            continue
        for group in reversed(order):
            if images[group, label] and (side == 0 or can_be_spared(group)):
                part[group] = side
                break
    return part
