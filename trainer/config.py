"""Settings of the trainer (loads without numpy and torch)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainer.susceptibility.config import SusceptibilityConfig

__all__ = [
    "Architecture",
    "BandSetting",
    "Loss",
    "RunConfig",
    "SegmentationConfig",
    "SusceptibilityConfig",
]

Architecture = Literal[
    "unet",
    "unetplusplus",
    "manet",
    "linknet",
    "fpn",
    "pspnet",
    "pan",
    "deeplabv3",
    "deeplabv3plus",
]
Loss = Literal["bce", "dice", "focal", "jaccard", "lovasz"]
BandSetting = Literal["S1", "S2", "S1+S2", "all"]


def _short(value: float) -> str:
    """Return 0.001 as "1e-3"."""
    mantissa, exponent = f"{value:e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


class RunConfig(BaseModel):
    """One training run: what is trained, on which bands, from which random start.

    Examples
    --------
    >>> RunConfig(architecture="unet", encoder="resnet18", loss="dice").name
    'unet-resnet18-dice-1e-3-all-s0'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Architecture = Field(description="Decoder, as named in Ganerod et al. (2024).")
    encoder: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Encoder name of segmentation-models-pytorch (tu-... takes it from timm); "
        "trained from scratch, no weights are downloaded.",
    )
    depth: int | None = Field(
        None,
        ge=3,
        le=5,
        description="Stages of the encoder, each of half the resolution of the one before; none: "
        "the architecture's own number (mostly 5). Fewer suit slumps of a few pixels; faster.",
    )
    loss: Loss = Field("dice", description="Loss; pixels labelled 255 do not count in any of them.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Highest learning rate of AdamW.")
    bands: BandSetting = Field("all", description="Which bands of the stack the model sees.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, crops and dropout.")

    @property
    def name(self) -> str:
        """Folder of the run; two runs of the same name would be the same run."""
        bands = self.bands.replace("+", "-")
        rate = _short(self.learning_rate)
        encoder = self.encoder if self.depth is None else f"{self.encoder}.{self.depth}"
        return f"{self.architecture}-{encoder}-{self.loss}-{rate}-{bands}-s{self.seed}"


def _default_runs() -> tuple[RunConfig, ...]:
    # Full-resolution decoders on shallow encoders: what maps slumps of 50 to 500 m at 10 m best
    # in the time two cores have. Architecture, encoder and loss all vary: members that err alike
    # would add nothing to each other.
    grid: tuple[tuple[Architecture, str, Loss], ...] = (
        ("unet", "tu-resnet10t", "dice"),
        ("unet", "mobilenet_v2", "bce"),
        ("linknet", "tu-resnet10t", "jaccard"),
        ("linknet", "mobilenet_v2", "dice"),
        ("manet", "tu-resnet10t", "bce"),
        ("unetplusplus", "tu-regnetx_002", "dice"),
    )
    return tuple(
        RunConfig(
            architecture=architecture,
            encoder=encoder,
            depth=3,
            loss=loss,
            learning_rate=3e-3,
            seed=seed,
        )
        for seed, (architecture, encoder, loss) in enumerate(grid)
    )


