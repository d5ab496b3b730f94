"""The schema of a recipe: one model per kind of run. Error messages and docs/recipes.md use the field descriptions."""

from __future__ import annotations

import json
import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bigs_cli.core.paths import unreadable_url_problem
from bigs_cli.models.config import BiGSConfig, PoolerType

_CLOSED = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Logger = Literal["tensorboard", "wandb"]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _readable(name: str) -> str:
    if (problem := unreadable_url_problem(name)) is not None:
        raise ValueError(problem.rstrip("."))
    return name


Place = Annotated[str, Field(min_length=1), AfterValidator(_readable)]
"""A local path, a URL such as s3://bucket/folder, or a name."""

_ACCUMULATION = "number of micro-batches per step, computed one after the other to save memory"
_TEACHER = "trained model whose predictions this model also learns (distillation), named like `from`; null: none"
_LOGGERS = "loggers for metrics in addition to metrics.jsonl: tensorboard, wandb"


class SSMGroup(BaseModel):
    """Optimizer settings of the SSM parameters A, C, D and log_step."""

    model_config = _CLOSED

    lr_multiplier: float = Field(default=1.0, ge=0, description="learning rate relative to optimizer.learning_rate")
    weight_decay: float | None = Field(default=None, ge=0, description="weight decay; null: optimizer.weight_decay")


class Optimizer(BaseModel):
    """AdamW or Muon. Weight decay is not applied to biases and LayerNorm scales."""

    model_config = _CLOSED

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

    model_config = _CLOSED

    kind: Literal["cosine", "linear", "constant", "wsd"] = Field(description="shape of the decay")
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

    def warmup(self, steps: int) -> float:
        """Return the length of the warmup in a run of `steps` steps; a fraction may end between two steps."""
        return self.warmup_fraction * steps if self.warmup_fraction is not None else float(self.warmup_steps or 0)


class Compute(BaseModel):
    """Precision, memory and kernels. Only `dtype` affects the results."""

    model_config = _CLOSED

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

    model_config = _CLOSED

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

    model_config = _CLOSED

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

    model_config = _CLOSED

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

    def for_validation(self) -> Masking:
        """Return the masking settings for validation.

        Rate and number of predictions are the same in all runs, and so are the masks: validation losses are comparable.
        """
        same = {"rate": type(self).model_fields["rate"].default, "final_rate": None, "max_predictions": None}
        return self.model_copy(update=same)


class Checkpoint(BaseModel):
    """When checkpoints are saved, and which are kept."""

    model_config = _CLOSED

    every_steps: Count = Field(default=1000, description="steps between checkpoints")
    keep: Count = Field(default=2, description="number of most recent checkpoints to keep")
    keep_every: Count | None = Field(
        default=None, description="also keep checkpoints at multiples of this step; null: none"
    )
    keep_best: bool = Field(default=False, description="also keep the checkpoint with the lowest validation loss")


class Evaluate(BaseModel):
    """When the validation loss is measured, and on how much data."""

    model_config = _CLOSED

    every_steps: Count = Field(default=1000, description="steps between evaluations")
    max_batches: Count | None = Field(default=None, description="maximum number of validation batches; null: all")


class BatchSizeWarmup(BaseModel):
    """A batch size that doubles from `start` to `batch_size`, each size for the same number of steps."""

    model_config = _CLOSED

    start: Count = Field(description="initial batch size; batch_size must be 2, 4, 8, … times as large")
    steps: Count = Field(description="number of steps until batch_size is reached")


def _check_parts(key: str, rows: int | None, parts: int) -> None:
    if rows and rows % parts:
        raise ValueError(f"{key} {rows} is not divisible by gradient_accumulation_steps {parts}")


class Distillation(BaseModel):
    """How a model learns from `teacher`.

    The loss is (1 − `weight`) · that of the labels + `weight` · the difference from the teacher's predictions.
    """

    model_config = _CLOSED

    weight: Fraction = Field(default=0.5, description="weight of the teacher's predictions; the labels have the rest")
    temperature: float = Field(
        default=2.0,
        gt=0,
        description="logits of both models are divided by this number: higher values give more weight to the less "
        "probable words or classes",
    )


def _check_distillation(distillation: Distillation, teacher: str | None) -> Distillation:
    if teacher is None and distillation != Distillation():
        raise ValueError("`distillation` has no effect without a teacher. Name one with teacher: MODEL")
    return distillation


