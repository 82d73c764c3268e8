"""Fixtures that the commands' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def density_run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of train-density over four epochs, whose folder no test changes."""
    from density_runs import single_thread, train

    with single_thread():
        return train(phantoms, tmp_path_factory.mktemp("done"), epochs=4, save_embeddings=True)
