"""``make demo``: a synthetic archive, audited and embedded, in about a minute.

Tries the published ImageNet weights and goes on untrained where they cannot be had; every picture
then says so.
"""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

from mammography.commands.embed import Embed
from mammography.commands.phantom import Phantom
from mammography.errors import WeightsUnavailableError


def main(folder: Path) -> None:
    """Make everything below `folder`; an earlier demo there is removed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    shutil.rmtree(folder, ignore_errors=True)
    Phantom(folder / "phantom", exams=40, rows=832, columns=640, balanced=True).run()
    result = embed(folder, "imagenet")
    print()
    for picture in sorted((result / "preview").glob("*.png")):
        print(f"picture: {picture.resolve()}")
    print(f"everything else: {result.resolve()}")


def embed(folder: Path, weights: str) -> Path:
    """Embed the demo's archive; the folder of the embedding set."""
    command = Embed(
        csv=folder / "phantom" / "classificacao.csv",
        dicom_root=folder / "phantom" / "archive",
        outdir=folder / f"embeddings_resnet50_{weights}",
        save_csv=True,
        pca=True,
        tsne=True,
        umap=True,
        weights=weights,
    )
    try:
        command.run()
    except WeightsUnavailableError as error:
        print(
            f"\n{error}\n\nGoing on with an UNTRAINED encoder: its maps show preprocessing only.\n"
        )
        return embed(folder, "random")
    return command.outdir


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
