"""`bigs finetune`: a recipe, a labelled task and a model to start from, to a run; told in stages."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.checkpoints.config_json import read_config, write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.names import to_flat, to_tree
from bigs_cli.checkpoints.orbax import Checkpoints
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.transfer import transfer
from bigs_cli.checkpoints.untrained import untrained_layers
from bigs_cli.core.environment import describe_machine
from bigs_cli.core.files import write_json, write_lines
from bigs_cli.core.metric_names import by_split, key_in_words, log_key, percent, split_in_words, with_splits
from bigs_cli.core.wording import counted
from bigs_cli.data.encode import check_token_types
from bigs_cli.data.tokenizer import fingerprint, save_tokenizer
from bigs_cli.evaluation.forms import Form, form_of
from bigs_cli.evaluation.task import Split, TaskEvaluator
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Parameters, make_apply, parameter_shapes
from bigs_cli.models.init import init_parameters
from bigs_cli.recipe import BiGSConfig, FinetuneRecipe
from bigs_cli.reporting.console import err, progress
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.reporting.padding import tell_of_trimming
from bigs_cli.reporting.trackers import tracking
from bigs_cli.tasks.examples import Examples, Questions
from bigs_cli.tasks.read import available_splits, data_digest, load_examples
from bigs_cli.tasks.task import Task
from bigs_cli.training import mesh as meshes
from bigs_cli.training.begin import begin, saved_position
from bigs_cli.training.error_messages import translate_errors
from bigs_cli.training.head_init import ROWS, unit_head
from bigs_cli.training.job import Job
from bigs_cli.training.loop import Every, Plan, run, saved_if_stopped
from bigs_cli.training.nonfinite import broken, is_finite
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.peak_flops import peak_flops
from bigs_cli.training.state import TrainState, make_step

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
    for note in train.notes if isinstance(train, Questions) else ():
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
        form = form_of(task)
        begun = read_config(folder.path / CONFIG) if start is None else start.config
        config, length = target_config(recipe, task, begun)
        check_token_types(form.encode(tokenizer, data.train.take(range(1)), length), config)
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
                few = form.encode(tokenizer, data.train.take(some), length)
                new_layers = {*report.new, *(f"{layer}/kernel" for layer in untrained_layers(flat, config))}
                params = unit_head(config, recipe.compute, params, new_layers, few)
        with (
            Checkpoints(folder.checkpoints) as last,
            Checkpoints(folder.best) as best,
            tracking(recipe.loggers, folder.path, recipe.model_dump(mode="json", by_alias=True), job.command) as also,
        ):
            log = MetricsLog(folder.metrics_file, also)
            return _train(recipe, task, form, data, tokenizer, config, length, params, mesh, job, last, best, log)


def target_config(recipe: FinetuneRecipe, task: Task, start: BiGSConfig) -> tuple[BiGSConfig, int]:
    """Return the task model's config, and the input length: the recipe's, but no more than the model's positions."""
    labels = {"num_labels": task.num_labels, "labels": task.labels} if task.form in ("texts", "tagged") else {}
    config = start.model_copy(update={"head": form_of(task).head, **labels})
    length = min(recipe.sequence_length, start.max_position_embeddings)
    if length < recipe.sequence_length:
        err.print(f"Length {length} instead of the recipe's {recipe.sequence_length}: the model has no more positions.")
    return config, length


