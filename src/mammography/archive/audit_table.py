"""The audit as people read it in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

#: Title of a line, and the audit's counts that it shows.
_COUNTS = {
    "view": "views",
    "laterality": "lateralities",
    "manufacturer": "manufacturers",
    "photometric": "photometric_interpretations",
}
_HISTOGRAMS = {
    "frames per image": "frames_per_image",
    "images per exam": "images_per_exam",
    "patients per exam": "patients_per_exam",
    "exams per patient": "exams_per_patient",
}


def audit_table(numbers: Mapping[str, Any], rejects: pl.DataFrame) -> RenderableType:
    """Lay out an audit for 80 columns and more.

    Args:
        numbers: What `mammography.archive.audit.audit` gave.
        rejects: The manifest's rejects, for an example of each code.
    """
    warnings = [f"[yellow]warning:[/] {escape(warning)}" for warning in numbers["warnings"]]
    parts: list[RenderableType] = ["", _numbers(numbers), ""]
    if numbers["rejects"]:
        parts += [_rejects(numbers["rejects"], rejects), ""]
    return Group(*parts, *warnings)


def _numbers(numbers: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    table.add_row(
        "images",
        f"[bold]{numbers['images']}[/] (exams: {numbers['exams']}, patients: "
        f"{numbers['patients']})",
    )
    table.add_row("exams without files", str(numbers["missing_exams"]))
    classes = numbers["classes"]
    for name, count in classes["counts"].items() if classes else ():
        row = f"[bold]{count['images']}[/] (exams: {count['exams']})"
        table.add_row(escape(f"{classes['label']} {name}"), row)
    for title, key in _COUNTS.items():
        table.add_row(title, _listed(numbers[key]))
    syntaxes = numbers["transfer_syntaxes"].values()
    table.add_row("transfer syntax", _lines({each["name"]: each["images"] for each in syntaxes}))
    for title, key in _HISTOGRAMS.items():
        table.add_row(title, _listed({f"{what} in": count for what, count in numbers[key].items()}))
    return table


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(_entries(counts)) or "unknown"


def _lines(counts: Mapping[str, int]) -> str:
    return "\n".join(_entries(counts))


def _entries(counts: Mapping[str, int]) -> list[str]:
    return [f"{escape(name)} [bold]{count}[/]" for name, count in counts.items()]


def _rejects(counts: Mapping[str, Mapping[str, int]], rejects: pl.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("left out", style="red", no_wrap=True)
    table.add_column("files", justify="right")
    table.add_column("rows", justify="right")
    table.add_column("for example", overflow="fold")
    for code, count in counts.items():
        example = rejects.filter(pl.col("code") == code).row(0, named=True)
        where = example["path"] or f"row {example['table_row']}"
        reason = escape(f"{where}: {example['reason']}")
        table.add_row(code, str(count["files"] or "-"), str(count["rows"] or "-"), reason)
    return table
