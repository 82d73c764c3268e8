"""Models on disk: the same bytes for the same model, nothing executed, the same predictions."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io

from mammography.analysis.baselines import CLASSIFIERS, fitted, probabilities_of
from mammography.analysis.saved_models import save_model

SCRIPT = """
import hashlib, sys
from pathlib import Path
import numpy as np
from mammography.analysis.baselines import fitted
from mammography.analysis.saved_models import save_model
features = np.random.default_rng(0).normal(size=(60, 8))
path = Path(sys.argv[1])
save_model(path, fitted(sys.argv[2], features, np.arange(60) % 3, 5, 42))
print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_model_comes_back_as_it_was(classifier: str, tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(60, 8))
    model = fitted(classifier, features, np.arange(60) % 3, 5, 42)
    trusted = save_model(tmp_path / "model.skops", model)
    again = skops.io.load(tmp_path / "model.skops", trusted=trusted)
    np.testing.assert_array_equal(
        probabilities_of(again, features, 3), probabilities_of(model, features, 3)
    )
    assert all(name.startswith("sklearn.") for name in trusted)


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / f"{number}.skops"), "random_forest"],
            capture_output=True, text=True, check=True,
        ).stdout
        for number in range(2)
    }  # fmt: skip
    assert len(digests) == 1


def test_the_file_tells_neither_time_nor_addresses(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(60, 8))
    save_model(tmp_path / "m.skops", fitted("svm_rbf", features, np.arange(60) % 3, 5, 42))
    with zipfile.ZipFile(tmp_path / "m.skops") as archive:
        names = archive.namelist()
        assert {info.date_time[0] for info in archive.infolist()} == {1980}
    arrays = [name for name in names if name != "schema.json"]
    assert arrays == [f"{number}.npy" for number in range(len(arrays))]