def _train(
    recipe: FinetuneRecipe,
    task: Task,
    form: Form,
    data: TaskData,
    tokenizer: Tokenizer,
    config: BiGSConfig,
    length: int,
    params: Parameters,
    mesh: jax.sharding.Mesh,
    job: Job,
    last: Checkpoints,
    best: Checkpoints,
    log: MetricsLog,
) -> dict[str, Any]:
    # --- the data ---------------------------------------------------------------------------------------------
    trim = config.mask_padding if recipe.trim_padding is None else recipe.trim_padding
    tell_of_trimming(config, trim)
    train = form.encode(tokenizer, data.train, length)
    dev = [Split(name, split, form.encode(tokenizer, split, length)) for name, split in data.dev.items()]
    per_epoch = math.ceil(len(train) / recipe.batch_size)
    steps = max(1, round(recipe.epochs * per_epoch))

    # --- the step ---------------------------------------------------------------------------------------------
    apply = make_apply(config, recipe.compute)
    rate = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, steps)
    optimizer = make_optimizer(recipe.optimizer, rate, recipe.freeze_ssm)

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        outputs = apply(params, *inputs, key=jax.random.fold_in(key, part))
        return form.loss(form.scores(outputs), batch["labels"], batch["weights"])

    settings = recipe.optimizer
    step = make_step(
        loss,
        optimizer,
        rate,
        recipe.seed,
        recipe.gradient_accumulation_steps,
        ema=settings.ema,
        stop_after=settings.stop_after_nonfinite,
    )
    placement = meshes.batch_sharding(mesh)
    place = functools.partial(jax.device_put, device=placement)
    evaluator = TaskEvaluator(apply, form, recipe.eval_batch_size, trim, place=place)
    metric, folder = task.metrics[0], job.folder
    digests = data_digests(task, data, tokenizer)
    state, begun, position = begin(params, optimizer, mesh, job, last, digests, settings.ema is not None)
    history: list[dict[str, Any]] = list(position.get("history", []))

    err.print(
        f"Fine-tuning on {task.title}: {counted(len(data.train), 'example')}, {counted(steps, 'step')} of "
        f"{recipe.batch_size}, {', '.join(f'{split_in_words(split.name)} {len(split.examples):,}' for split in dev)}."
    )

    # --- the loop -----------------------------------------------------------------------------------------------
    taken = begun

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray[Any, Any]:
        return np.random.default_rng((recipe.seed, epoch)).permutation(len(train))

    def next_batch() -> dict[str, jax.Array]:
        nonlocal taken
        epoch, first = divmod(taken, per_epoch)
        rows = order(epoch)[first * recipe.batch_size :][: recipe.batch_size]
        taken += 1
        return place(train.batch(rows, recipe.batch_size, trim))

    def save(done: int, state: TrainState) -> bool:
        if fine := is_finite(done, state):
            best.wait()  # A run that goes on from here counts the best parameters as kept.
            seconds = before + time.perf_counter() - started
            position = saved_position(state, digests, history=list(history), seconds=seconds)
            last.save(done, state.params, state.optimizer, position, state.ema)
        return fine

    def evaluate(done: int, state: TrainState) -> None:
        with progress("dev", sum(len(split.inputs) for split in dev), "example") as advance:
            values, scores = evaluator.measure(state.averaged, dev, advance)
        earlier = max((entry["metrics"][metric] for entry in history), default=-math.inf)
        history.append({"step": done, **with_splits(values)})
        logged = {log_key(split, name): value for split, of in values.items() for name, value in of.items()}
        log.write(done, **logged)
        better = history[-1]["metrics"][metric] > earlier
        shown = ", ".join(f"{key_in_words(key)} {percent(value)}%" for key, value in logged.items())
        err.print(f"step {done:,}: {shown}{' (best so far)' if better else ''}")
        if better:
            best.save(done, state.averaged)
            write_lines(folder.predictions_file, evaluator.predictions(dev, scores))

    def evaluate_and_save(done: int, state: TrainState) -> None:
        evaluate(done, state)
        save(done, state)

    def enough() -> bool:
        """Whether the last `patience` measurements brought nothing better."""
        if recipe.patience is None or not history:
            return False
        return len(history) - 1 - _best(history, metric) >= recipe.patience

    plan = Plan(
        name="finetune",
        job=job,
        first=begun,
        last=steps,
        log_every=recipe.log_every,
        every=(Every(recipe.evaluate_every or per_epoch, evaluate_and_save),),
        save=save,
        full_rate=peak_flops(recipe.compute.dtype) * jax.device_count() * length / count_flops(config, length).training
        if err.is_terminal
        else None,
        stop_after=settings.stop_after_nonfinite,
        broken=lambda first: broken(folder.path, last, settings, first),
        enough=enough,
    )
    before, started = float(position.get("seconds", 0.0)), time.perf_counter()
    if begun < steps and not enough():
        state = run(plan, state, step, next_batch, log)
    done = int(state.step)
    if not history or history[-1]["step"] != done:
        with saved_if_stopped(lambda: save(done, state), last, done, job):
            evaluate(done, state)
        save(done, state)
    if done < steps:
        err.print(f"Stopped early: {counted(recipe.patience or 0, 'measurement')} brought nothing better.")

    # --- the end ------------------------------------------------------------------------------------------------
    best.wait()
    last.wait()
    chosen = history[_best(history, metric)]
    result = {
        "kind": "finetune",
        "task": task.name,
        **with_splits(by_split(chosen)),
        "step": chosen["step"],
        "steps": history[-1]["step"],
        "history": history,
        "seed": recipe.seed,
        "seconds": round(before + time.perf_counter() - started, 1),
        "length": length,
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "versions": describe_machine()["packages"],
        "data": {"path": None if data.folder is None else str(data.folder)}
        | {name: digests[name] for name in ("train", *data.dev)},
    }
    write_json(folder.results_file, result)
    return result


def data_digests(task: Task, data: TaskData, tokenizer: Tokenizer) -> dict[str, str]:
    """Return what stands for all data that decides what the run ends with, that to train on first."""
    labels = hashlib.sha256(json.dumps(task.labels).encode()).hexdigest()
    dev = {name: data_digest(split) for name, split in data.dev.items()}
    return {"train": data_digest(data.train), **dev, "labels": labels, "tokenizer": fingerprint(tokenizer)}


def _best(history: list[dict[str, Any]], metric: str) -> int:
    """Return the place of the best measurement, the earliest of equals."""
    return max(range(len(history)), key=lambda i: (history[i]["metrics"][metric], -i))
