"""The groups of keys in a recipe, one model each. Error messages and docs/recipes.md use the field descriptions."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from bigs_cli.core.paths import unreadable_url_problem

CLOSED = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
"""The settings of all models of a recipe."""

Count = Annotated[int, Field(ge=1)]
Logger = Literal["tensorboard", "wandb"]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _readable(name: str) -> str:
    if (problem := unreadable_url_problem(name)) is not None:
        raise ValueError(problem.rstrip("."))
    return name


Place = Annotated[str, Field(min_length=1), AfterValidator(_readable)]
"""A local path, a URL such as s3://bucket/folder, or a name."""


class SSMGroup(BaseModel):
    """Optimizer settings of the SSM parameters A, C, D and log_step."""

    model_config = CLOSED

    lr_multiplier: float = Field(default=1.0, ge=0, description="learning rate relative to optimizer.learning_rate")
    weight_decay: float | None = Field(default=None, ge=0, description="weight decay; null: optimizer.weight_decay")


class Optimizer(BaseModel):
    """AdamW or Muon. Weight decay is not applied to biases and LayerNorm scales."""

    model_config = CLOSED

    name: Literal["adamw", "muon"] = Field(
        default="adamw",
        description="adamw, or muon: Muon for the dense kernels of the layers, AdamW for all other parameters",
    )
    learning_rate: float = Field(gt=0, description="peak learning rate")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay rate of the first moment")
    beta2: float = Field(ge=0, lt=1, description="decay rate of the second moment")
    epsilon: float = Field(default=1e-6, gt=0, description="added to the denominator of the update")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="muon: decay rate of the momentum")
    weight_decay: float = Field(ge=0, description="decoupled weight decay, multiplied by the learning rate")
    clip_norm: float | None = Field(default=None, gt=0, description="maximum gradient norm; null disables clipping")
    ema: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="decay rate of an exponential moving average of the parameters, which is then used for evaluation "
        "and export; null: none",
    )
    stop_after_nonfinite: Count = Field(
        default=10,
        description="stop after this many consecutive steps with a NaN or infinite loss or gradient; such steps are "
        "skipped",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="learning rate of each layer relative to the one above; the head has the full one, the embeddings "
        "the lowest",
    )
    ssm: SSMGroup = Field(default_factory=SSMGroup, description="settings of the SSM parameters A, C, D and log_step")


class Schedule(BaseModel):
    """The learning rate schedule: a linear warmup from 0 to the peak, followed by a decay.

    `wsd` (warmup, stable, decay) stays at the peak until the last `decay_fraction` of all steps.
    Set at most one of `warmup_steps` and `warmup_fraction`; by default, there is no warmup.
    """

    model_config = CLOSED

    kind: Literal["cosine", "linear", "constant", "wsd"] = Field(
        description="shape of the decay; wsd (warmup, stable, decay): none until the last decay_fraction of all steps"
    )
    warmup_steps: int | None = Field(default=None, ge=0, description="number of warmup steps")
    warmup_fraction: Fraction | None = Field(default=None, description="warmup steps as a fraction of all steps")
    min_lr_ratio: Fraction = Field(default=0.0, description="final learning rate relative to the peak")
    decay_fraction: Fraction = Field(default=0.2, description="wsd: decay steps as a fraction of all steps")

    @model_validator(mode="before")
    @classmethod
    def _no_warmup_by_default(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("warmup_steps") is None and given.get("warmup_fraction") is None:
            return {**given, "warmup_steps": 0}
        return given

    @model_validator(mode="after")
    def _one_warmup(self) -> Schedule:
        if self.warmup_steps is not None and self.warmup_fraction is not None:
            raise ValueError("warmup_steps and warmup_fraction are both set. Set one of them to null")
        return self

    @model_validator(mode="after")
    def _phases_do_not_overlap(self) -> Schedule:
        if self.kind == "wsd" and (self.warmup_fraction or 0) + self.decay_fraction > 1 + 1e-6:
            raise ValueError(
                f"The warmup and the decay overlap: warmup_fraction {self.warmup_fraction:g} and decay_fraction "
                f"{self.decay_fraction:g} are more than all steps. Lower one of them"
            )
        return self

    def warmup(self, steps: int) -> float:
        """Return the length of the warmup in a run of `steps` steps; a fraction may end between two steps."""
        return self.warmup_fraction * steps if self.warmup_fraction is not None else float(self.warmup_steps or 0)


class Compute(BaseModel):
    """Precision, memory and kernels. Only `dtype` affects the results."""

    model_config = CLOSED

    dtype: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="data type of the activations; auto: bfloat16 if matrix products are faster in it on this machine, "
        "else float32",
    )
    mixing: Literal["auto", "dense", "chunked"] = Field(
        default="auto",
        description="algorithm that applies the SSMs; auto: the fastest for this length and machine",
    )
    remat: Literal["none", "layer"] = Field(
        default="none",
        description="rematerialization; layer: recompute each layer in the backward pass to save memory",
    )