class SegmentationConfig(BaseModel):
    """The runs, how each is trained, and how their ensemble maps an area.

    Examples
    --------
    >>> len({run.name for run in SegmentationConfig().runs})
    6
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: tuple[RunConfig, ...] = Field(
        default_factory=_default_runs,
        min_length=1,
        max_length=1000,
        description="The grid of runs; each is trained by itself.",
    )
    crop: int = Field(
        128, ge=32, le=2048, multiple_of=32, description="Side of a training crop in pixels."
    )
    batch: int = Field(8, ge=2, le=1024, description="Crops in one iteration.")
    iterations: int = Field(25, ge=1, le=100_000, description="Iterations in one epoch.")
    epochs: int = Field(8, ge=1, le=10_000, description="Epochs at most.")
    patience: int = Field(
        50, ge=1, le=10_000, description="Stop after this many epochs without a better F1."
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine",
        description="Learning rate over a run: cosine (a short rise, then down to zero at the "
        "last epoch) or constant, as in the paper.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1, description="Weight decay of AdamW.")
    flips: bool = Field(
        True, description="Mirror crops besides turning them by quarters (the paper only turns)."
    )
    jitter: float = Field(
        0.2,
        ge=0,
        le=2,
        description="Random gain and offset of each band of a crop, as a standard deviation in "
        "units of the scaled band: against learning a few slumps by heart. The paper has none: 0.",
    )
    background_share: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="Share of crops drawn anywhere; the others hold at least one slump pixel.",
    )
    rejected_share: float = Field(
        0.2,
        ge=0,
        le=0.9,
        description="Share of crops around places that reviewers rejected, once there are any.",
    )
    split: Literal["sites", "blocks"] = Field(
        "sites",
        description="What is learned from, chosen on and judged on: whole sites by their role, or "
        "blocks inside each site of role train (one site is then enough). No slump is cut, and "
        "the ensemble is judged on blocks that nothing was fitted or chosen on.",
    )
    split_block: int = Field(
        512,
        ge=32,
        le=65536,
        description="Side of a block in pixels; several crops, or the buffer leaves little.",
    )
    split_buffer: int | None = Field(
        None,
        ge=0,
        le=4096,
        description="Pixels that lie between the parts of a site at least; none: half a crop.",
    )
    split_seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the split by blocks.")
    labels: Literal["hard", "soft"] = Field(
        "hard",
        description="What is learned: labels.tif (slump or not), or labels_soft.tif (share of the "
        "experts who drew a pixel; with the losses bce, dice and jaccard). Scores use labels.tif.",
    )
    ensemble_size: int = Field(
        5,
        ge=1,
        le=1000,
        description="Members: the best so many runs on validation (or all there are); draws at "
        "most where ensemble is greedy.",
    )
    ensemble: Literal["best", "greedy"] = Field(
        "best",
        description="How members are chosen on validation: the ensemble_size best runs, all of "
        "one weight, or greedy (Caruana et al. 2004): up to ensemble_size draws with replacement, "
        "each of the run that helps the mean most; a run drawn twice weighs twice.",
    )
    calibration: Literal["temperature", "none"] = Field(
        "temperature",
        description="Divide the log odds of the mean by one number, fitted on the part of "
        "validation that chose no members, so that probabilities are met; or leave the mean.",
    )
    tta: Literal["none", "d4"] = Field(
        "none",
        description="Let each member see every window in its 8 turns and mirrorings, and take "
        "their mean: eight times as slow.",
    )
    window: int = Field(
        512, ge=128, le=8192, multiple_of=32, description="Side of a prediction window in pixels."
    )
    overlap: int = Field(
        64, ge=0, le=4096, multiple_of=32, description="Pixels that neighbouring windows share."
    )
    prediction_block: int = Field(
        8192,
        ge=512,
        le=65536,
        description="A raster that is longer is mapped in blocks of at most this side in pixels, "
        "each an item of work: several workers, GPUs or machines share it, and memory does not "
        "grow with the raster.",
    )
    prediction_batch: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Windows that a model is given at once; none: 1 on a processor, 16 on a GPU.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where ensembles are scored and maps predicted: auto (a GPU where there is "
        "one), cpu, cuda or cuda:N. Several workers spread over several GPUs.",
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Processor threads of one run. Part of the result: another number may change "
        "the last digits of the weights.",
    )

    @field_validator("runs")
    @classmethod
    def _distinct(cls, runs: tuple[RunConfig, ...]) -> tuple[RunConfig, ...]:
        names = [run.name for run in runs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"the run {twice[0]} stands there twice; change its seed or leave it out"
            )
        return runs

    @property
    def blocks(self) -> dict[str, int] | None:
        """How sites are split by blocks; None where the parts are whole sites.

        Examples
        --------
        >>> SegmentationConfig(split="blocks", crop=128).blocks
        {'block': 512, 'buffer': 64, 'seed': 0}
        """
        if self.split == "sites":
            return None
        buffer = self.crop // 2 if self.split_buffer is None else self.split_buffer
        return {"block": self.split_block, "buffer": buffer, "seed": self.split_seed}

    @model_validator(mode="after")
    def _soft(self) -> SegmentationConfig:
        cannot = [run.name for run in self.runs if run.loss in ("focal", "lovasz")]
        if self.labels == "soft" and cannot:
            raise ValueError(
                f"the run {cannot[0]} cannot learn soft labels; with labels: soft the loss is "
                "bce, dice or jaccard"
            )
        return self

    @model_validator(mode="after")
    def _sizes(self) -> SegmentationConfig:
        if self.crop < 128 and any(run.architecture == "pan" for run in self.runs):
            # Its pyramid halves the encoder's output three times.
            raise ValueError(f"pan needs crops of 128 pixels or more; crop is {self.crop}")
        if 2 * self.overlap > self.window:
            raise ValueError(
                f"overlap {self.overlap} is more than half of window {self.window}; "
                "make the overlap smaller or the window larger"
            )
        if self.window > self.prediction_block:
            raise ValueError(
                f"window {self.window} is larger than prediction_block {self.prediction_block}; "
                "make the block larger or the window smaller"
            )
        return self
