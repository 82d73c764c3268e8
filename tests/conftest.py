"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Two threads an operator wait for each other as soon as another process needs a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")


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


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `archive`, 64 small images of 16 exams, and `classificacao.csv`, balanced."""
    from mammography.commands.phantom import Phantom

    folder = tmp_path_factory.mktemp("phantoms") / "phantoms"
    Phantom(folder, exams=16, rows=208, columns=160, balanced=True, num_workers=1).run()
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch uses one thread in this module."""
    from density_runs import single_thread

    with single_thread():
        yield
