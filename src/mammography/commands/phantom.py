"""``mammography phantom``: a synthetic archive with known truth."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mammography.commands import options
from mammography.errors import ImageRejected, MammographyError, UsageError

if TYPE_CHECKING:
    from mammography.dicom.phantom.plan import PhantomExam


@dataclass(frozen=True)
class PhantomResult:
    """What was written.

    Attributes:
        archive: Root of the images.
        csv: Label table of the exams.
        exams: How many exams.
        images: How many of their images; bad and odd files not counted.
        bad_files: How many files that cannot be read as images.
        odd_files: How many unusual images.
        exit_code: Always 0.
    """

    archive: Path
    csv: Path
    exams: int
    images: int
    bad_files: int
    odd_files: int
    exit_code: int = 0


@dataclass(frozen=True)
class Phantom:
    """Write a synthetic archive of four-view mammography exams with known truth.

    Each exam is a folder of four DICOM images below OUTDIR/archive. OUTDIR/classificacao.csv is
    the label table, truth.csv says what is true of each image, and findings.csv where its lesions
    are. The same options give the same bytes. Nothing in it is real: not for diagnosis.
    """

    NAME: ClassVar[str] = "phantom"

    outdir: Path
    """Folder for the archive and its tables; it must be empty or not exist."""

    exams: int = 50
    """How many exams; about one in ten is the second exam of an earlier patient."""

    seed: int = 42
    """Where all randomness comes from."""

    rows: int = 3328
    """Height of an image in pixels; everything scales, so 416 x 320 is good for tests."""

    columns: int = 2560
    """Width of an image in pixels."""

    syntax: tuple[str, ...] = ("explicit", "jpeg-lossless", "jpeg2000", "rle")
    """Transfer syntaxes to mix: implicit, explicit, big-endian, deflated, rle, jpeg-lossless,
    jpeg-lossless-p14, jpeg-baseline (8 bits), jpeg-extended (12 bits), jpeg-ls, jpeg-ls-near,
    jpeg2000, jpeg2000-lossy, htj2k."""

    balanced: bool = False
    """Equal numbers of each density class, instead of about 10, 40, 40 and 10 %."""

    lesions: bool = True
    """Give about a third of the exams a mass or a cluster of microcalcifications."""

    bad_files: bool = False
    """Add one of every kind of bad file and of what is no image; see OUTDIR/bad_files.csv."""

    odd_files: bool = False
    """Add one of every kind of unusual but good image; see OUTDIR/odd_files.csv."""

    num_workers: int | Literal["auto"] = "auto"
    """Processes that write; auto is one per core."""

    def run(self) -> PhantomResult:
        """Write the archive and say what was written.

        Raises:
            UsageError: `outdir` is not empty, or an option makes no sense.
        """
        from mammography.dicom.phantom.archive import FINDING_COLUMNS, TRUTH_COLUMNS, write_exam
        from mammography.dicom.phantom.damage import BAD_COLUMNS, BAD_KINDS, write_bad_file
        from mammography.dicom.phantom.oddities import ODD_COLUMNS, ODD_KINDS, write_odd_file
        from mammography.dicom.phantom.plan import plan_exams

        if self.outdir.exists() and (not self.outdir.is_dir() or any(self.outdir.iterdir())):
            raise UsageError(
                f"{self.outdir} is not an empty folder; give --outdir a new one, phantom never "
                "overwrites."
            )
        if self.num_workers != "auto" and self.num_workers < 1:
            raise UsageError(f"--num-workers must be at least 1, not {self.num_workers}.")
        exams = plan_exams(
            self.exams, self.seed, self.syntax, balanced=self.balanced, lesions=self.lesions
        )
        write = partial(write_exam, self.outdir / "archive", rows=self.rows, columns=self.columns)
        written = self._each(write, exams)
        truth = [row for exam in written for row in exam.truth]
        findings = [row for exam in written for row in exam.findings]
        bad = self._one_of_each(BAD_KINDS, exams, write_bad_file) if self.bad_files else []
        odd = self._one_of_each(ODD_KINDS, exams, write_odd_file) if self.odd_files else []
        labels = [{"AccessionNumber": e.accession, "Classification": e.density} for e in exams]
        self._table("truth.csv", TRUTH_COLUMNS, truth)
        self._table("findings.csv", FINDING_COLUMNS, findings)
        if self.bad_files:
            self._table("bad_files.csv", BAD_COLUMNS, bad)
        if self.odd_files:
            self._table("odd_files.csv", ODD_COLUMNS, odd)
        self._table("classificacao.csv", ("AccessionNumber", "Classification"), labels)
        result = PhantomResult(
            archive=self.outdir / "archive",
            csv=self.outdir / "classificacao.csv",
            exams=len(exams),
            images=len(truth),
            bad_files=len(bad),
            odd_files=len(odd),
        )
        self._show(result)
        return result

    def _each(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """Apply a function to items in worker processes, showing how far it is."""
        from rich.console import Console
        from rich.progress import track

        from mammography.archive.workers import over_items

        results = []
        for _, result in track(
            over_items(work, items, options.workers_of(self)),
            description="writing",
            total=len(items),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        ):
            if isinstance(result, ImageRejected):
                raise MammographyError(f"The archive could not be written: {result}")
            results.append(result)
        return results

    def _one_of_each(
        self,
        kinds: Iterable[str],
        exams: list[PhantomExam],
        write: Callable[[Path, int, int, tuple[str, PhantomExam]], dict[str, object]],
    ) -> list[dict[str, object]]:
        """Write one file of every kind, spread over the exams."""
        items = [(kind, exams[place % len(exams)]) for place, kind in enumerate(kinds)]
        return self._each(partial(write, self.outdir / "archive", self.rows, self.columns), items)

    def _table(self, name: str, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
        import csv

        from mammography.runs import written_whole

        with written_whole(self.outdir / name) as path, path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    def _show(self, result: PhantomResult) -> None:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        console.print(
            f"[bold]{result.exams}[/] synthetic exams, [bold]{result.images}[/] images of "
            f"{self.rows} x {self.columns}, in {result.archive}"
        )
        if self.bad_files:
            console.print(f"{result.bad_files} bad files, listed in {self.outdir}/bad_files.csv")
        if self.odd_files:
            console.print(f"{result.odd_files} odd images, listed in {self.outdir}/odd_files.csv")
        console.print(f"Next: mammography scan --csv {result.csv} --dicom-root {result.archive}")
