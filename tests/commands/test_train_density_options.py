"""Options of ``mammography train-density``: which are understood, and which are refused at once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from density_runs import command

from mammography.cli import _parsed, main
from mammography.commands.train_density import TrainDensity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_sampler": True, "class_weights": "auto"}, "together they would count twice"),
        ({"class_weights": "1,2"}, "one number for each of A, B, C, D: 4, not 2"),
        ({"class_weights": "1,x"}, "takes auto, none, or numbers separated by commas"),
        ({"class_weights": "0,0,0,0"}, "not all of them 0"),
        ({"class_weights": "1,nan,1,1"}, "must be at least 0"),
        ({"embeddings": Path("a"), "embeddings_dir": Path("b")}, "exclude each other"),
        ({"split": Path("a"), "cv_folds": 3}, "--split and --cv-folds exclude each other"),
        ({"cv_folds": 3, "seeds": "1,2"}, "--cv-folds and --seeds exclude each other"),
        ({"cv_outdir": Path("a")}, "--cv-outdir needs --cv-folds"),
        ({"seeds": "42,42"}, "names a seed twice"),
        ({"seeds": "42,x"}, "--seeds takes numbers"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"lr": float("nan")}, "--lr must be at least 0, not nan"),
        ({"val_frac": 0.0}, "--val-frac is a share"),
        ({"val_frac": 1.0}, "--val-frac is a share"),
        ({"dropout": 1.0}, "--dropout is a share"),
        ({"clip": 0.0}, "--clip must be above 0"),
        ({"loss": "hinge"}, "no 'hinge' among the objectives"),
        ({"arch": "resnet51"}, "no encoder 'resnet51'"),
        ({"recipe": "nothing"}, "no 'nothing' among the recipes"),
        ({"dicom_root": Path("nowhere")}, "no folder nowhere"),
        ({"weights": Path("nowhere.pth")}, "no weight file nowhere.pth"),
    ],
)
def test_options_that_make_no_sense_fail_at_once(
    options: dict[str, Any], message: str, phantoms: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=message) as raised:
        command(phantoms, tmp_path / "out", **options).run()
    assert type(raised.value).__module__ == "mammography.errors"
    assert not (tmp_path / "out").exists()


def test_the_published_command_lines_are_understood() -> None:
    page = shlex.split(
        "--csv classificacao.csv --dicom-root archive --outdir outputs/density/hpo_runs "
        "--subset 256 --epochs 3 --img-size 384 --optuna-trial-id hpo_trial_001 "
        "--ray-trial-name hpo_trial_001 --ray-logdir outputs/density_experiments/hparam_logs"
    )
    parsed = _parsed("train-density", page)
    assert (parsed.subset, parsed.epochs, parsed.img_size) == (256, 3, 384)
    assert parsed.optuna_trial_id == parsed.ray_trial_name == "hpo_trial_001"
    facts = shlex.split(
        "--csv c --dicom-root a --model efficientnetb0 --image-size 512 --amp-enabled "
        "--no-augment --scheduler plateau --use-sampler --val-frac 0.2 --lr 1e-4 "
        "--backbone-lr 1e-5 --weight-decay 0 --num-workers 4 --prefetch-factor 4 "
        "--persistent-workers --save-embeddings --classes density --device auto "
        "--no-train-backbone --unfreeze-last-block --cache-mode disk --warmup-epochs 2 "
        "--cv-folds 3 --cv-outdir outputs/density_experiments/results_k3_seed42 --seed 42"
    )
    parsed = _parsed("train-density", facts)
    assert (parsed.arch, parsed.img_size, parsed.amp) == ("efficientnetb0", 512, True)
    assert (parsed.train_augment, parsed.train_backbone) == (False, False)
    defaults = TrainDensity(Path("c"), Path("a"))
    assert (defaults.epochs, defaults.batch_size, defaults.lr, defaults.warmup_epochs) == (
        20, 16, 1e-4, 2,
    )  # fmt: skip
    assert (defaults.arch, defaults.dropout, defaults.val_frac) == ("efficientnet_b0", 0.2, 0.2)


def test_a_lone_double_dash_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-density", "--", "--csv", "c", "--dicom-root", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: There is no folder nowhere (--dicom-root).\n"
