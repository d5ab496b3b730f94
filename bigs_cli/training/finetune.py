"""`bigs finetune`: a recipe, a labelled task and a model to start from, to a run; told in stages."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.checkpoints.config_json import read_config, write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.checkpoints.transfer import transfer
from bigs_cli.checkpoints.untrained import untrained_layers
from bigs_cli.core.environment import describe_machine
from bigs_cli.core.files import write_json, write_lines
from bigs_cli.core.metric_names import by_split, key_in_words, log_key, percent, split_in_words, with_splits
from bigs_cli.core.wording import counted
from bigs_cli.data.encode import Encoded, check_token_types
from bigs_cli.data.tokenizer import fingerprint, save_tokenizer
from bigs_cli.evaluation.task import Split, TaskEvaluator
from bigs_cli.models import sharding as meshes
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Apply, Parameters, make_apply, parameter_shapes
from bigs_cli.models.init import init_parameters
from bigs_cli.models.published import to_flat, to_tree
from bigs_cli.recipe import BiGSConfig, FinetuneRecipe
from bigs_cli.reporting.console import err, progress
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.reporting.padding import tell_of_trimming
from bigs_cli.reporting.trackers import tracking
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.splits import available_splits, data_digest, load_examples
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import TaskType, type_of
from bigs_cli.training.error_messages import translate_errors
from bigs_cli.training.head_init import ROWS, unit_head
from bigs_cli.training.job import Job
from bigs_cli.training.loop import Training, train
from bigs_cli.training.peak_flops import peak_flops
from bigs_cli.training.step import SummedLoss

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class TaskData:
    """The splits a fine-tuning uses: train, and the dev splits it is judged by; `folder` is None for the hub."""

    train: Examples
    dev: dict[str, Examples]
    folder: Path | None = None


def load_task_data(task: Task, data: Path | None, max_train: int | None, seed: int) -> TaskData:
    """Read train and every dev split there is; with `max_train`, a random part of train, the same for one seed.

    What was changed or left out of train is printed.
    """
    train = load_examples(task, "train", data)
    for note in train.notes:
        err.print(note)
    if max_train is not None and max_train < len(train):
        chosen = np.sort(np.random.default_rng(seed).permutation(len(train))[:max_train])
        train = train.take(chosen)
    names = [split for split in available_splits(task, data) if split.startswith("dev")]
    return TaskData(train, {name: load_examples(task, name, data) for name in names or ["dev"]}, data)


def finetune(
    recipe: FinetuneRecipe,
    task: Task,
    data: TaskData,
    start: OpenModel | None,
    tokenizer: Tokenizer,
    job: Job,
) -> dict[str, Any]:
    """Train `start` on `task` as the `job` says; return what results.json says. The best checkpoint is kept in best/.

    A run that continues from a checkpoint needs no `start`.

    Raises:
        RequestError: recipe, model and folder do not go together; nothing is changed then.
        BigsError: loss or gradient stayed without a finite value, or the machine failed; the last good checkpoint is
            kept.
        KeyboardInterrupt: it was asked to stop; a checkpoint is written.
    """
    folder = job.folder
    with folder.lock(), translate_errors(recipe, job):
        task_type = type_of(task)
        begun = read_config(folder.path / CONFIG) if start is None else start.config
        config, length = target_config(recipe, task, begun)
        check_token_types(task_type.encode(tokenizer, data.train.take(range(1)), length), config)
        mesh = meshes.make_mesh(recipe.mesh)
        for rows in (recipe.batch_size // recipe.gradient_accumulation_steps, recipe.eval_batch_size):
            meshes.check_batch(mesh, rows)
        params = init_parameters(parameter_shapes(config), config, recipe.seed)

        def begin_folder(path: Path) -> None:
            write_config(path / CONFIG, config)
            save_tokenizer(tokenizer, path)

        job.start(recipe, start, begin_folder)
        job.announce()
        if start is not None:
            new = to_flat(params, config)
            flat, report = transfer(start.flat, start.config, config, lambda path, shape: new[path])
            err.print(f"Starting from {start.source}:\n{report.describe()}")
            params = to_tree(flat, config)
            if recipe.head_init == "unit":
                some = np.random.default_rng(recipe.seed).permutation(len(data.train))[:ROWS]
                few = task_type.encode(tokenizer, data.train.take(some), length)
                new_layers = {*report.new, *(f"{layer}/kernel" for layer in untrained_layers(flat, config))}
                params = unit_head(config, recipe.compute, params, new_layers, few)
        values = recipe.model_dump(mode="json", by_alias=True)
        with (
            Checkpoints(folder.checkpoints) as checkpoints,
            Checkpoints(folder.best) as best,
            tracking(recipe.loggers, folder.path, values, job.command) as tracker,
        ):
            trim = config.mask_padding if recipe.trim_padding is None else recipe.trim_padding
            tell_of_trimming(config, trim)
            train_inputs = task_type.encode(tokenizer, data.train, length)
            dev = [Split(name, split, task_type.encode(tokenizer, split, length)) for name, split in data.dev.items()]
            batches = _Batches(recipe, train_inputs, trim, mesh)
            steps = max(1, round(recipe.epochs * batches.per_epoch))
            apply, log = make_apply(config, recipe.compute), MetricsLog(folder.metrics_file, tracker)
            measure = TaskEvaluator(apply, task_type, recipe.eval_batch_size, trim, place=batches.place)
            every_steps = recipe.evaluate_every or batches.per_epoch
            evaluator = _Evaluator(task, measure, dev, every_steps, recipe.patience, folder, best, log)
            training = Training(
                recipe=recipe,
                job=job,
                mesh=mesh,
                loss=task_loss(apply, task_type),
                steps=steps,
                batches=batches,
                evaluator=evaluator,
                checkpoint_every=every_steps,
                digests=data_digests(task, data, tokenizer),
                freeze_ssm=recipe.freeze_ssm,
                gradient_accumulation_steps=recipe.gradient_accumulation_steps,
                peak_tokens=_peak_tokens(recipe, config, length) if err.is_terminal else None,
            )
            examples = (f"{split_in_words(split.name)} {len(split.examples):,}" for split in dev)
            err.print(
                f"Fine-tuning on {task.title}: {counted(len(data.train), 'example')}, {counted(steps, 'step')} of "
                f"{recipe.batch_size}, {', '.join(examples)}."
            )
            trained = train(training, params, checkpoints, log)
            best.wait()
        if trained.steps < steps:
            err.print(f"Stopped early: {counted(recipe.patience or 0, 'measurement')} brought nothing better.")
        return _write_results(training, evaluator, data, trained.seconds, length)


def task_loss(apply: Apply, task_type: TaskType) -> SummedLoss:
    """Return the loss of a step on a batch of encoded examples."""

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        outputs = apply(params, *inputs, key=jax.random.fold_in(key, part))
        return task_type.loss(task_type.scores(outputs), batch["labels"], batch["weights"])

    return loss


def _write_results(
    training: Training, evaluator: _Evaluator, data: TaskData, seconds: float, length: int
) -> dict[str, Any]:
    recipe, history, digests = training.recipe, evaluator.history, training.digests
    chosen = history[evaluator.best_place()]
    folder = None if data.folder is None else str(data.folder)
    result = {
        "kind": "finetune",
        "task": evaluator.task.name,
        **with_splits(by_split(chosen)),
        "step": chosen["step"],
        "steps": history[-1]["step"],
        "history": history,
        "seed": recipe.seed,
        "seconds": round(seconds, 1),
        "length": length,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "versions": describe_machine()["packages"],
        "data": {"path": folder} | {name: digests[name] for name in ("train", *data.dev)},
    }
    write_json(training.job.folder.results_file, result)
    return result


def target_config(recipe: FinetuneRecipe, task: Task, start: BiGSConfig) -> tuple[BiGSConfig, int]:
    """Return the task model's config, and the input length: the recipe's, but no more than the model's positions."""
    task_type = type_of(task)
    labels = {"num_labels": task.num_labels, "labels": task.labels} if task_type.has_labels else {}
    config = start.model_copy(update={"head": task_type.head, **labels})
    length = min(recipe.sequence_length, start.max_position_embeddings)
    if length < recipe.sequence_length:
        err.print(f"Length {length} instead of the recipe's {recipe.sequence_length}: the model has no more positions.")
    return config, length


