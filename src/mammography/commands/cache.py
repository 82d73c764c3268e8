"""``mammography cache``: what lies in the cache of preprocessed images, and clearing it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro
from tyro.conf import Positional

from mammography.errors import UsageError

if TYPE_CHECKING:
    from mammography.preprocess.cache_contents import CacheFolder


def _unset(words: str, metavar: str | None = None) -> Any:
    """What an option that is not given means."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {words})", metavar=metavar)


@dataclass(frozen=True)
class CacheResult:
    """What lies in the cache, or what was cleared.

    Attributes:
        cache_dir: The cache.
        folders: By recipe and settings.
        bytes: How much room they take, or took.
        exit_code: Always 0.
    """

    cache_dir: Path
    folders: list[CacheFolder]
    bytes: int
    exit_code: int = 0


@dataclass(frozen=True)
class Cache:
    """List or clear the cache of preprocessed images that training keeps on disk.

    Clearing is always safe: a later run makes anew what it needs.
    """

    NAME: ClassVar[str] = "cache"

    action: Positional[Literal["ls", "clear"]]
    """What to do: ls lists, clear removes what ls lists."""

    which: Annotated[Positional[str | None], _unset("all", metavar="[RECIPE|HASH]")] = None
    """Only images of this recipe, or of the folder whose hash begins like this."""

    older_than: Annotated[float | None, _unset("all", metavar="DAYS")] = None
    """Only images that no run has used for so many days."""

    cache_dir: Annotated[Path | None, _unset("$MAMMOGRAPHY_CACHE, or in your cache folder")] = None
    """Folder of the cache of preprocessed images."""

    json: bool = False
    """Print JSON, and nothing else on standard output."""

    def run(self) -> CacheResult:
        """List or clear.

        Raises:
            UsageError: A negative --older-than, or nothing in the cache is called `which`.
            StoreError: The cache cannot be read or cleared.
        """
        from mammography.preprocess.cache import default_cache_dir
        from mammography.preprocess.cache_contents import clear, entries

        if self.older_than is not None and not self.older_than >= 0:
            raise UsageError(f"--older-than is a number of days, not {self.older_than}.")
        cache_dir = self.cache_dir or default_cache_dir()
        act = clear if self.action == "clear" else entries
        folders = act(cache_dir, self.which, self.older_than)
        result = CacheResult(cache_dir, folders, sum(folder.bytes for folder in folders))
        self._show(result)
        return result

    def _show(self, result: CacheResult) -> None:
        if self.json:
            answer = {
                "cache_dir": result.cache_dir.as_posix(),
                "bytes": result.bytes,
                "folders": [_plain(folder) for folder in result.folders],
            }
            sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")
            return
        from rich.console import Console
        from rich.filesize import decimal
        from rich.markup import escape

        console = Console(highlight=False, soft_wrap=True)
        if result.folders:
            console.print(_table(result.folders))
        images = sum(folder.images for folder in result.folders)
        done = "cleared from" if self.action == "clear" else "in"
        room, where = decimal(result.bytes), escape(str(result.cache_dir))
        console.print(f"[bold]{images}[/] images, {room}, {done} {where}")


def _plain(folder: CacheFolder) -> dict[str, Any]:
    used = folder.last_used
    when = None if used is None else datetime.fromtimestamp(used, timezone.utc).isoformat()
    return asdict(folder) | {"last_used": when}


def _table(folders: list[CacheFolder]) -> Any:
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("recipe", style="cyan")
    table.add_column("size")
    table.add_column("hash", no_wrap=True)
    table.add_column("images", justify="right")
    table.add_column("room", justify="right")
    table.add_column("last used")
    for folder in folders:
        used = folder.last_used
        table.add_row(
            escape(folder.recipe),
            " × ".join(map(str, folder.size or ("?",))),
            folder.hash,
            str(folder.images),
            decimal(folder.bytes),
            "" if used is None else f"{datetime.fromtimestamp(used):%Y-%m-%d %H:%M}",
        )
    return table
