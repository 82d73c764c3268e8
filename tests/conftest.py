"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real files beside the checkout; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("MAMMOGRAPHY_SHARED", default))
    if not folder.is_dir():
        pytest.skip("the shared folder of real files is not here")
    return folder


@pytest.fixture(autouse=True)
def _fixed_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patient hashes in tests use a salt of their own, not the user's."""
    monkeypatch.setenv("MAMMOGRAPHY_SALT", "tests")
