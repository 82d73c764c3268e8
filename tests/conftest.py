"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
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


@pytest.fixture(scope="session", autouse=True)
def _not_the_users_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests hash patients with a salt and cache images in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMMOGRAPHY_SALT", "tests")
        patch.setenv("MAMMOGRAPHY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
