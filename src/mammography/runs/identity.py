"""Patient identifiers as salted hashes."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from mammography.errors import StoreError


def pseudonym(identifier: str) -> str:
    """A patient identifier as a salted hash: the same person gives the same 16 hex digits.

    The salt is the user's own (``MAMMOGRAPHY_SALT``, or a file made on first use in the user's
    configuration folder); without it the hash cannot be tied to the identifier.
    """
    return hashlib.blake2b(
        identifier.encode(), key=hashlib.sha256(_salt().encode()).digest(), digest_size=8
    ).hexdigest()


def _salt() -> str:
    """The secret that patient identifiers are hashed with: one per user, made on first use."""
    if given := os.environ.get("MAMMOGRAPHY_SALT"):
        return given
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = home / "mammography" / "salt"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f"salt.{os.getpid()}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return path.read_text().strip()
    except OSError as error:
        raise StoreError(
            f"The salt for hashing patient identifiers cannot be kept in {path}: {error.strerror}. "
            "Set the environment variable MAMMOGRAPHY_SALT to a secret of your own."
        ) from error
