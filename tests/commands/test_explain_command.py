"""``mammography explain``: the picture, its record, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tyro
from trained_models import write_model

from mammography.archive.dialects import Label
from mammography.commands.explain import Explain
from mammography.commands.predict import Predict
from mammography.dicom.phantom.files import write_dicom
from mammography.errors import ImageRejected, StoreError, UsageError
from mammography.training.prediction import Answer

TISSUE = Label("tissue", ("F", "G", "D"), ("fatty", "glandular", "dense"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "run", label=TISSUE)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.random.default_rng(0).integers(0, 900, (120, 90))
    pixels[:70, :40] += 3000
    path = tmp_path_factory.mktemp("archive") / "00042" / "L_CC.dcm"
    return write_dicom(path, pixels.astype(np.uint16), BitsStored=12) or path


def test_the_picture_and_its_record_are_written(run: Path, image: Path, tmp_path: Path) -> None:
    result = Explain(run, image, outdir=tmp_path / "out").run()
    said = Predict(run, image=image).run()
    assert isinstance(said, Answer)
    name = f"00042_L_CC_gradcam_{TISSUE.classes[said.code]}"
    assert result.picture == tmp_path / "out" / f"{name}.png"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{name}.json", f"{name}.png",
    ]  # fmt: skip
    record = json.loads(result.record.read_text(encoding="utf-8"))
    assert list(record["probabilities"]) == ["F", "G", "D"]
    np.testing.assert_array_equal(list(record["probabilities"].values()), said.probabilities)
    np.testing.assert_array_equal(list(record["calibrated"].values()), said.calibrated)
    assert record["predicted"] == record["explained"] == TISSUE.classes[said.code]
    assert record["name"] == said.name == result.example.predicted
    assert record["image"] == image.as_posix()
    assert "not for diagnosis" in record["notice"]
    picture = cv2.imread(str(result.picture))
    assert picture.shape[1] == 1600
    assert result.example.heat.shape == result.example.image.shape == (120, 90)


@pytest.mark.parametrize(("word", "value"), [("D", "D"), ("d", "D"), ("Glandular", "G")])
def test_any_class_can_be_asked_for_by_value_or_name(
    word: str, value: str, run: Path, image: Path, tmp_path: Path
) -> None:
    result = Explain(run, image, target=word, outdir=tmp_path).run()
    record = json.loads(result.record.read_text(encoding="utf-8"))
    assert record["explained"] == value
    assert result.picture.name.endswith(f"_gradcam_{value}.png")
    assert result.example.predicted == record["name"]


def test_classes_have_different_maps(run: Path, image: Path, tmp_path: Path) -> None:
    heats = [
        Explain(run, image, target=value, outdir=tmp_path).run().example.heat for value in "FGD"
    ]
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert sum(bool(heat.any()) for heat in heats) >= 2
    assert not np.allclose(heats[0], heats[1], atol=0.01)


def test_exams_with_files_of_one_name_do_not_overwrite_each_other(
    run: Path, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "00043" / "L_CC.dcm"
    other.parent.mkdir()
    other.write_bytes(image.read_bytes())
    uid = other.with_name("1.2.840.7")  # the name's end is no ending
    uid.write_bytes(image.read_bytes())
    for path in (image, other, uid):
        Explain(run, path, target="F", outdir=tmp_path / "out").run()
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "00042_L_CC_gradcam_F.png", "00043_1.2.840.7_gradcam_F.png", "00043_L_CC_gradcam_F.png",
    ]  # fmt: skip


def test_it_says_where_the_picture_is(
    run: Path, image: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "mammography"):
        result = Explain(run, image, outdir=tmp_path).run()
    assert str(result.picture) in caplog.text
    assert f"predicted {result.answer.name}" in caplog.text
    assert "not for diagnosis" in caplog.text


def test_an_empty_map_is_told(
    tmp_path: Path, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of four classes, some have nothing that speaks for them."""
    run = write_model(tmp_path / "run")
    for value in "ABCD":
        caplog.clear()
        result = Explain(run, image, target=value, outdir=tmp_path).run()
        told = f"Nothing in the image speaks for {value}" in caplog.text
        assert told != bool(result.example.heat.any())


def test_what_cannot_be_explained_is_refused(run: Path, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"no class 'B'; it tells apart F \(fatty\), G"):
        Explain(run, image, target="B", outdir=out).run()
    (tmp_path / "bad.dcm").write_bytes(b"noise" * 99)
    with pytest.raises(ImageRejected, match=r"bad\.dcm: .*neither DICOM nor"):
        Explain(run, tmp_path / "bad.dcm", outdir=out).run()
    with pytest.raises(StoreError, match="holds no finished run"):
        Explain(tmp_path, image, outdir=out).run()
    fused = write_model(tmp_path / "fused", fused={"width": 4, "fingerprint": "f" * 64})
    with pytest.raises(UsageError, match=r"trained with embeddings .*--embeddings-dir"):
        Explain(fused, image, outdir=out).run()
    assert not out.exists()


def test_a_transformer_cannot_be_explained(image: Path, tmp_path: Path) -> None:
    run = write_model(tmp_path / "run", arch="timm:test_vit?img_size=64")
    with pytest.raises(UsageError, match="explains convolutional networks only"):
        Explain(run, image, outdir=tmp_path / "out").run()


def test_the_command_line_has_run_and_class() -> None:
    arguments = ["--run", "results", "--image", "a.dcm", "--class", "D"]
    assert tyro.cli(Explain, args=arguments) == Explain(Path("results"), Path("a.dcm"), "D")