class _Batches:
    """The encoded training examples, shuffled anew for every epoch: `Batches` of the training loop."""

    def __init__(self, recipe: FinetuneRecipe, inputs: Encoded, trim: bool, mesh: jax.sharding.Mesh) -> None:
        self._recipe, self._inputs, self._trim = recipe, inputs, trim
        self.per_epoch = math.ceil(len(inputs) / recipe.batch_size)
        self.place = functools.partial(jax.device_put, device=meshes.batch_sharding(mesh))

    def restore(self, step: int, position: Mapping[str, Any]) -> None:
        pass  # The order follows from the seed and the step.

    def take(self, step: int) -> dict[str, jax.Array]:
        epoch, number = divmod(step, self.per_epoch)
        size = self._recipe.batch_size
        rows = _order(self._recipe.seed, epoch, len(self._inputs))[number * size :][:size]
        return self.place(self._inputs.batch(rows, size, self._trim))

    def position(self) -> dict[str, Any]:
        return {}


@functools.lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng((seed, epoch)).permutation(count)


class _Evaluator:
    """The metrics on the dev splits, of which the best parameters are kept: `Evaluator` of the training loop.

    Attributes:
        history: the step and the metrics of every measurement.
    """

    def __init__(
        self,
        task: Task,
        measure: TaskEvaluator,
        splits: list[Split],
        every_steps: int,
        patience: int | None,
        folder: RunFolder,
        best: Checkpoints,
        log: MetricsLog,
    ) -> None:
        self.task, self.every_steps = task, every_steps
        self._measure, self._splits, self._patience = measure, splits, patience
        self._folder, self._best, self._log = folder, best, log
        self.history: list[dict[str, Any]] = []

    def restore(self, step: int, position: Mapping[str, Any]) -> None:
        self.history = list(position.get("history", []))

    def evaluate(self, step: int, params: Parameters) -> float | None:
        with progress("dev", sum(len(split.inputs) for split in self._splits), "example") as advance:
            values, scores = self._measure.measure(params, self._splits, advance)
        self.history.append({"step": step, **with_splits(values)})
        logged = {log_key(split, name): value for split, of in values.items() for name, value in of.items()}
        self._log.write(step, **logged)
        is_best = self.best_place() == len(self.history) - 1
        shown = ", ".join(f"{key_in_words(key)} {percent(value)}%" for key, value in logged.items())
        err.print(f"step {step:,}: {shown}{' (best so far)' if is_best else ''}")
        if is_best:
            self._best.save(step, params)
            write_lines(self._folder.predictions_file, self._measure.predictions(self._splits, scores))
        return None

    def finish(self, step: int, params: Parameters) -> float | None:
        if not self.history or self.history[-1]["step"] != step:
            self.evaluate(step, params)
        return None

    def should_stop(self) -> bool:
        """Whether the last `patience` measurements were no better than an earlier one."""
        if self._patience is None or not self.history:
            return False
        return len(self.history) - 1 - self.best_place() >= self._patience

    def position(self) -> dict[str, Any]:
        self._best.wait()  # A run that resumes from here relies on the best parameters being saved.
        return {"history": list(self.history)}

    def best_place(self) -> int:
        """Return the index of the best measurement in the history, the earliest of equals."""
        metric = self.task.metrics[0]
        return max(range(len(self.history)), key=lambda i: (self.history[i]["metrics"][metric], -i))


def _peak_tokens(recipe: FinetuneRecipe, config: BiGSConfig, length: int) -> float:
    """Return the tokens per second of training at the peak FLOP/s of the devices."""
    return peak_flops(recipe.compute.dtype) * jax.device_count() * length / count_flops(config, length).training


def data_digests(task: Task, data: TaskData, tokenizer: Tokenizer) -> dict[str, str]:
    """Return what stands for all data that decides what the run ends with, that to train on first."""
    labels = hashlib.sha256(json.dumps(task.labels).encode()).hexdigest()
    dev = {name: data_digest(split) for name, split in data.dev.items()}
    return {"train": data_digest(data.train), **dev, "labels": labels, "tokenizer": fingerprint(tokenizer)}
