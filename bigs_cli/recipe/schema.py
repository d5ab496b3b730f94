"""The schema of a recipe: one model per kind of run. Field descriptions feed errors and docs/recipes.md."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bigs_cli.core.paths import address_problem
from bigs_cli.models.config import BiGSConfig

_CLOSED = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Logger = Literal["tensorboard", "wandb"]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _no_address(name: str) -> str:
    if (problem := address_problem(name)) is not None:
        raise ValueError(problem.rstrip("."))
    return name


Local = Annotated[str, Field(min_length=1), AfterValidator(_no_address)]
"""A local file or folder, or a name; never an address such as s3://…."""

_ACCUMULATION = "number of parts in which a batch is computed, one after the other, to save memory"
_LOGGERS = "where metrics are sent in addition to metrics.jsonl: tensorboard, wandb"


class SSMGroup(BaseModel):
    """Optimizer settings of the SSM parameters A, C, D and log_step."""

    model_config = _CLOSED

    lr_multiplier: float = Field(default=1.0, ge=0, description="their learning rate, relative to the others")
    weight_decay: float | None = Field(
        default=None, ge=0, description="their weight decay; null: optimizer.weight_decay"
    )


class Optimizer(BaseModel):
    """AdamW. Biases and LayerNorm scales are never decayed."""

    model_config = _CLOSED

    learning_rate: float = Field(gt=0, description="peak learning rate")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay rate of the first moment")
    beta2: float = Field(ge=0, lt=1, description="decay rate of the second moment")
    epsilon: float = Field(default=1e-6, gt=0, description="added to the denominator of the update")
    weight_decay: float = Field(ge=0, description="decoupled weight decay, multiplied by the learning rate")
    clip_norm: float | None = Field(default=None, gt=0, description="maximum gradient norm; null disables clipping")
    ema: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="decay rate of a moving average of the parameters, which is evaluated and used; null: none",
    )
    stop_after_nonfinite: Count = Field(
        default=10,
        description="stop after this many consecutive steps with a NaN or infinite loss or gradient, all skipped",
    )
    ssm: SSMGroup = Field(default_factory=SSMGroup, description="learning rate and weight decay of the SSM parameters")


class Schedule(BaseModel):
    """The learning rate over a run: a linear warmup from 0 to the peak, followed by a decay.

    `wsd` (warmup, stable, decay) stays at the peak until `decay_fraction` of all steps are left.
    Set at most one of `warmup_steps` and `warmup_fraction`; without either there is no warmup.
    """

    model_config = _CLOSED

    kind: Literal["cosine", "linear", "constant", "wsd"] = Field(description="shape of the decay")
    warmup_steps: int | None = Field(default=None, ge=0, description="steps of the warmup")
    warmup_fraction: Fraction | None = Field(default=None, description="warmup as a fraction of all steps")
    min_lr_ratio: Fraction = Field(default=0.0, description="final learning rate, relative to the peak")
    decay_fraction: Fraction = Field(default=0.2, description="wsd: fraction of all steps with decay")

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
        """Return the length of the warmup in a run of `steps` steps; a fraction may end between two steps."""
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
    """How the devices are arranged. The product of the axes is the number of devices."""

    model_config = _CLOSED

    data: int = Field(
        default=-1, ge=-1, description="replicas of the model (data parallelism); -1: all remaining devices"
    )
    fsdp: int = Field(default=1, ge=-1, description="devices that shard the parameters of a replica")
    tensor: int = Field(default=1, ge=-1, description="devices that split every layer")

    @model_validator(mode="after")
    def _sizes(self) -> Mesh:
        sizes = (self.data, self.fsdp, self.tensor)
        if 0 in sizes:
            raise ValueError("A mesh axis has no devices. Set it to at least 1, or to -1 for all remaining devices")
        if sizes.count(-1) > 1:
            raise ValueError("More than one mesh axis is -1, but only one can take all remaining devices")
        return self


class Data(BaseModel):
    """The training data."""

    model_config = _CLOSED

    path: Local = Field(
        description="folder of token shards made by `bigs tokenize`, or of the BiGS authors' HDF5 files",
    )
    validation: Local | None = Field(
        default=None,
        description="other token shards or HDF5 files to validate on: their held-out rows, or all rows if they "
        "have none; null: the held-out rows of path, if any",
    )
    sequence_length: Count = Field(description="tokens per row; must equal that of the shards")


