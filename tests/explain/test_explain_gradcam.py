"""Grad-CAM on networks whose evidence is known, and on images that are not square."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from trained_models import FUSED, write_embeddings, write_model

from mammography.archive.dialects import Label
from mammography.dicom.phantom.files import write_dicom
from mammography.embeddings.embedding_set import load_embeddings
from mammography.errors import ImageRejected, StoreError, UsageError
from mammography.explain.feature_map import last_feature_map
from mammography.explain.gradcam import explain_image, grad_cam, run_examples
from mammography.preprocess.recipes.imagenet import Imagenet
from mammography.runs import write_json
from mammography.training.classifier import Classifier
from mammography.training.model_files import TrainedModel, load_model
from mammography.training.objective import find_objective
from mammography.training.prediction import ask, tensor_of

SIDE, CELL = 64, 8
TWO = Label("square", (0, 1), ("no", "yes"))
RAW = Imagenet(size=(SIDE, SIDE), tail=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Squares(nn.Module):
    """One feature: how much of the image is bright, from the brightness of 8 × 8 cells."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.Conv2d(3, 1, CELL, CELL, bias=False)
        nn.init.constant_(self.cells.weight, 1 / (3 * CELL * CELL))
        self.bright = nn.Threshold(0.2, 0.0)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.bright(self.cells(images))).flatten(1)


def squares_model(
    objective: str = "cross-entropy", gain: float = 3.0, recipe: Imagenet = RAW, folder: str = "run"
) -> TrainedModel:
    """Class 1 is the likelier, the more of the image is bright."""
    outputs = find_objective(objective).outputs(2)
    classifier = Classifier(Squares(), 1, outputs, 0.2)
    weights = [[gain]] if outputs == 1 else [[-gain], [gain]]
    classifier.linear.weight.data = torch.tensor(weights)
    classifier.linear.bias.data.zero_()
    classifier.eval().requires_grad_(False)
    record: dict[str, Any] = {"fused": None}
    return TrainedModel(
        classifier, TWO, recipe, find_objective(objective), 1.0, record, Path(folder)
    )


def of_gray(gray: np.ndarray) -> np.ndarray:
    return RAW.normalise(gray.astype(np.float32))


# The map.


@pytest.mark.parametrize("objective", ["cross-entropy", "ordinal"])
def test_the_map_is_where_the_evidence_is(objective: str) -> None:
    gray = np.full((SIDE, SIDE), 0.05)
    gray[8:16, 40:56] = 1.0
    heat = grad_cam(squares_model(objective), of_gray(gray), None, 1)
    cells = torch.zeros(1, 1, 8, 8)
    cells[0, 0, 1, 5:7] = 1.0
    expected = functional.interpolate(cells, (SIDE, SIDE), mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(heat, expected / expected.max(), atol=1e-6)
    assert (heat.dtype, heat.shape) == (np.float32, (SIDE, SIDE))


@pytest.mark.parametrize("objective", ["cross-entropy", "ordinal"])
def test_what_speaks_for_one_class_does_not_speak_for_the_other(objective: str) -> None:
    gray = np.full((SIDE, SIDE), 0.05)
    gray[8:16, 40:56] = 1.0
    assert not grad_cam(squares_model(objective), of_gray(gray), None, 0).any()


@pytest.mark.parametrize("objective", ["cross-entropy", "ordinal"])
def test_certainty_does_not_wipe_the_map_out(objective: str) -> None:
    """A probability that float32 rounds to 1 still has a gradient."""
    gray = np.random.default_rng(0).random((SIDE, SIDE))
    sure = squares_model(objective, gain=20.0 if objective == "cross-entropy" else 40.0)
    logits = sure.logits(np.array([[gray.mean()]], np.float32))
    assert np.float32(sure.probabilities(logits)[0, 1]) == 1
    expected = grad_cam(squares_model(objective), of_gray(gray), None, 1)
    assert expected.max() == 1
    np.testing.assert_allclose(grad_cam(sure, of_gray(gray), None, 1), expected, atol=1e-5)


@pytest.mark.parametrize("objective", ["cross-entropy", "ordinal"])
def test_the_map_follows_from_the_gradient(objective: str, tmp_path: Path) -> None:
    """The paper's formula on a real network with embeddings, without captum."""
    model = load_model(write_model(tmp_path / "run", objective=objective, fused=FUSED))
    tensor = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    embedding = np.random.default_rng(2).normal(size=(1, 5)).astype(np.float32)
    network = model.classifier.encoder
    features = network.forward_features(torch.from_numpy(tensor[None])).requires_grad_()
    maps = []
    for target in range(4):
        logits = model.classifier.head(network.forward_head(features), torch.from_numpy(embedding))
        score = model.objective.log_probabilities(logits.double())[0, target]
        (slope,) = torch.autograd.grad(score, features)
        heat = (slope.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu().double()
        heat = functional.interpolate(heat, (64, 64), mode="bilinear")[0, 0].detach().numpy()
        maps.append(grad_cam(model, tensor, embedding, target))
        np.testing.assert_allclose(maps[-1], heat / (heat.max() or 1), atol=1e-5)
    assert sum(heat.any() for heat in maps) >= 2
    assert not np.allclose(maps[0], maps[3], atol=1e-3)


def test_explaining_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = load_model(write_model(tmp_path / "run"))
    tensor = np.random.default_rng(1).normal(size=(3, 64, 64)).astype(np.float32)
    with torch.no_grad():  # as in an evaluation loop
        heat = grad_cam(model, tensor, None, 0)
    assert np.isfinite(heat).all()
    for module in model.classifier.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not module.training
    for weight in model.classifier.parameters():
        assert weight.grad is None
        assert not weight.requires_grad


# The layer.


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm:resnet10t", "layer4"),
        ("timm:mobilenetv2_035", "bn2"),
        ("timm:mobilenetv3_small_050", "blocks"),  # what comes after is pooled
        ("efficientnet_b0", "features"),
        ("densenet121", "features"),
        ("resnet50", "layer4"),
    ],
)
def test_the_layer_is_the_last_map_before_pooling(name: str, layer: str) -> None:
    from mammography.encoders.registry import find_architecture

    architecture = find_architecture(name)
    network = architecture.headless(architecture.build()).eval()
    assert last_feature_map(network, torch.zeros(1, 3, 64, 64)) is network.get_submodule(layer)


