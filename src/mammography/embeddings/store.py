"""An embedding set while it is being filled: a folder of parts that a killed run leaves behind.

Each part is renamed into place when whole and holds the features of a fixed block of manifest rows.
A killed run loses at most the parts it was working on, and the next one computes exactly those
again.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mammography.embeddings.embedding_set import FEATURES, INDEX, RECORD, REJECTS, read_record
from mammography.errors import ImageRejected, StoreError
from mammography.runs import versions, write_json, written_whole

PARTS = ".parts"


@dataclass(frozen=True)
class Part:
    """The outcome of one block of manifest rows.

    Attributes:
        features: (kept, width) float32.
        kept: Positions in the manifest of the rows that have features, ascending.
        rejected: Position in the manifest to the verdict on the image.
    """

    features: NDArray[np.float32]
    kept: NDArray[np.int64]
    rejected: dict[int, ImageRejected]


class PartialSet:
    """An embedding set that is being filled.

    Args:
        folder: The set's folder.
        key: Everything that decides the features' bytes, as JSON values.
        rows: Rows of the manifest.
        part_rows: Rows of one part.

    Raises:
        StoreError: The folder was begun with another key.
    """

    def __init__(self, folder: Path, key: dict[str, Any], rows: int, part_rows: int) -> None:
        self.folder, self.key, self.rows, self.part_rows = folder, key, rows, part_rows
        self._parts = folder / PARTS
        begun = self._parts / "key.json"
        # Another version of a decoder or of the network's runtime may give other last bits.
        installed = {name: version for name, version in versions().items() if name != "platform"}
        with_versions = key | {"versions": installed}
        if begun.exists():
            _refuse_other(folder, json.loads(begun.read_text(encoding="utf-8")), with_versions)
        else:
            write_json(begun, with_versions)

    def blocks(self) -> list[range]:
        """The manifest rows of every part, in order."""
        return [
            range(start, min(start + self.part_rows, self.rows))
            for start in range(0, self.rows, self.part_rows)
        ]

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there yet."""
        return [number for number in range(len(self.blocks())) if not self._path(number).exists()]

    def rows_missing(self) -> int:
        """Rows of the manifest that no part covers yet."""
        blocks = self.blocks()
        return sum(len(blocks[number]) for number in self.missing())

    def _path(self, number: int) -> Path:
        return self._parts / f"{number:06d}.npz"

    def write(self, number: int, part: Part) -> None:
        """Put a whole part in its place."""
        verdicts = {str(row): [v.code, v.reason] for row, v in sorted(part.rejected.items())}
        with written_whole(self._path(number)) as path, path.open("wb") as stream:
            np.savez(
                stream,
                features=part.features,
                kept=part.kept,
                rejected=np.array(json.dumps(verdicts)),
            )

    def parts(self) -> Iterator[Part]:
        """All parts in order."""
        for number in range(len(self.blocks())):
            with np.load(self._path(number), allow_pickle=False) as stored:
                verdicts = json.loads(str(stored["rejected"]))
                yield Part(
                    stored["features"],
                    stored["kept"],
                    {int(row): ImageRejected(*verdict) for row, verdict in verdicts.items()},
                )

    def rejected(self) -> dict[int, ImageRejected]:
        """The verdicts on the manifest rows that have no features, by position."""
        return {row: verdict for part in self.parts() for row, verdict in part.rejected.items()}

    def finish(self, index: pl.DataFrame, rejects: pl.DataFrame, record: dict[str, Any]) -> None:
        """Join the parts into the set; the record comes last and says that all is there.

        Memory does not depend on the number of parts.
        """
        shape = (index.height, record["encoder"]["width"])
        with written_whole(self.folder / FEATURES) as path, path.open("wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for part in self.parts():
                stream.write(np.ascontiguousarray(part.features, "<f4").tobytes())
        with written_whole(self.folder / INDEX) as path:
            index.write_parquet(path)
        with written_whole(self.folder / REJECTS) as path:
            rejects.write_csv(path)
        write_json(self.folder / RECORD, record | {"made_from": self.key})
        shutil.rmtree(self._parts)


def is_finished(folder: Path, key: dict[str, Any]) -> bool:
    """Whether the folder holds the finished set of this key; its parts are then gone for good.

    Raises:
        StoreError: It holds the finished set of another key.
    """
    record = read_record(folder)
    if record is None:
        return False
    _refuse_other(folder, record.get("made_from", {}), key)
    if (folder / PARTS).exists():  # killed between the record and this
        shutil.rmtree(folder / PARTS)
    return True


def _refuse_other(folder: Path, begun: dict[str, Any], key: dict[str, Any]) -> None:
    was, wanted = _flat(begun), _flat(key)
    differences = [
        f"{name} {_change(was.get(name), wanted.get(name))}"
        for name in [*wanted, *(was.keys() - wanted.keys())]
        if was.get(name) != wanted.get(name)
    ]
    if differences:
        raise StoreError(
            f"{folder} holds embeddings made otherwise: {'; '.join(differences)}. Choose another "
            "--outdir, or remove the folder."
        )


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat


def _change(was: Any, wanted: Any) -> str:
    """What became of a setting, for people; of hashes, only that they differ."""
    if isinstance(wanted, str) and re.fullmatch("[0-9a-f]{64}", wanted):
        return "differ"
    return f"was {was!r} and is {wanted!r}"
