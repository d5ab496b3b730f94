"""`bigs finetune`: train a model with a task head on a labelled task, and keep the best checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.checkpoints.config_json import read_config, write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.environment import describe_machine
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json, write_lines
from bigs_cli.core.metric_names import by_split, key_in_words, log_key, percent, split_in_words, with_splits
from bigs_cli.core.places import place_of
from bigs_cli.core.processes import broadcast, is_main_process
from bigs_cli.core.wording import counted
from bigs_cli.data.encode import Encoded, check_token_types
from bigs_cli.data.tokenizer import fingerprint, save_tokenizer
from bigs_cli.evaluation.task import Split, TaskEvaluator
from bigs_cli.models import sharding as meshes
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Apply, Parameters, make_apply, memoize
from bigs_cli.models.losses import with_teacher
from bigs_cli.recipe import BiGSConfig, FinetuneRecipe
from bigs_cli.recipe.groups import Distillation, Loss
from bigs_cli.reporting.console import err, is_screen, progress, warn_of_trimming
from bigs_cli.reporting.loggers import open_loggers
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.splits import data_digest, dev_splits, load_examples
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import TaskType, type_of
from bigs_cli.training.dtype import with_dtype
from bigs_cli.training.error_messages import translate_errors
from bigs_cli.training.head_init import ROWS, unit_head
from bigs_cli.training.job import Job, initial_parameters
from bigs_cli.training.loop import Training, place_parameters, train
from bigs_cli.training.peak_flops import peak_tokens
from bigs_cli.training.step import SummedLoss

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
_CLASSES = "loss.class_weights and loss.label_smoothing", "tasks with classes"
_EMBEDDINGS = "loss.temperature and loss.dimensions", "sentence embeddings"
WINDOW = 50
"""Number of batches of shuffled examples that are sorted by length together, when padding is trimmed."""


@dataclass(frozen=True)
class TaskData:
    """The training split and the dev splits of a task; `folder` is None for data from the hub.

    `teacher` has the scores `[n, K]` of a teacher for the training examples, and `teacher_digest` identifies it.
    """

    train: Examples
    dev: dict[str, Examples]
    folder: Path | None = None
    teacher: Array | None = None
    teacher_digest: str | None = None


def load_task_data(task: Task, data: Path | None, max_train: int | None, seed: int) -> TaskData:
    """Read the training split and every dev split.

    With `max_train`, the training split is a random subset of that size, which depends on `seed` only. Notes on changed
    or omitted training examples are printed.
    """
    train = load_examples(task, "train", data)
    for note in train.notes:
        err.print(note)
    if max_train is not None and max_train < len(train):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:max_train])
        train = train.take(chosen)
    return TaskData(train, {name: load_examples(task, name, data) for name in dev_splits(task, data)}, data)


def finetune(
    recipe: FinetuneRecipe,
    task: Task,
    data: TaskData,
    start: OpenModel | None,
    tokenizer: Tokenizer,
    job: Job,
) -> dict[str, Any]:
    """Fine-tune `start` on `task` as `job` specifies, keep the best checkpoint in best/, and return results.json.

    `start` may be None if the run continues from a checkpoint.

    Raises:
        RequestError: recipe, model and folder are incompatible. Nothing is written.
        BigsError: the loss or gradient stayed nonfinite, or the machine failed. The last good checkpoint is kept.
        KeyboardInterrupt: the run was interrupted. A checkpoint is written.
    """
    folder, main = job.folder, is_main_process()
    with folder.lock() if main else contextlib.nullcontext(), translate_errors(recipe, job):
        task_type = type_of(task)
        start_config = read_config(folder.path / CONFIG) if start is None else start.config
        check_loss(recipe, task, task_type)
        config, length = target_config(recipe, task, start_config)
        if (problem := task_type.problem(config, data.train, recipe.loss)) is not None:
            raise RequestError(problem)
        check_token_types(task_type.encode(tokenizer, data.train.take(range(1)), length), config)
        mesh = meshes.make_mesh(recipe.mesh)
        for rows in (recipe.batch_size // recipe.gradient_accumulation_steps, recipe.eval_batch_size):
            meshes.check_batch(mesh, rows, length)

        def write_model(path: Path) -> None:
            write_config(path / CONFIG, config)
            save_tokenizer(tokenizer, path)

        broadcast(0)  # Every process has checked the request before the folder is written.
        recipe = with_dtype(recipe)
        if main:
            job.start(recipe, start, write_model)
        params, untrained = initial_parameters(config, recipe.seed, start)
        if start is not None and recipe.head_init == "unit":
            sample = np.random.default_rng(recipe.seed).permutation(len(data.train))[:ROWS]
            inputs = task_type.encode(tokenizer, data.train.take(sample), length)
            params = unit_head(config, recipe.compute, params, untrained, inputs)
        values = recipe.model_dump(mode="json", by_alias=True)
        with (
            Checkpoints(folder.checkpoints) as checkpoints,
            Checkpoints(folder.best) as best,
            open_loggers(recipe.loggers if main else (), folder.path, values, job.command) as logger,
        ):
            trim = config.ignores_padding if recipe.trim_padding is None else recipe.trim_padding
            warn_of_trimming(config, trim)
            train_inputs = task_type.encode(tokenizer, data.train, length)
            dev = [Split(name, split, task_type.encode(tokenizer, split, length)) for name, split in data.dev.items()]
            batches = _Batches(recipe, train_inputs, trim, mesh, data.teacher)
            steps = count_steps(recipe, len(train_inputs))
            apply = make_apply(config, recipe.compute)
            log = MetricsLog(folder.metrics_file if main else Path(os.devnull), logger)
            measure = TaskEvaluator(apply, task_type, recipe.eval_batch_size, trim, mesh=mesh)
            every_steps = recipe.evaluate_every or batches.per_epoch
            evaluator = _Evaluator(task, measure, dev, every_steps, recipe.patience, folder, best, log)
            row_flops = count_flops(config, length).training
            weight_of = class_weights(recipe, task_type, train_inputs)
            distill = None if data.teacher is None else recipe.distillation
            training = Training(
                recipe=recipe,
                job=job,
                mesh=mesh,
                loss=task_loss(apply, task_type, recipe.loss, weight_of, distill),
                steps=steps,
                batches=batches,
                evaluator=evaluator,
                checkpoint_every=every_steps,
                digests=data_digests(task, data, tokenizer),
                freeze_ssm=recipe.freeze_ssm,
                peak_tokens=peak_tokens(recipe.compute.dtype, row_flops, length) if is_screen(err) else None,
            )
            examples = (f"{split_in_words(split.name)} {len(split.examples):,}" for split in dev)
            err.print(
                f"Fine-tuning on {task.title}: {counted(len(data.train), 'example')}, {counted(steps, 'step')} of "
                f"{recipe.batch_size}, {', '.join(examples)}."
            )
            if task_type.embeds and job.needs_start:
                evaluator.evaluate_start(place_parameters(params, mesh))
            trained = train(training, params, checkpoints, log)
            best.wait()
        if trained.steps < steps:
            err.print(f"Stopped early: no improvement in the last {counted(recipe.patience or 0, 'evaluation')}.")
        return _write_results(training, evaluator, data, trained.seconds, length)


def class_weights(recipe: FinetuneRecipe, task_type: TaskType, inputs: Encoded) -> tuple[Any, ...] | None:
    """Return the `class_weights` of the task type as nested tuples; None if all classes have the same weight."""
    if recipe.loss.class_weights is None:
        return None
    assert inputs.labels is not None
    return tuple(map(to_tuple, task_type.class_weights(inputs.labels).tolist()))


def to_tuple(value: Any) -> Any:
    """Return nested lists as tuples, which are hashable."""
    return tuple(map(to_tuple, value)) if isinstance(value, list) else value


def check_loss(recipe: FinetuneRecipe, task: Task, task_type: TaskType) -> None:
    """Check that the settings of the loss are for a task of this type.

    Raises:
        RequestError: they are for another one.
    """
    for set_, needs, keys, what in (
        (recipe.loss.is_for_classes, task_type.has_labels and task.labels is not None, *_CLASSES),
        (recipe.loss.is_for_embeddings, task_type.embeds, *_EMBEDDINGS),
    ):
        if set_ and not needs:
            raise RequestError(f"{keys} are only for {what}. Leave them out for {task.title}.")


@memoize
def task_loss(
    apply: Apply,
    task_type: TaskType,
    settings: Loss,
    weight_of: tuple[Any, ...] | None,
    distill: Distillation | None = None,
) -> SummedLoss:
    """Return the loss of a training step on a batch of encoded examples.

    `weight_of` has the weight of each class. With `distill`, the batch has the scores of the teacher.
    """

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        outputs = apply(params, *inputs, key=jax.random.fold_in(key, part))
        labels, weights = batch["labels"], batch["weights"]
        if weight_of is not None:
            weights = task_type.weigh(weights, labels, jnp.asarray(weight_of))
        scores = task_type.scores(outputs)
        total, sums = task_type.loss(scores, labels, weights, settings)
        if distill is None:
            return total, sums
        difference = task_type.distillation_loss(scores, batch["teacher"], weights, distill.temperature)
        return with_teacher(total, sums, difference, distill.weight)

    return loss


def _write_results(
    training: Training, evaluator: _Evaluator, data: TaskData, seconds: float, length: int
) -> dict[str, Any]:
    recipe, history, digests = training.recipe, evaluator.history, training.digests
    best = history[evaluator.best_index()]
    folder = None if data.folder is None else place_of(data.folder)
    result = {
        "kind": "finetune",
        "task": evaluator.task.name,
        **with_splits(by_split(best)),
        "step": best["step"],
        "steps": history[-1]["step"],
        "history": history,
        "seed": recipe.seed,
        "seconds": round(seconds, 1),
        "length": length,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "versions": describe_machine()["packages"],
        "data": {"path": folder} | {name: digests[name] for name in ("train", *data.dev, "teacher") if name in digests},
    }
    if is_main_process():
        write_json(training.job.folder.results_file, result)
    broadcast(0)  # Every process can read the results now.
    return result


def target_config(recipe: FinetuneRecipe, task: Task, start: BiGSConfig) -> tuple[BiGSConfig, int]:
    """Return the config of the task model, and the input length: the recipe's, limited by the model's positions."""
    task_type = type_of(task)
    labels: dict[str, Any] = {"multi_label": task_type.multi_label}
    if task_type.has_labels:
        labels |= {"num_labels": task.num_labels, "labels": task.labels, "label_threshold": task.threshold}
    changes = {"pooler_type": recipe.pooler_type, "hidden_dropout_prob": recipe.dropout}
    changes = {name: value for name, value in changes.items() if value is not None}
    config = start.model_copy(update={"head": task_type.head, **changes, **labels})
    length = min(recipe.sequence_length, start.max_position_embeddings)
    if length < recipe.sequence_length:
        err.print(
            f"Length {length} instead of the recipe's {recipe.sequence_length}: the model has {length} positions."
        )
    return config, length


def batches_per_epoch(recipe: FinetuneRecipe, rows: int) -> int:
    """Return the number of batches of a pass over `rows` encoded examples; the last one may not be full."""
    return math.ceil(rows / recipe.batch_size)


def count_steps(recipe: FinetuneRecipe, rows: int) -> int:
    """Return the number of steps of fine-tuning on `rows` encoded examples."""
    return max(1, round(recipe.epochs * batches_per_epoch(recipe, rows)))


class _Batches:
    """The encoded training examples, reshuffled every epoch. Implements `Batches` of the training loop.

    With `trim`, examples of similar length share a batch, which is padded to the longest of them.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        inputs: Encoded,
        trim: bool,
        mesh: jax.sharding.Mesh,
        teacher: Array | None = None,
    ) -> None:
        self._recipe, self._inputs, self._trim, self._epoch = recipe, inputs, trim, None
        self._teacher = teacher
        self.per_epoch = batches_per_epoch(recipe, len(inputs))
        self._sharding = meshes.batch_sharding(mesh)

    def restore(self, step: int, loop_state: Mapping[str, Any]) -> None:
        pass  # The order depends only on the seed and the step.

    def take(self, step: int) -> dict[str, jax.Array]:
        epoch, number = divmod(step, self.per_epoch)
        size = self._recipe.batch_size
        if self._epoch != epoch:
            random = np.random.default_rng((self._recipe.seed, epoch))
            self._epoch, self._rows = epoch, shuffled_batches(random, self._inputs.lengths, size, self._trim)
        rows = self._rows[number]
        batch = (self._inputs.trimmed(rows) if self._trim else self._inputs).batch(rows, size)
        if self._teacher is not None:
            batch["teacher"] = np.resize(self._teacher[rows], (size, self._teacher.shape[1]))  # Padding has no weight.
        return meshes.put(batch, self._sharding)

    def loop_state(self) -> dict[str, Any]:
        return {}