class Tokens(nn.Module):
    """A transformer's shapes: what it pools is no map."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.mix = nn.Linear(6, 6)

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(self.patches(images).flatten(2).transpose(1, 2)).mean(1)


class ChannelsLast(Tokens):
    """Another transformer's shapes."""

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(self.patches(images).permute(0, 2, 3, 1)).mean((1, 2))


@pytest.mark.parametrize("kind", [Tokens, ChannelsLast])
def test_a_network_without_a_final_map_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(UsageError, match=rf"{kind.__name__}.*convolutional networks only"):
        last_feature_map(kind(), torch.zeros(1, 3, 32, 32))


def test_an_image_that_is_too_small_for_a_map_is_refused() -> None:
    with pytest.raises(UsageError, match="no feature map for images of 8 × 8"):
        last_feature_map(Squares(), torch.zeros(1, 3, 8, 8))


# An image.


def bright_square(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    pixels = np.full(shape, 40, np.uint16)
    pixels[0, 0] = 0
    pixels[rows, columns] = 1000
    return pixels


def centre_of(heat: np.ndarray) -> list[float]:
    rows, columns = np.mgrid[: heat.shape[0], : heat.shape[1]]
    return [(heat * axis).sum() / heat.sum() for axis in (rows, columns)]


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("corner", ["top left", "top right", "bottom left", "bottom right"])
@pytest.mark.parametrize("shape", [(512, 256), (256, 512), (320, 320)])
def test_heat_lies_on_the_square_in_the_image(
    shape: tuple[int, int], corner: str, resize: Any, tmp_path: Path
) -> None:
    """Squares that cover whole cells of the canvas, in images of any aspect."""
    sides = (max(shape), max(shape)) if resize == "letterbox" else shape
    unit = [side // 8 for side in sides]
    rows = slice(0, unit[0]) if "top" in corner else slice(shape[0] - unit[0], None)
    columns = slice(0, unit[1]) if "left" in corner else slice(shape[1] - unit[1], None)
    pixels = bright_square(shape, rows, columns)
    write_dicom(tmp_path / "image.dcm", pixels, BitsStored=12)
    model = squares_model(recipe=RAW.with_options(resize=resize))
    example, answer = explain_image(model, tmp_path / "image.dcm", target=1)
    assert example.image.shape == example.heat.shape == shape
    inside = np.zeros(shape, bool)
    inside[rows, columns] = True
    assert (example.image > 0.5)[inside].all()
    assert not (example.image > 0.5)[~inside].any()
    assert example.heat[inside].min() > 0.2
    assert example.heat.max() == pytest.approx(1, abs=1e-3)
    far = np.ones(shape, bool)
    grown = [max(0, rows.start - unit[0]), max(0, columns.start - unit[1])]
    far[grown[0] : grown[0] + 2 * unit[0] + 1, grown[1] : grown[1] + 2 * unit[1] + 1] = False
    assert example.heat[far].max() < 1e-6
    assert (example.predicted, example.true) == (("no", "yes")[answer.code], None)
    assert example.probability == answer.probabilities.max()


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(384, 192), (192, 384), (256, 256)])
def test_a_mirrored_image_has_the_mirrored_map(
    shape: tuple[int, int], resize: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 1000, shape).astype(np.uint16)
    pixels[:, : shape[1] // 3] //= 9
    pixels[: shape[0] // 3] //= 3
    for name, turned in (("as", pixels), ("lr", pixels[:, ::-1]), ("ud", pixels[::-1])):
        write_dicom(tmp_path / f"{name}.dcm", np.ascontiguousarray(turned), BitsStored=12)
    model = squares_model(recipe=RAW.with_options(resize=resize))
    plain, lr, ud = (
        explain_image(model, tmp_path / f"{name}.dcm", 1)[0] for name in ("as", "lr", "ud")
    )
    assert plain.heat.std() > 0.05
    np.testing.assert_allclose(lr.heat, plain.heat[:, ::-1], atol=1e-5)
    np.testing.assert_allclose(ud.heat, plain.heat[::-1], atol=1e-5)
    np.testing.assert_allclose(lr.image, plain.image[:, ::-1], atol=1e-6)


def test_a_tall_image_is_shown_in_1200_rows_and_its_own_aspect(tmp_path: Path) -> None:
    pixels = bright_square((1800, 900), slice(900, 1125), slice(450, 675))
    write_dicom(tmp_path / "tall.dcm", pixels, BitsStored=12)
    example, _ = explain_image(squares_model(), tmp_path / "tall.dcm", 1)
    assert example.image.shape == example.heat.shape == (1200, 600)
    assert example.image.dtype == example.heat.dtype == np.float32
    assert example.image.min() >= 0
    assert example.image.max() <= 1
    # rows 900 to 1125 and columns 450 to 675 of the image, two thirds of that in the picture
    assert centre_of(example.heat) == pytest.approx([674.5, 374.5], abs=1.5)
    assert centre_of(example.image > 0.5) == pytest.approx([674.5, 374.5], abs=1)


def test_an_image_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.dcm").write_bytes(b"noise" * 100)
    with pytest.raises(ImageRejected, match="neither DICOM nor PNG"):
        explain_image(squares_model(), tmp_path / "noise.dcm")


# The examples of a run.


PATHS = [f"{exam:02d}/{view}.dcm" for exam in range(12) for view in range(2)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of different brightness."""
    root = tmp_path_factory.mktemp("data")
    for number, path in enumerate(PATHS):
        noise = np.random.default_rng(number).integers(0, 300, (64, 48))
        noise[: 2 * number + 5, : 40 - number] += 700 + 300 * (number % 2)
        write_dicom(root / "archive" / path, noise.astype(np.uint16), BitsStored=12)
    return root


def finished_run(folder: Path, archive: Path, fused: bool = False) -> Path:
    """A run by whose table every third image is of another class than predicted."""
    run = write_model(folder / "run", fused=FUSED if fused else None)
    model, config = load_model(run), {"dicom_root": "archive"}
    beside: list[Any] = [None] * len(PATHS)
    if fused:
        made = load_embeddings(write_embeddings(folder / "set", PATHS, range(len(PATHS))))
        beside, config["embeddings_dir"] = list(made.features[:, None]), str(made.folder)
    rows = []
    for number, path in enumerate(PATHS):
        said = ask(model, tensor_of(model, archive / "archive" / path, 10**6), beside[number])
        true = (said.code + (number % 3 == 2)) % 4
        columns = {f"prob_{1 + code}": value for code, value in enumerate(said.probabilities)}
        rows.append(
            {
                "sample_id": path.removesuffix(".dcm"),
                "true_label": str(1 + true),
                "pred_label": str(1 + said.code),
                "path": path,
            }
            | columns
        )
    pl.DataFrame(rows).write_csv(run / "val_predictions.csv")
    summary = {"command": "train-density", "working_directory": str(archive), "config": config}
    write_json(run / "summary.json", summary)
    return run


@pytest.fixture(scope="module")
def run(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"), archive)


def test_examples_are_right_and_wrong_ones_of_each_class(run: Path, archive: Path) -> None:
    table = pl.read_csv(run / "val_predictions.csv", infer_schema=False)
    examples = run_examples(run, None, 2, seed=42)
    counts = {(name, right): 0 for name in "ABCD" for right in (True, False)}
    for example in examples:
        row = table.row(by_predicate=pl.col("sample_id") == example.caption, named=True)
        assert example.true == "ABCD"[int(row["true_label"]) - 1]
        assert example.predicted == "ABCD"[int(row["pred_label"]) - 1]
        recorded = float(row[f"prob_{row['pred_label']}"])
        assert example.probability == pytest.approx(recorded, abs=1e-6)
        assert example.image.shape == (64, 48)
        counts[example.true, example.correct] += 1
    names = [example.true for example in examples]
    assert names == sorted(names)
    for (name, right), count in counts.items():
        label = str(1 + "ABCD".index(name))
        of_class = table.filter(pl.col("true_label") == label)
        there = of_class.filter((pl.col("pred_label") == label) == right).height
        assert count == min(2, there)
    assert {right for (_, right), count in counts.items() if count} == {True, False}


def test_the_seed_decides_which(run: Path, archive: Path) -> None:
    def captions(seed: int) -> list[str]:
        return [example.caption for example in run_examples(run, archive / "archive", 1, seed)]

    assert captions(1) == captions(1) != captions(2)


def test_the_map_is_that_of_the_predicted_class(run: Path, archive: Path) -> None:
    model = load_model(run)
    example = run_examples(run, None, 1, seed=0)[0]
    path = archive / "archive" / f"{example.caption}.dcm"
    code = model.label.names.index(example.predicted)
    np.testing.assert_array_equal(example.heat, explain_image(model, path, code)[0].heat)


def test_another_archive_is_noticed(run: Path, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no folder .*nowhere.*--dicom-root"):
        run_examples(run, tmp_path / "nowhere", 1, seed=0)
    with pytest.raises(UsageError, match=r"was read when .* was trained, and cannot be now"):
        run_examples(run, tmp_path, 1, seed=0)
    for path in PATHS:
        stripes = np.zeros((64, 48), np.uint16)
        stripes[:, ::2] = 3000
        write_dicom(tmp_path / path, stripes, BitsStored=12)
    with pytest.raises(UsageError, match=r"is not the image that .*Is it another archive"):
        run_examples(run, tmp_path, 1, seed=0)


def test_a_fused_run_finds_its_embeddings(archive: Path, tmp_path: Path) -> None:
    run = finished_run(tmp_path, archive, fused=True)
    table = pl.read_csv(run / "val_predictions.csv", infer_schema=False)
    examples = run_examples(run, None, 1, seed=0)
    for example in examples:
        row = table.row(by_predicate=pl.col("sample_id") == example.caption, named=True)
        recorded = float(row[f"prob_{row['pred_label']}"])
        assert example.probability == pytest.approx(recorded, abs=1e-6)
    summary = json.loads((run / "summary.json").read_text())
    features = summary["config"].pop("embeddings_dir") + "/features.npy"
    summary["config"] |= {"embeddings_dir": None, "embeddings": features}
    write_json(run / "summary.json", summary)
    again = run_examples(run, None, 1, seed=0)
    assert [example.caption for example in again] == [example.caption for example in examples]
    summary["config"]["embeddings"] = "gone/features.npy"
    write_json(run / "summary.json", summary)
    with pytest.raises(StoreError, match="gone holds no finished embedding set"):
        run_examples(run, None, 1, seed=0)


def test_what_is_explained_is_what_training_saw(run: Path, archive: Path) -> None:
    model = load_model(run)
    path = archive / "archive/03/1.dcm"
    gray = tensor_of(model, path, 10**6)[0] * model.recipe.std[0] + model.recipe.mean[0]
    levels = gray.astype(np.float64) * 65535
    np.testing.assert_allclose(levels, levels.round(), atol=0.02)