class Masking(BaseModel):
    """Which tokens are predicted, and what replaces them in the input."""

    model_config = _CLOSED

    rate: float = Field(default=0.15, gt=0, lt=1, description="fraction of the tokens to predict")
    max_predictions: Count | None = Field(
        default=None, description="maximum per row; null: rate × sequence_length, rounded up"
    )
    mask_fraction: Fraction = Field(default=0.8, description="fraction of them replaced by [MASK]")
    random_fraction: Fraction = Field(default=0.1, description="fraction replaced by a random token; others stay")
    whole_word: bool = Field(default=False, description="mask whole words instead of single word pieces")

    @model_validator(mode="after")
    def _parts_of_one(self) -> Masking:
        if self.mask_fraction + self.random_fraction > 1 + 1e-9:
            raise ValueError("mask_fraction and random_fraction add up to more than 1")
        return self

    def predictions(self, length: int) -> int:
        """Return the maximum number of predictions in a row of `length` tokens (P)."""
        return self.max_predictions or math.ceil(self.rate * length - 1e-9)


class Checkpoint(BaseModel):
    """When a run is saved and which checkpoints are kept."""

    model_config = _CLOSED

    every_steps: Count = Field(default=1000, description="steps between checkpoints")
    keep: Count = Field(default=2, description="number of most recent checkpoints to keep")
    keep_every: Count | None = Field(
        default=None, description="also keep checkpoints at multiples of this step; null: none"
    )
    keep_best: bool = Field(default=False, description="also keep the checkpoint with the lowest validation loss")


class Evaluate(BaseModel):
    """When the validation loss is measured."""

    model_config = _CLOSED

    every_steps: Count = Field(default=1000, description="steps between evaluations")
    max_batches: Count | None = Field(default=None, description="number of validation batches; null: all")


class BatchSizeWarmup(BaseModel):
    """A batch size that doubles from `start` to `batch_size`, each size for the same number of steps."""

    model_config = _CLOSED

    start: Count = Field(description="rows of the first steps; batch_size must be 2, 4, 8, … times this")
    steps: Count = Field(description="steps until batch_size is reached")


def _check_parts(key: str, rows: int | None, parts: int) -> None:
    if rows and rows % parts:
        raise ValueError(f"{key} {rows} cannot be split into {parts} equal parts")