class Mesh(BaseModel):
    """The device mesh. The product of the axes is the number of devices."""

    model_config = CLOSED

    data: int = Field(
        default=-1, ge=-1, description="data parallelism: number of model replicas; -1: all remaining devices"
    )
    fsdp: int = Field(default=1, ge=-1, description="number of devices over which parameters are sharded")
    sequence: int = Field(default=1, ge=-1, description="number of devices that split each row of tokens")
    tensor: int = Field(default=1, ge=-1, description="tensor parallelism: number of devices that split each layer")

    @model_validator(mode="after")
    def _sizes(self) -> Mesh:
        sizes = (self.data, self.fsdp, self.sequence, self.tensor)
        if 0 in sizes:
            raise ValueError("A mesh axis has no devices. Set it to at least 1, or to -1 for all remaining devices")
        if sizes.count(-1) > 1:
            raise ValueError("More than one mesh axis is -1, but only one can take all remaining devices")
        return self


class Data(BaseModel):
    """The training data."""

    model_config = CLOSED

    path: Place = Field(
        description="folder of token shards from `bigs tokenize`, or of the BiGS authors' HDF5 files",
    )
    validation: Place | None = Field(
        default=None,
        description="other token shards or HDF5 files to validate on: their held-out rows, or all rows if none are "
        "held out; null: the held-out rows of data.path, if any",
    )
    sequence_length: Count = Field(description="tokens per row, which must match the shards")


class Masking(BaseModel):
    """Selection of the predicted tokens, and their replacement in the input."""

    model_config = CLOSED

    rate: float = Field(default=0.15, gt=0, lt=1, description="fraction of the tokens that are predicted")
    final_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="fraction at the last step, to which rate changes linearly; null: rate does not change. Validation "
        "always predicts 15%",
    )
    max_predictions: Count | None = Field(
        default=None,
        description="maximum number of predictions per row; null: the larger of rate and final_rate, times "
        "sequence_length, rounded up",
    )
    mask_fraction: Fraction = Field(default=0.8, description="fraction of the predicted tokens replaced by [MASK]")
    random_fraction: Fraction = Field(
        default=0.1, description="fraction of the predicted tokens replaced by a random token; the rest is unchanged"
    )
    whole_word: bool = Field(default=False, description="mask whole words instead of word pieces")

    @model_validator(mode="after")
    def _parts_of_one(self) -> Masking:
        if self.mask_fraction + self.random_fraction > 1 + 1e-9:
            raise ValueError("mask_fraction and random_fraction add up to more than 1. Lower one of them")
        return self

    def predictions(self, length: int) -> int:
        """Return the maximum number of predictions in a row of `length` tokens (P)."""
        return self.max_predictions or math.ceil(max(self.rate, self.final_rate or 0) * length - 1e-9)

    def rate_at(self, step: int, steps: int) -> float:
        """Return the fraction of the tokens that are predicted in step `step`, counted from 0, of `steps`."""
        if self.final_rate is None or steps < 2:
            return self.rate
        return self.rate + (self.final_rate - self.rate) * step / (steps - 1)


VALIDATION = Masking()
"""Masking for validation: the same for all recipes, so that validation losses are comparable."""


class Checkpoint(BaseModel):
    """When checkpoints are saved, and which are kept."""

    model_config = CLOSED

    every_steps: Count = Field(default=1000, description="steps between checkpoints")
    keep: Count = Field(default=2, description="number of most recent checkpoints to keep")
    keep_every: Count | None = Field(
        default=None, description="also keep checkpoints at multiples of this step; null: none"
    )
    keep_best: bool = Field(default=False, description="also keep the checkpoint with the lowest validation loss")


class Evaluate(BaseModel):
    """When the validation loss is measured, and on how much data."""

    model_config = CLOSED

    every_steps: Count = Field(default=1000, description="steps between evaluations")
    max_batches: Count | None = Field(default=None, description="maximum number of validation batches; null: all")


class BatchSizeWarmup(BaseModel):
    """A batch size that doubles from `start` to `batch_size`, each size for the same number of steps."""

    model_config = CLOSED

    start: Count = Field(description="initial batch size; batch_size must be 2, 4, 8, … times as large")
    steps: Count = Field(description="number of steps until batch_size is reached")


class Distillation(BaseModel):
    """How a model learns from `teacher`.

    The loss is (1 − `weight`) · that of the labels + `weight` · the difference from the teacher's predictions.
    """

    model_config = CLOSED

    weight: Fraction = Field(default=0.5, description="weight of the teacher's predictions; the labels have the rest")
    temperature: float = Field(
        default=2.0,
        gt=0,
        description="logits of both models are divided by this number: higher values give more weight to the less "
        "probable words or classes",
    )


class Loss(BaseModel):
    """The loss of a task: the first two keys are for tasks with classes, the others for sentence embeddings."""

    model_config = CLOSED

    class_weights: Literal["balanced"] | None = Field(
        default=None,
        description="balanced: weight each example with the inverse frequency of its class in the training set; null: "
        "equally",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="fraction of the target probability that is spread over all classes"
    )

    temperature: float = Field(
        default=0.05, gt=0, description="sentence embeddings: cosine similarities are divided by this number"
    )
    dimensions: tuple[Count, ...] = Field(
        default=(),
        description="sentence embeddings: also train the first k dimensions, for each k (Matryoshka), so that "
        "embeddings can be truncated",
    )

    @property
    def is_for_classes(self) -> bool:
        """Whether a value is set that needs classes."""
        return self.class_weights is not None or self.label_smoothing != 0

    @property
    def is_for_embeddings(self) -> bool:
        """Whether a value is set that needs sentence embeddings."""
        return bool(self.dimensions) or self.temperature != type(self).model_fields["temperature"].default
