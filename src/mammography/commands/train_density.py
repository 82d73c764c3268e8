"""``mammography train-density``: a density classifier, its evaluation, and all that proves it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from mammography.commands import options

if TYPE_CHECKING:
    from mammography.training.callbacks import OnEpoch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DensityRun:
    """One trained classifier.

    Attributes:
        folder: Its results.
        metrics: What `metrics/val_metrics.json` holds.
    """

    folder: Path
    metrics: dict[str, Any]


@dataclass(frozen=True)
class TrainDensityResult:
    """What `train-density` made.

    Attributes:
        runs: One for each fold or seed.
        exit_code: 0, or 1 where too little of the archive could be read.
    """

    runs: tuple[DensityRun, ...]
    exit_code: int


@dataclass(frozen=True)
class TrainDensity:
    """Train and evaluate a classifier of breast density, or of the labels that the table has.

    Training and validation images never share a patient. Each run gets a results folder of its own
    below --outdir. Exit code 1 where less than --min-readable of the images could be read.
    """

    NAME: ClassVar[str] = "train-density"

    csv: Path
    """Label table: one row per exam (AccessionNumber) or per image (path, file name or UID)."""

    dicom_root: Path
    """Folder of the archive; images are found by content, at any depth."""

    outdir: Path = Path("outputs/mammo_efficientnetb0_density")
    """Results go to results, results_1, … below it."""

    classes: Literal["density", "binary", "label"] | None = None
    """A to D; A and B against C and D; or the table's own labels, which is the default."""

    arch: Annotated[str, tyro.conf.arg(aliases=["--model"])] = "efficientnet_b0"
    """Encoder: efficientnet_b0, resnet50, densenet121, timm:NAME, or a plugin's."""

    weights: Literal["imagenet", "random"] | Path = "imagenet"
    """Published weights of the encoder, none, or a file (safetensors or PyTorch state dict)."""

    train_backbone: bool = True
    """Train the encoder as a whole; without it the head alone."""

    unfreeze_last_block: bool = False
    """Train the encoder's last block and the head, with or without --no-train-backbone."""

    dropout: float = 0.2
    """Share of the features that training sets to 0."""

    embeddings_dir: Path | None = None
    """Embedding set to fuse with the encoder's features; rows are matched by image_id."""

    embeddings: Path | None = None
    """The same by the path of its features.npy."""

    epochs: int = 20
    """Epochs to train for, at most."""

    batch_size: int = 16
    """Images a batch, over all devices."""

    lr: float = 1e-4
    """Learning rate of the head."""

    backbone_lr: float | None = None
    """Learning rate of the encoder; a tenth of --lr where it is not given."""

    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """What turns gradients into steps."""

    weight_decay: float = 0.0
    """Of all trained weights."""

    scheduler: Literal["cosine", "plateau", "step", "none"] = "cosine"
    """What the learning rates do after the warm-up."""

    warmup_epochs: int = 2
    """Epochs in which the learning rates rise linearly."""

    loss: str = "cross-entropy"
    """cross-entropy, ordinal (CORN), or a plugin's."""

    class_weights: Annotated[
        str | None,
        tyro.conf.arg(
            help="Weights of the classes in the loss: auto (images / (classes x images of the "
            "class)), none, or numbers separated by commas.",
            help_behavior_hint="(default: auto; none with --use-sampler)",
        ),
    ] = None

    use_sampler: bool = False
    """Draw training images so that every class is as frequent as the others."""

    label_smoothing: float = 0.0
    """Share of a target that is spread over all classes."""

    mixup: float = 0.0
    """Parameter of mixup's Beta distribution; 0 is off."""

    train_augment: Annotated[bool, tyro.conf.arg(aliases=["--augment"])] = True
    """Flip, rotate by up to 15 degrees, change brightness and contrast of training images."""

    early_stopping: int | None = None
    """Epochs without a better model after which training ends."""

    accumulate: int = 1
    """Batches whose gradients make one step."""

    clip: float | None = None
    """Largest norm that a gradient may have."""

    amp: Annotated[bool, tyro.conf.arg(aliases=["--amp-enabled"])] = False
    """Compute in mixed precision: faster, not the same bits."""

    val_frac: float = 0.2
    """Share of the images that validate."""

    split: Path | None = None
    """Your own split: a CSV with image_id (or patient, or exam) and split (train, validation)."""

    cv_folds: int | None = None
    """Cross-validation with so many folds."""

    cv_outdir: Path | None = None
    """Folder of the folds; --outdir where it is not given."""

    seed: int = 42
    """Of the split, the order of the images, augmentation, dropout and the head's first weights."""

    seeds: str | None = None
    """Several seeds, separated by commas: one run each, on splits of their own."""

    subset: int | None = None
    """Take about so many images: whole patients, every class alike."""

    recipe: str = "density"
    """How pixels become a tensor."""

    img_size: Annotated[
        int | None,
        tyro.conf.arg(
            help="Side of the square that the encoder sees, in pixels.",
            help_behavior_hint="(default: the recipe's: 512)",
            aliases=["--image-size"],
        ),
    ] = None
    resize: options.Resize = None
    voi: options.Voi = None
    voi_index: options.VoiIndex = None
    frame: options.Frame = None
    reduced_decode: options.ReducedDecode = None
    mean: options.Mean = None
    std: options.Std = None
    label_column: options.LabelColumn = None
    id_column: options.IdColumn = None
    dialect: options.Dialect = None

    class5: Literal["refuse", "drop"] = "refuse"
    """What to do with rows of class 5, which is no density class."""

    min_readable: float = 0.95
    """Smallest share of readable images that passes, from 0 to 1."""

    max_pixels: int = 100_000_000
    """Images that claim more pixels are refused before memory is taken."""

    cache_mode: Literal["none", "memory", "disk"] = "disk"
    """Where prepared images are kept: nowhere (each epoch decodes again), in memory, on disk."""

    cache_dir: Path | None = None
    """Folder of the disk cache; $MAMMOGRAPHY_CACHE or the user's cache folder by default."""

    resume: bool = False
    """Go on with the runs of the same options that were interrupted below --outdir."""

    save_embeddings: bool = False
    """Also write embeddings_val.npy, the encoder's features of the validation images."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs and learns."""

    devices: int = 1
    """Processes that train together, one a device; torchrun starts them as well."""

    deterministic: bool = True
    """Ask the device for algorithms that give the same bytes every time."""

    num_workers: int | Literal["auto"] = "auto"
    """Processes that decode; auto is one per core."""

    prefetch_factor: int = 2
    """Batches that each of them keeps ready, with --cache-mode none."""

    persistent_workers: bool = True
    """Keep them from epoch to epoch, with --cache-mode none."""

    mlflow: str | None = None
    """Also log to this MLflow tracking URI; needs the extra mlflow."""

    optuna_trial_id: str | None = None
    """Record this run as a trial of that name in optuna_trial.json."""

    ray_trial_name: str | None = None
    """Record every epoch of this run in ray_NAME.jsonl."""

    ray_logdir: Path | None = None
    """Folder of a copy of that file."""

    def run(self, on_epoch: OnEpoch | None = None) -> TrainDensityResult:
        """Train.

        Args:
            on_epoch: Told every line of the history; it may raise to end the training.

        Raises:
            UsageError: Options that make no sense.
            LabelTableError: The table cannot be read.
            SplitError: The split leaks, or none can be made.
            NothingLeftError: No image is left.
            WeightsError: The weights cannot be had or do not fit.
            StoreError: A folder cannot be used, or embeddings do not match the images.
        """
        from mammography.commands import density_options
        from mammography.commands.density_data import training_data
        from mammography.commands.density_run import do, jobs_of, summarise
        from mammography.runs import RESEARCH_ONLY
        from mammography.training import ranks

        density_options.check(self)
        if self.devices > 1 and ranks.world() == 1:
            result: TrainDensityResult = ranks.launch(self, self.devices)
            return result
        if ranks.rank() > 0:  # the first process speaks for all
            logging.disable(logging.WARNING)
        log.info("mammography train-density: %s", RESEARCH_ONLY)
        data = training_data(self)
        jobs = jobs_of(self, data)
        runs = tuple(DensityRun(*do(self, job, data, on_epoch)) for job in jobs)
        if ranks.rank() == 0:
            summarise(self, [(run.folder, run.metrics) for run in runs])
            if data.exit_code:
                log.warning(
                    "Only %.1f %% of the images could be read, less than --min-readable %.1f %%: "
                    "look at rejects.csv before you use these numbers.",
                    100 * data.readable_share, 100 * self.min_readable,
                )  # fmt: skip
        return TrainDensityResult(runs, data.exit_code)