class PretrainRecipe(BaseModel):
    """Masked-language-model pretraining, from scratch or from another model."""

    model_config = _CLOSED

    kind: Literal["pretrain"] = Field(description="kind of run")
    model: BiGSConfig = Field(description="architecture of the model")
    from_: Local | None = Field(default=None, alias="from", description="model to start from; null: train from scratch")
    data: Data = Field(description="training data")
    masking: Masking = Field(default_factory=Masking, description="masked-language-model objective")
    batch_size: Count = Field(description="rows per step over all devices")
    batch_size_warmup: BatchSizeWarmup | None = Field(
        default=None, description="start with fewer rows per step; null: batch_size throughout"
    )
    gradient_accumulation_steps: Count = Field(default=1, description=_ACCUMULATION)
    steps: Count = Field(description="optimizer steps, and the length of the schedule")
    max_tokens: Count | None = Field(
        default=None, description="stop after this many tokens, padding included; null: no limit"
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="stop after this many minutes, summed over resumptions; null: no limit",
    )
    optimizer: Optimizer = Field(description="AdamW optimizer")
    schedule: Schedule = Field(description="learning rate schedule")
    compute: Compute = Field(default_factory=Compute, description="precision, memory and kernels")
    mesh: Mesh = Field(default_factory=Mesh, description="arrangement of the devices")
    seed: int = Field(
        default=42, ge=0, lt=2**32, description="seed of the initial parameters, the data order, the masks and dropout"
    )
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="when to save the run")
    evaluate: Evaluate = Field(default_factory=Evaluate, description="when to measure the validation loss")
    log_every: Count = Field(default=100, description="steps between log lines")
    loggers: tuple[Logger, ...] = Field(default=(), description=_LOGGERS)

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

    @field_validator("batch_size_warmup")
    @classmethod
    def _doubles_to_the_batch(cls, warmup: BatchSizeWarmup | None, info: ValidationInfo) -> BatchSizeWarmup | None:
        batch_size = info.data.get("batch_size")
        if warmup and batch_size and batch_size not in (warmup.start << doublings for doublings in range(1, 64)):
            raise ValueError(
                f"batch_size {batch_size} is not batch_size_warmup.start {warmup.start} doubled one or more times"
            )
        return warmup

    @field_validator("gradient_accumulation_steps")
    @classmethod
    def _divides_the_batch(cls, parts: int, info: ValidationInfo) -> int:
        warmup = info.data.get("batch_size_warmup")
        _check_parts("batch_size", info.data.get("batch_size"), parts)
        _check_parts("batch_size_warmup.start", warmup and warmup.start, parts)
        return parts

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
    """A custom task: tables (CSV, TSV, JSONL, Parquet) with a text, or a pair of texts, and a label."""

    model_config = _CLOSED

    train: Local = Field(description="file with the training examples (--train FILE)")
    dev: Local = Field(description="file with the dev examples (--dev FILE)")
    test: Local | None = Field(default=None, description="file with test examples; null: none")
    text: str = Field(default="text", min_length=1, description="column of the text, or of the first text of a pair")
    pair: str | None = Field(default=None, min_length=1, description="column of the second text; null: single texts")
    label: str = Field(default="label", min_length=1, description="column of the class or score")
    task_type: Literal["sequence-classification", "regression"] | None = Field(
        default=None,
        description="whether labels are classes or scores (classification is short for sequence-classification); "
        "null: inferred from the labels of the training file",
    )
    labels: tuple[str, ...] | None = Field(
        default=None, description="class names in order; null: those of the training file, sorted"
    )

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, given: object) -> object:
        """Accept `regression: true` or `false` from earlier recipes, and the short name of classification."""
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
    """Fine-tuning a model for one task. Whether padding is masked is a property of the model."""

    model_config = _CLOSED

    kind: Literal["finetune"] = Field(description="kind of run")
    task: str = Field(min_length=1, description="name of the task; custom: the task described by `files`")
    files: TaskFiles | None = Field(default=None, description="files of a custom task; null: a built-in task")
    from_: Local | None = Field(
        default=None,
        alias="from",
        description="model to start from; null: must be given with --from",
    )
    sequence_length: Count = Field(description="every input is truncated or padded to this many tokens")
    epochs: float = Field(gt=0, description="passes over the training set")
    batch_size: Count = Field(description="examples per step over all devices")
    eval_batch_size: Count = Field(default=64, description="examples per evaluation batch")
    gradient_accumulation_steps: Count = Field(default=1, description=_ACCUMULATION)
    optimizer: Optimizer = Field(description="AdamW optimizer")
    schedule: Schedule = Field(description="learning rate schedule")
    head_init: Literal["published", "unit"] = Field(
        "unit",
        description="initialization of new head layers; published: as in the original code; unit: the same, scaled "
        "down to the size of the hidden states they read, so that the loss starts near that of guessing",
    )
    evaluate_every: Count | None = Field(
        default=None, description="steps between evaluations on the dev set; null: one epoch"
    )
    patience: Count | None = Field(
        default=None, description="stop after this many evaluations without improvement; null: never"
    )
    trim_padding: bool | None = Field(
        default=None,
        description="trim each batch to its longest text; null: only for models with mask_padding: true, whose outputs "
        "do not depend on it",
    )
    freeze_ssm: bool = Field(default=False, description="do not train A, C, D, log_step and the token type embeddings")
    max_train_examples: Count | None = Field(
        default=None, description="size of a random subset to train on; null: all examples"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="seed of new layers, the data order and dropout")
    compute: Compute = Field(default_factory=Compute, description="precision, memory and kernels")
    mesh: Mesh = Field(default_factory=Mesh, description="arrangement of the devices")
    log_every: Count = Field(default=50, description="steps between log lines")
    loggers: tuple[Logger, ...] = Field(default=(), description=_LOGGERS)

    @field_validator("gradient_accumulation_steps")
    @classmethod
    def _divides_the_batch(cls, parts: int, info: ValidationInfo) -> int:
        _check_parts("batch_size", info.data.get("batch_size"), parts)
        return parts


Recipe = PretrainRecipe | FinetuneRecipe