def shuffled_batches(random: np.random.Generator, lengths: Array, size: int, by_length: bool) -> list[Array]:
    """Return the rows of each batch of an epoch, given the length in tokens of every row.

    Rows are shuffled. With `by_length`, each window of WINDOW batches is then sorted by length, and the batches are
    shuffled. One batch has fewer than `size` rows if they do not divide evenly.
    """
    order = random.permutation(len(lengths))
    if not by_length:
        return _split(order, size)
    windows = _split(order, WINDOW * size)
    batches = [batch for rows in windows for batch in _split(rows[np.argsort(lengths[rows], kind="stable")], size)]
    return [batches[index] for index in random.permutation(len(batches))]


def _split(rows: Array, size: int) -> list[Array]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@dataclass
class _Evaluator:
    """Evaluates the dev splits and keeps the best parameters. Implements `Evaluator` of the training loop.

    `history` has the step and the metrics of every evaluation.
    """

    task: Task
    measure: TaskEvaluator
    splits: list[Split]
    every_steps: int
    patience: int | None
    folder: RunFolder
    best: Checkpoints
    log: MetricsLog
    history: list[dict[str, Any]] = field(default_factory=list)

    def restore(self, step: int, loop_state: Mapping[str, Any]) -> None:
        self.history = list(loop_state.get("history", []))

    def evaluate_start(self, params: Parameters) -> None:
        """Show and log the metrics before the first step."""
        if is_main_process():
            self.log.drop_after(-1)  # A run that stopped before its first checkpoint starts again.
        err.print(f"before training: {self._measured(0, params)[2]}")

    def _measured(self, step: int, params: Parameters) -> tuple[dict[str, dict[str, float]], dict[str, Array], str]:
        """Return and log the metrics; also return the scores, and the metrics in words."""
        with progress("dev", sum(len(split.inputs) for split in self.splits), "example") as advance:
            metrics, scores = self.measure.measure(params, self.splits, advance)
        logged = {log_key(split, name): value for split, of in metrics.items() for name, value in of.items()}
        self.log.write(step, **logged)
        return metrics, scores, ", ".join(f"{key_in_words(key)} {percent(value)}%" for key, value in logged.items())

    def evaluate(self, step: int, params: Parameters) -> float | None:
        metrics, scores, figures = self._measured(step, params)
        self.history.append({"step": step, **with_splits(metrics)})
        is_best = self.best_index() == len(self.history) - 1
        err.print(f"step {step:,}: {figures}{' (best so far)' if is_best else ''}")
        if is_best:
            self.best.save(step, params)
        if is_best and is_main_process():
            write_lines(self.folder.predictions_file, self.measure.predictions(self.splits, scores))
        return None

    def finish(self, step: int, params: Parameters) -> float | None:
        if not self.history or self.history[-1]["step"] != step:
            self.evaluate(step, params)
        return None

    def should_stop(self) -> bool:
        """Return whether none of the last `patience` evaluations improved on an earlier one."""
        if self.patience is None or not self.history:
            return False
        return len(self.history) - 1 - self.best_index() >= self.patience

    def loop_state(self) -> dict[str, Any]:
        self.best.wait()  # A run that resumes from this state needs the best parameters.
        return {"history": list(self.history)}

    def best_index(self) -> int:
        """Return the index of the best evaluation in the history, the earliest in a tie."""
        metric = self.task.metrics[0]
        return max(range(len(self.history)), key=lambda i: (self.history[i]["metrics"][metric], -i))


def data_digests(task: Task, data: TaskData, tokenizer: Tokenizer) -> dict[str, str]:
    """Return the digests of all data that the result of the run depends on, the training data first."""
    labels = hashlib.sha256(json.dumps(task.labels).encode()).hexdigest()
    dev = {name: data_digest(split) for name, split in data.dev.items()}
    digests = {"train": data_digest(data.train), **dev, "labels": labels, "tokenizer": fingerprint(tokenizer)}
    return digests if data.teacher_digest is None else {**digests, "teacher": data.teacher_digest}
