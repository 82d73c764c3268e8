"""How much reduced decoding changes what the encoder sees: the table of imagenet.md.

Usage: python docs/recipes/reduced_decode.py ARCHIVE, a folder of JPEG 2000 or HTJ2K images.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from mammography.preprocess.recipes.imagenet import PLUGIN as IMAGENET

#: Brightness up to this is background, in grey levels of 255.
BACKGROUND = 5

RESOLUTIONS = ("half", "quarter", "eighth")


def main(archive: Path) -> None:
    """Print the means over the archive's images, with and without Pixel Padding Value."""
    results = defaultdict(list)
    for path in sorted(archive.rglob("*.dcm")):
        image = IMAGENET.read(path)
        full = 255 * IMAGENET.gray(image)
        breast = full > BACKGROUND
        for resolution in RESOLUTIONS:
            recipe = IMAGENET.with_options(reduced_decode=resolution)
            reduced = 255 * recipe.gray(recipe.read(path))
            difference = np.abs(reduced - full)[breast].mean()
            correlation = np.corrcoef(reduced[breast], full[breast])[0, 1]
            padding = "without" if image.padding is None else "with"
            results[padding, resolution].append((difference, correlation))
    sys.stdout.write("| padding value | decoded at | images | mean difference | correlation |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    for padding in ("without", "with"):
        for resolution in RESOLUTIONS:
            pairs = results[padding, resolution]
            if pairs:
                difference, correlation = np.mean(pairs, axis=0)
                sys.stdout.write(
                    f"| {padding} | {resolution} | {len(pairs)} | {difference:.2f} | "
                    f"{correlation:.4f} |\n"
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
