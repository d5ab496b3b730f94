"""The schema of a recipe: one model per kind of run. Error messages and docs/recipes.md use the field descriptions."""

from __future__ import annotations

import json
import re
from typing import Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from bigs_cli.models.config import BiGSConfig, PoolerType
from bigs_cli.recipe.groups import (
    CLOSED,
    BatchSizeWarmup,
    Checkpoint,
    Compute,
    Count,
    Data,
    Distillation,
    Evaluate,
    Logger,
    Loss,
    Masking,
    Mesh,
    Optimizer,
    Place,
    Schedule,
)

_ACCUMULATION = "number of micro-batches per step, computed one after the other to save memory"
_TEACHER = "trained model whose predictions this model also learns (distillation), named like `from`; null: none"
_LOGGERS = "loggers for metrics in addition to metrics.jsonl: tensorboard, wandb"


def _check_parts(key: str, rows: int | None, parts: int) -> None:
    if rows and rows % parts:
        raise ValueError(f"{key} {rows} is not divisible by gradient_accumulation_steps {parts}")


def _check_distillation(distillation: Distillation, teacher: str | None) -> Distillation:
    if teacher is None and distillation != Distillation():
        raise ValueError("`distillation` has no effect without a teacher. Name one with teacher: MODEL")
    return distillation


class PretrainRecipe(BaseModel):
    """Masked-language-model pretraining, from scratch or from another model."""

    model_config = CLOSED

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
    steps: Count = Field(description="number of optimizer steps; the schedule ends with the last one")
    budget: str | None = Field(
        default=None,
        description="time for the whole run, such as 60m, 2h or 90s: a new run measures its speed and replaces steps "
        "by the number of steps that fit; null: steps as given",
    )
    max_tokens: Count | None = Field(
        default=None,
        description="maximum number of training tokens, including padding; the schedule then ends with the step that "
        "reaches it; null: no limit",
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
    def sequence_length(self) -> int:
        """The number of tokens of a row, named as in a recipe for fine-tuning."""
        return self.data.sequence_length

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else float(self.budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.budget[-1]]

    @field_validator("budget", mode="before")
    @classmethod
    def _is_a_time(cls, budget: object) -> object:
        if budget is not None and not re.fullmatch(r"(?=.*[1-9])[0-9]+(\.[0-9]+)?[smh]", str(budget)):
            raise ValueError(f"budget is {budget}, which is not a time such as 60m, 2h or 90s")
        return budget

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
            raise ValueError(f"schedule.warmup_steps is {schedule.warmup_steps}, more than steps, which is {steps}")
        if steps and schedule.kind == "wsd" and schedule.warmup(steps) + schedule.decay_fraction * steps > steps + 1e-6:
            raise ValueError(
                f"The warmup and the decay overlap: schedule.decay_fraction {schedule.decay_fraction:g} of {steps} "
                f"steps leaves less than the warmup's {schedule.warmup(steps):g} steps"
            )
        return schedule


class TaskFiles(BaseModel):
    """A custom task: tables (CSV, TSV, JSONL, Parquet) with a text, or a pair of texts, and a label."""

    model_config = CLOSED

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


class FinetuneRecipe(BaseModel):
    """Fine-tuning a model for a task."""

    model_config = CLOSED

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
        "only for models whose outputs do not depend on padding, by mask_padding: true or attention",
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
