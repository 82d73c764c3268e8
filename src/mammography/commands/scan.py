"""``mammography scan``: what an archive and its label table hold, before anything is computed."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mammography.commands import options
from mammography.errors import ImageRejected, StoreError, UsageError

if TYPE_CHECKING:
    from mammography.archive.manifest import Manifest


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes:
        audit: The numbers, as `mammography.archive.audit.audit` gives them.
        manifest: One row per usable image, and the rejects.
        exit_code: 0, or 1 where too little of the archive can be read.
    """

    audit: dict[str, Any]
    manifest: Manifest
    exit_code: int


@dataclass(frozen=True)
class Scan:
    """Audit an archive of mammograms and its label table, without computing anything on them.

    Reads every header, decodes every image that the table names, and says what would be left out
    and why. Exit code 1 where less than --min-readable can be read.
    """

    NAME: ClassVar[str] = "scan"
    OUTPUTS: ClassVar[tuple[str, ...]] = (
        "audit.json",
        "manifest.parquet",
        "rejects.csv",
        "run.log",
        "summary.json",
    )

    csv: Path
    """Label table: one row per exam (AccessionNumber) or per image (path, file name or UID)."""

    dicom_root: Path
    """Folder of the archive; images are found by content, at any depth."""

    outdir: Path | None = None
    """Folder for audit.json, manifest.parquet and rejects.csv; nothing is written without it."""

    label_column: options.LabelColumn = None
    id_column: options.IdColumn = None
    dialect: options.Dialect = None

    min_readable: float = 0.95
    """Smallest share of readable images that passes, from 0 to 1."""

    # mammography.dicom.pixels.DEFAULT_MAX_PIXELS, which is too slow to import for --help
    max_pixels: int = 100_000_000
    """Images that claim more pixels are refused before memory is taken."""

    decode: bool = True
    """Decode every image; headers alone do not show a file that is cut in half."""

    num_workers: int | Literal["auto"] = "auto"
    """Processes that read and decode; auto is one per core."""

    json: bool = False
    """Print the audit as JSON, and nothing else on standard output."""

    def run(self) -> ScanResult:
        """Scan, print the audit, and save it where `outdir` says.

        Raises:
            UsageError: Options that make no sense.
            LabelTableError: The table cannot be read.
            NothingLeftError: No image is left; what was found out is saved before.
            StoreError: `outdir` holds another run, or cannot be written to.
        """
        if not 0 <= self.min_readable <= 1:
            raise UsageError(f"--min-readable is a share from 0 to 1, not {self.min_readable}.")
        if self.num_workers != "auto" and self.num_workers < 1:
            raise UsageError(f"--num-workers must be at least 1, not {self.num_workers}.")
        if self.outdir is None:
            return self._scan()
        from mammography.runs import run_folder

        with run_folder(self.outdir, self) as summary:
            self._refuse_used_folder(self.outdir)
            result = self._scan()
            summary.update(exit_code=result.exit_code)
        return result

    def _scan(self) -> ScanResult:
        from mammography.archive.audit import audit, gate
        from mammography.archive.manifest import EmptyManifestError

        try:
            manifest = options.manifest_of(self, [self.outdir] if self.outdir else [])
        except EmptyManifestError as error:
            self._save(error.manifest, audit(error.manifest, decoded=self.decode))
            raise
        if self.decode:
            manifest = manifest.without(self._undecodable(manifest))
        numbers = audit(manifest, decoded=self.decode)
        passed = gate(numbers["readable"]["share"], self.min_readable)
        self._save(manifest, numbers)
        self._show(manifest, numbers, passed)
        return ScanResult(numbers, manifest, exit_code=0 if passed else 1)

    def _refuse_used_folder(self, outdir: Path) -> None:
        """An earlier scan is never overwritten, unless it found nothing to work on."""
        summary = outdir / "summary.json"
        if summary.exists() and json.loads(summary.read_text("utf-8")).get("exit_code") != 2:
            raise StoreError(f"{outdir} holds an earlier scan; choose another --outdir.")

    def _undecodable(self, manifest: Manifest) -> dict[str, ImageRejected]:
        """Why, for every image of the manifest whose pixels cannot be had."""
        from rich.console import Console
        from rich.progress import track

        from mammography.archive.workers import over_items

        work = partial(_check, self.dicom_root, self.max_pixels)
        verdicts = track(
            over_items(work, manifest.frame["path"].to_list(), options.workers_of(self)),
            description="decoding",
            total=manifest.frame.height,
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        return {path: verdict for path, verdict in verdicts if verdict is not None}

    def _save(self, manifest: Manifest, numbers: dict[str, Any]) -> None:
        if self.outdir is None:
            return
        from mammography.runs import write_json, written_whole

        with written_whole(self.outdir / "rejects.csv") as path:
            manifest.rejects.write_csv(path)
        with written_whole(self.outdir / "manifest.parquet") as path:
            manifest.frame.write_parquet(path)
        write_json(self.outdir / "audit.json", numbers)

    def _show(self, manifest: Manifest, numbers: dict[str, Any], passed: bool) -> None:
        if self.json:
            sys.stdout.write(json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
            return
        from rich.console import Console

        from mammography.archive.audit_table import audit_table

        console = Console(highlight=False)
        console.print(audit_table(numbers, manifest.rejects))
        readable = numbers["readable"]
        known = readable["readable"] + readable["unreadable"]
        verdict = "[green]enough[/]" if passed else "[red]too few[/]"
        console.print(
            f"[bold]{readable['readable']} of {known} images readable[/] "
            f"({readable['share'] or 0:.1%}, by {readable['checked']}; --min-readable is "
            f"{self.min_readable:.1%}): {verdict}"
        )
        if not self.decode:
            console.print("Only headers were read: a file that is cut in half passes unnoticed.")
        if self.outdir:
            console.print(f"{', '.join(self.OUTPUTS)} are in {self.outdir}", markup=False)


def _check(root: Path, max_pixels: int, path: str) -> None:
    """Decode one image in a worker process."""
    from mammography.archive.images import check_image

    check_image(root / path, max_pixels)