class PretrainRecipe(BaseModel):
    """Masked-language-model pretraining, from scratch or from another model."""

    model_config = _CLOSED

    kind: Literal["pretrain"] = Field(description="kind of run")
    model: BiGSConfig = Field(description="architecture of the model")
    from_: Place | None = Field(
        default=None, alias="from", description="model to start from; null: random initialization"
    )
    data: Data = Field(description="training data")
    masking: Masking = Field(default_factory=Masking, description="masked-language-model objective")
    teacher: Place | None = Field(default=None, description=_TEACHER)
    distillation: Distillation = Field(
        default_factory=Distillation, description="how the model learns from its teacher"
    )
    batch_size: Count = Field(description="rows per step, over all devices")
    batch_size_warmup: BatchSizeWarmup | None = Field(
        default=None, description="start with a smaller batch size; null: no warmup"
    )
    gradient_accumulation_steps: Count = Field(default=1, description=_ACCUMULATION)
    steps: Count = Field(description="number of optimizer steps, and length of the schedule")
    budget: str | None = Field(
        default=None,
        pattern=r"^[0-9]+(\.[0-9]+)?[smh]$",
        description="time for the whole run, such as 60m, 2h or 90s: a new run measures its speed and replaces steps "
        "by the number of steps that fit; null: steps as given",
    )
    max_tokens: Count | None = Field(
        default=None, description="stop after this many tokens, including padding; null: no limit"
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        description="stop after this many minutes, including the time before the run was resumed; null: no limit",
    )
    optimizer: Optimizer = Field(description="optimizer")
    schedule: Schedule = Field(description="learning rate schedule")
    compute: Compute = Field(default_factory=Compute, description="precision, memory and kernels")
    mesh: Mesh = Field(default_factory=Mesh, description="device mesh")
    seed: int = Field(
        default=42, ge=0, lt=2**32, description="random seed of initial parameters, data order, masks and dropout"
    )
    checkpoint: Checkpoint = Field(
        default_factory=Checkpoint, description="when to save checkpoints, and which to keep"
    )
    evaluate: Evaluate = Field(default_factory=Evaluate, description="when to measure the validation loss")
    log_every: Count = Field(default=100, description="steps between log entries")
    loggers: tuple[Logger, ...] = Field(default=(), description=_LOGGERS)

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else float(self.budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.budget[-1]]

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

    @field_validator("distillation")
    @classmethod
    def _has_a_teacher(cls, distillation: Distillation, info: ValidationInfo) -> Distillation:
        return _check_distillation(distillation, info.data.get("teacher"))

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

    train: Place = Field(description="file with the training set; command-line option: --train FILE")
    dev: Place = Field(description="file with the dev set; command-line option: --dev FILE")
    test: Place | None = Field(default=None, description="file with the test set; null: none")
    text: str = Field(default="text", min_length=1, description="column of the text, or of the first text of a pair")
    pair: str | None = Field(
        default=None, min_length=1, description="column of the second text of a pair; null: single texts"
    )
    label: str = Field(default="label", min_length=1, description="column of the class or score")
    negative: str | None = Field(
        default=None, min_length=1, description="embedding: column of a text that does not belong to `text`; null: none"
    )
    task_type: Literal["sequence-classification", "multi-label", "regression", "embedding"] | None = Field(
        default=None,
        description="sequence-classification (short: classification) for classes, multi-label for any number of "
        "labels per text, regression for scores, embedding for sentence embeddings; null: inferred from the labels in "
        "the training file",
    )
    objective: Literal["scores", "ranking"] | None = Field(
        default=None,
        description="embedding: learn the scores of pairs, or ranking: to find the text that belongs to another one; "
        "null: scores if the training file has the column `label`",
    )
    evaluation: Literal["scores", "retrieval"] | None = Field(
        default=None,
        description="embedding: correlation with the scores of the dev set, or retrieval of the second texts of its "
        "pairs; null: scores if it has the column `label`",
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        description="multi-label: what separates labels in a cell; null: cells are lists, or have one label",
    )
    threshold: float = Field(
        default=0.5, gt=0, lt=1, description="multi-label: probability from which a label is predicted"
    )
    labels: tuple[str, ...] | None = Field(
        default=None, description="class names in order; null: those in the training file, sorted"
    )

    @model_validator(mode="before")
    @classmethod
    def _older_names(cls, given: object) -> object:
        """Accept `regression: true` or `false` of earlier releases, and `task_type: classification`."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        older = values.pop("regression", None)
        if older not in (None, True, False):
            raise ValueError("files.regression must be true or false. Use files.task_type: regression instead")
        if values.get("task_type") is None and (older or (older is False and values.get("labels"))):
            values["task_type"] = "regression" if older else "sequence-classification"
        if values.get("task_type") == "classification":
            values["task_type"] = "sequence-classification"
        labels = values.get("labels")
        if isinstance(labels, list | tuple):
            # Labels such as 0 or true need no quotes.
            values["labels"] = tuple(
                json.dumps(name) if isinstance(name, bool | int | float) else name for name in labels
            )
        return values

    @model_validator(mode="after")
    def _scores_have_no_classes(self) -> TaskFiles:
        if self.task_type in ("regression", "embedding") and self.labels is not None:
            raise ValueError(
                f"files.task_type is {self.task_type}, but files.labels lists classes. Set one of them to null"
            )
        if self.task_type != "embedding" and (self.objective or self.evaluation or self.negative):
            raise ValueError("files.objective, files.evaluation and files.negative need files.task_type: embedding")
        return self


class Loss(BaseModel):
    """The loss of a task: the first two keys are for tasks with classes, the others for sentence embeddings."""

    model_config = _CLOSED

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


class FinetuneRecipe(BaseModel):
    """Fine-tuning a model for a task."""

    model_config = _CLOSED

    kind: Literal["finetune"] = Field(description="kind of run")
    task: str = Field(min_length=1, description="name of the task; custom: the task described by `files`")
    files: TaskFiles | None = Field(default=None, description="files of a custom task; null: a built-in task")
    from_: Place | None = Field(
        default=None,
        alias="from",
        description="model to start from; null: must be given with --from",
    )
    sequence_length: Count = Field(description="number of tokens to which inputs are truncated or padded")
    epochs: float = Field(gt=0, description="number of passes over the training set")
    batch_size: Count = Field(description="examples per step, over all devices")
    eval_batch_size: Count = Field(default=64, description="examples per evaluation batch")
    gradient_accumulation_steps: Count = Field(default=1, description=_ACCUMULATION)
    optimizer: Optimizer = Field(description="optimizer")
    schedule: Schedule = Field(description="learning rate schedule")
    loss: Loss = Field(default_factory=Loss, description="loss of the task")
    teacher: Place | None = Field(default=None, description=_TEACHER)
    distillation: Distillation = Field(
        default_factory=Distillation, description="how the model learns from its teacher"
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="model.hidden_dropout_prob of the fine-tuned model; null: that of the start model",
    )
    pooler_type: PoolerType | None = Field(
        default=None, description="model.pooler_type of the fine-tuned model; null: that of the start model"
    )
    head_init: Literal["published", "unit"] = Field(
        "unit",
        description="initialization of new head layers; published: as in the original implementation; unit: the same, "
        "scaled down where necessary so that the outputs of the new layers are small and the initial loss is near the "
        "chance level",
    )
    evaluate_every: Count | None = Field(
        default=None, description="steps between evaluations on the dev set; null: evaluate after every epoch"
    )
    patience: Count | None = Field(
        default=None, description="stop after this many evaluations without improvement; null: no early stopping"
    )
    trim_padding: bool | None = Field(
        default=None,
        description="trim batches to their longest text, and put examples of similar length into the same batch; null: "
        "only for models with mask_padding: true, whose outputs do not depend on padding",
    )
    freeze_ssm: bool = Field(default=False, description="freeze A, C, D, log_step and the token type embeddings")
    max_train_examples: Count | None = Field(
        default=None, description="size of a random subset to train on; null: all examples"
    )
    seed: int = Field(default=42, ge=0, lt=2**32, description="random seed of new layers, data order and dropout")
    compute: Compute = Field(default_factory=Compute, description="precision, memory and kernels")
    mesh: Mesh = Field(default_factory=Mesh, description="device mesh")
    log_every: Count = Field(default=50, description="steps between log entries")
    loggers: tuple[Logger, ...] = Field(default=(), description=_LOGGERS)

    @field_validator("distillation")
    @classmethod
    def _has_a_teacher(cls, distillation: Distillation, info: ValidationInfo) -> Distillation:
        return _check_distillation(distillation, info.data.get("teacher"))

    @field_validator("gradient_accumulation_steps")
    @classmethod
    def _divides_the_batch(cls, parts: int, info: ValidationInfo) -> int:
        _check_parts("batch_size", info.data.get("batch_size"), parts)
        return parts


Recipe = PretrainRecipe | FinetuneRecipe
