"""What a recipe may say: one typed model per kind of run, every field described once for help and errors."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bigs_cli.core.paths import address_problem
from bigs_cli.models.config import BiGSConfig

_CLOSED = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Tracker = Literal["tensorboard", "wandb"]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _no_address(name: str) -> str:
    if (problem := address_problem(name)) is not None:
        raise ValueError(problem.rstrip("."))
    return name


Local = Annotated[str, Field(min_length=1), AfterValidator(_no_address)]
"""A file or folder on this machine, or the name of something else; no address."""

_TRACK = "where the figures go besides metrics.jsonl: tensorboard, wandb"


class Kernel(BaseModel):
    """How the SSM parameters A, C, D and log_step differ from the rest."""

    model_config = _CLOSED

    lr_multiplier: float = Field(default=1.0, ge=0, description="their learning rate, relative to the rest")
    weight_decay: float | None = Field(default=None, ge=0, description="their weight decay; null: the same as the rest")


class Optimizer(BaseModel):
    """AdamW; biases and LayerNorm scales are never decayed."""

    model_config = _CLOSED

    learning_rate: float = Field(gt=0, description="learning rate at its peak")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the mean of the gradients")
    beta2: float = Field(ge=0, lt=1, description="decay of the mean of their squares")
    epsilon: float = Field(default=1e-6, gt=0, description="added to the root of that mean")
    weight_decay: float = Field(ge=0, description="decay per step, times the learning rate")
    clip_norm: float | None = Field(default=None, gt=0, description="longest gradient; null: any length")
    ema: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="also keep a moving average of the parameters, with this decay a step, and use it; null: none",
    )
    stop_after_nonfinite: Count = Field(
        default=10,
        description="stop after this many steps in a row with a loss or gradient that is not finite; each is skipped",
    )
    kernel: Kernel = Field(default_factory=Kernel, description="the SSM parameters' own learning rate and decay")


class Schedule(BaseModel):
    """The learning rate over a run: linear from 0 to the peak, then down by `kind`.

    `wsd` (warmup, stable, decay) stays at the peak until `decay_fraction` of all steps are left.
    Exactly one of `warmup_steps` and `warmup_fraction` is set; with neither given, `warmup_steps` is 0.
    """

    model_config = _CLOSED

    kind: Literal["cosine", "linear", "constant", "wsd"] = Field(description="the way down from the peak")
    warmup_steps: int | None = Field(default=None, ge=0, description="steps from 0 to the peak")
    warmup_fraction: Fraction | None = Field(default=None, description="the same as a fraction of all steps")
    final_fraction: Fraction = Field(default=0.0, description="the last learning rate, relative to the peak")
    decay_fraction: Fraction = Field(default=0.2, description="wsd: the fraction of all steps on which it goes down")

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

    def warmup(self, steps: int) -> float:
        """Return how many of `steps` steps the warmup takes; as a fraction of them it may end between two."""
        return self.warmup_fraction * steps if self.warmup_fraction is not None else float(self.warmup_steps or 0)


class Compute(BaseModel):
    """How the model is computed. Only `dtype` changes the results."""

    model_config = _CLOSED

    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description="type of the activations")
    mixing: Literal["auto", "dense", "chunked"] = Field(
        default="auto",
        description="how the SSMs are applied; auto: the fastest at this length on this machine",
    )
    remat: Literal["none", "layer"] = Field(
        default="none",
        description="layer: recompute each layer in the backward pass, to save memory",
    )


class Mesh(BaseModel):
    """How the devices are arranged; the sizes multiply to their number."""

    model_config = _CLOSED

    data: int = Field(
        default=-1, ge=-1, description="copies of the model, each on its own rows; -1: all devices left over"
    )
    fsdp: int = Field(default=1, ge=-1, description="devices that also share out one copy's parameters")
    tensor: int = Field(default=1, ge=-1, description="devices that split every layer")

    @model_validator(mode="after")
    def _sizes(self) -> Mesh:
        sizes = (self.data, self.fsdp, self.tensor)
        if 0 in sizes:
            raise ValueError("A mesh axis has no devices. Give it at least 1, or -1 for all left over")
        if sizes.count(-1) > 1:
            raise ValueError("More than one mesh axis is -1, but only one can take all devices left over")
        return self


class Data(BaseModel):
    """The token shards to train on."""

    model_config = _CLOSED

    path: Local = Field(
        description="folder of token shards, as `bigs tokenize` writes it, or of the BiGS authors' HDF5 files",
    )
    validation: Local | None = Field(
        default=None,
        description="folder of other token shards or HDF5 files to validate on: their held-out rows, or all rows if "
        "none were held out; null: the held-out rows of path, if there are any",
    )
    sequence_length: Count = Field(description="tokens in a row; the shards must have the same")


class Masking(BaseModel):
    """Which tokens are to be predicted, and what stands in their place."""

    model_config = _CLOSED

    rate: float = Field(default=0.15, gt=0, lt=1, description="part of the tokens to predict")
    max_predictions: Count | None = Field(
        default=None, description="most in a row; null: rate × sequence_length, rounded up"
    )
    mask_fraction: Fraction = Field(default=0.8, description="part of those that [MASK] replaces")
    random_fraction: Fraction = Field(default=0.1, description="part that a random token replaces; the others stay")
    whole_word: bool = Field(default=False, description="predict all pieces of a word, or none of them")

    @model_validator(mode="after")
    def _parts_of_one(self) -> Masking:
        if self.mask_fraction + self.random_fraction > 1 + 1e-9:
            raise ValueError("mask_fraction and random_fraction add up to more than 1")
        return self

    def predictions(self, length: int) -> int:
        """Return the most predictions in a row of `length` tokens (P); by default rate × length, rounded up."""
        return self.max_predictions or math.ceil(self.rate * length - 1e-9)


class Checkpoint(BaseModel):
    """When a run is saved."""

    model_config = _CLOSED

    every_steps: Count = Field(default=1000, description="steps between two checkpoints")
    keep: Count = Field(default=2, description="the newest checkpoints kept")
    keep_every: Count | None = Field(default=None, description="also keep those whose step this divides; null: none")
    keep_best: bool = Field(default=False, description="also save and keep the one of least held-out loss")


class Evaluate(BaseModel):
    """When the held-out loss is measured."""

    model_config = _CLOSED

    every_steps: Count = Field(default=1000, description="steps between two measurements")
    max_batches: Count | None = Field(default=None, description="batches measured; null: all that were held out")


class BatchRamp(BaseModel):
    """A batch that begins small and doubles until it is full, each size for as many steps."""

    model_config = _CLOSED

    start: Count = Field(description="rows of the first steps; batch_size is this times 2, 4, 8, …")
    steps: Count = Field(description="steps until the batch is full")


class PretrainRecipe(BaseModel):
    """A masked-language-model run, from a fresh model or from another one."""

    model_config = _CLOSED

    kind: Literal["pretrain"] = Field(description="what the recipe is for")
    model: BiGSConfig = Field(description="size and shape of the model")
    from_: Local | None = Field(default=None, alias="from", description="model to start from; null: a fresh one")
    data: Data = Field(description="the token shards to train on")
    masking: Masking = Field(default_factory=Masking, description="which tokens are predicted")
    batch_size: Count = Field(description="rows per step, over all devices")
    batch_ramp: BatchRamp | None = Field(
        default=None, description="begin with fewer rows per step; null: batch_size throughout"
    )
    accumulate: Count = Field(default=1, description="parts a step's rows are computed in, one after the other")
    steps: Count = Field(description="optimizer steps in all; the schedule is over these, wherever the run ends")
    max_tokens: Count | None = Field(
        default=None, description="end with the step that reaches this many tokens, padding included; null: no limit"
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="end with the step after which the run, resumed or not, has taken this long; null: no limit",
    )
    optimizer: Optimizer = Field(description="AdamW")
    schedule: Schedule = Field(description="the learning rate over the run")
    compute: Compute = Field(default_factory=Compute, description="how the arithmetic is done")
    mesh: Mesh = Field(default_factory=Mesh, description="how the devices are arranged")
    seed: int = Field(
        default=42, ge=0, lt=2**32, description="of the initial values, the order, the masks and the dropout"
    )
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="when the run is saved")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="when the held-out loss is measured")
    log_every: Count = Field(default=100, description="steps between two lines of the log")
    track: tuple[Tracker, ...] = Field(default=(), description=_TRACK)

    @field_validator("model")
    @classmethod
    def _predicts_words(cls, model: BiGSConfig) -> BiGSConfig:
        if model.head != "masked-lm":
            raise ValueError(f"Pretraining trains the masked-lm head, not {model.head}. Leave model.head out")
        return model

    @field_validator("data")
    @classmethod
    def _fits_the_model(cls, data: Data, info: ValidationInfo) -> Data:
        model = info.data.get("model")
        if model and data.sequence_length > model.max_position_embeddings:
            raise ValueError(
                f"data.sequence_length is {data.sequence_length}, but the model takes at most "
                f"model.max_position_embeddings = {model.max_position_embeddings}. Change one of the two"
            )
        return data

    @field_validator("masking")
    @classmethod
    def _fits_the_row(cls, masking: Masking, info: ValidationInfo) -> Masking:
        data = info.data.get("data")
        if data and masking.max_predictions and masking.max_predictions > data.sequence_length:
            raise ValueError(
                f"masking.max_predictions is {masking.max_predictions}, but a row has {data.sequence_length} tokens"
            )
        return masking

    @field_validator("batch_ramp")
    @classmethod
    def _doubles_to_the_batch(cls, ramp: BatchRamp | None, info: ValidationInfo) -> BatchRamp | None:
        batch_size = info.data.get("batch_size")
        if ramp and batch_size and batch_size not in (ramp.start << doublings for doublings in range(1, 64)):
            raise ValueError(
                f"batch_size {batch_size} is not batch_ramp.start {ramp.start} doubled once or several times"
            )
        return ramp

    @field_validator("accumulate")
    @classmethod
    def _divides_the_batch(cls, accumulate: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size")
        if batch_size and batch_size % accumulate:
            raise ValueError(f"batch_size {batch_size} cannot be split into {accumulate} equal parts")
        ramp = info.data.get("batch_ramp")
        if ramp and ramp.start % accumulate:
            raise ValueError(f"batch_ramp.start {ramp.start} cannot be split into {accumulate} equal parts")
        return accumulate

    @field_validator("schedule")
    @classmethod
    def _ends_its_warmup(cls, schedule: Schedule, info: ValidationInfo) -> Schedule:
        steps = info.data.get("steps")
        if steps and (schedule.warmup_steps or 0) > steps:
            raise ValueError(f"schedule.warmup_steps is {schedule.warmup_steps}, but the run has {steps} steps")
        if steps and schedule.kind == "wsd" and schedule.warmup(steps) + schedule.decay_fraction * steps > steps + 1e-6:
            raise ValueError(
                f"The warmup and the decay overlap: schedule.decay_fraction {schedule.decay_fraction:g} of {steps} "
                f"steps leaves less than the warmup's {schedule.warmup(steps):g} steps"
            )
        return schedule


class TaskFiles(BaseModel):
    """A task of one's own: tables (CSV, TSV, JSONL, Parquet) with a text, or a pair of texts, and a label."""

    model_config = _CLOSED

    train: Local = Field(description="file with the examples to train on (--train FILE)")
    dev: Local = Field(description="file with the examples to measure on (--dev FILE)")
    test: Local | None = Field(default=None, description="file with further examples; null: none")
    text: str = Field(default="text", min_length=1, description="column with the (first) text")
    pair: str | None = Field(default=None, min_length=1, description="column with the second text; null: single texts")
    label: str = Field(default="label", min_length=1, description="column with the class or score")
    task_type: Literal["sequence-classification", "regression"] | None = Field(
        default=None,
        description="whether labels are classes or scores; classification is short for sequence-classification; "
        "null: what the labels of the training file suggest",
    )
    labels: tuple[str, ...] | None = Field(
        default=None, description="the classes in order; null: those that the training file has, in order"
    )

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, given: object) -> object:
        """Take `regression: true` or `false`, as earlier recipes have it, and the short name of classification."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        older = values.pop("regression", None)
        if older not in (None, True, False):
            raise ValueError("files.regression is true or false. Use files.task_type: regression instead")
        if values.get("task_type") is None and (older or (older is False and values.get("labels"))):
            values["task_type"] = "regression" if older else "sequence-classification"
        if values.get("task_type") == "classification":
            values["task_type"] = "sequence-classification"
        labels = values.get("labels")
        if isinstance(labels, list | tuple):
            # Classes called 0 and 1, or true and false, need no quotes.
            values["labels"] = tuple(json.dumps(one) if isinstance(one, bool | int | float) else one for one in labels)
        return values

    @model_validator(mode="after")
    def _scores_have_no_classes(self) -> TaskFiles:
        if self.task_type == "regression" and self.labels is not None:
            raise ValueError("files.task_type is regression, but files.labels lists classes. Set one of them to null")
        return self


class FinetuneRecipe(BaseModel):
    """Training a model for one task. How padding is treated is the model's own affair."""

    model_config = _CLOSED

    kind: Literal["finetune"] = Field(description="what the recipe is for")
    task: str = Field(min_length=1, description="name of the task; custom: that of `files`")
    files: TaskFiles | None = Field(default=None, description="where a task of one's own lies; null: a known task")
    from_: Local | None = Field(
        default=None,
        alias="from",
        description="model to start from; null: to be named with --from",
    )
    sequence_length: Count = Field(description="every input is cut or padded to this many tokens")
    epochs: float = Field(gt=0, description="passes over the training examples")
    batch_size: Count = Field(description="examples per step, over all devices")
    eval_batch_size: Count = Field(default=64, description="examples per step of an evaluation")
    optimizer: Optimizer = Field(description="AdamW")
    schedule: Schedule = Field(description="the learning rate over the run")
    head_init: Literal["published", "unit"] = Field(
        "unit",
        description="how the layers of a head begin that the start model lacks: as published; or that, scaled down to "
        "the hidden states that they read, so that the loss starts near that of guessing",
    )
    evaluate_every: Count | None = Field(
        default=None, description="steps between two measurements on the dev set; null: an epoch"
    )
    patience: Count | None = Field(
        default=None, description="end after this many measurements that brought nothing better; null: go to the end"
    )
    trim_padding: bool | None = Field(
        default=None,
        description="cut batches to their longest text; null: where that changes nothing, with a model that does not "
        "read its padding (mask_padding: true). true changes the outputs of those that do",
    )
    freeze: bool = Field(default=False, description="keep A, C, D, log_step and the token type embeddings as they are")
    max_train_examples: Count | None = Field(
        default=None, description="train on a random part this large; null: on all"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="of the new head, the order and the dropout")
    compute: Compute = Field(default_factory=Compute, description="how the arithmetic is done")
    mesh: Mesh = Field(default_factory=Mesh, description="how the devices are arranged")
    log_every: Count = Field(default=50, description="steps between two lines of the log")
    track: tuple[Tracker, ...] = Field(default=(), description=_TRACK)


Recipe = PretrainRecipe | FinetuneRecipe
