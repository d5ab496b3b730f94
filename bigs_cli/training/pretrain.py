"""`bigs pretrain`: a recipe and token shards, or HDF5 files, to a run, told in stages."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.names import to_flat, to_tree
from bigs_cli.checkpoints.orbax import Checkpoints, Keep
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.transfer import transfer
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.metric_names import percent
from bigs_cli.core.processes import any_process, broadcast, is_main_process
from bigs_cli.core.wording import counted
from bigs_cli.data.hdf5 import Corpus
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.masking import MaskIds, word_continuations
from bigs_cli.data.shards import Shards
from bigs_cli.data.tokenizer import save_tokenizer
from bigs_cli.data.validation_rows import Validation
from bigs_cli.data.verify import verify
from bigs_cli.evaluation.mlm import MaskedLMEvaluator, masked_batch
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Apply, Parameters, count, make_apply, parameter_shapes
from bigs_cli.models.init import init_parameters
from bigs_cli.models.losses import classification_sums
from bigs_cli.recipe import PretrainRecipe
from bigs_cli.recipe.schema import Masking
from bigs_cli.reporting.console import err, progress
from bigs_cli.reporting.metrics_log import MetricsLog, read_metrics
from bigs_cli.reporting.trackers import tracking
from bigs_cli.training import batch_schedule
from bigs_cli.training import mesh as meshes
from bigs_cli.training.begin import begin, saved_position
from bigs_cli.training.error_messages import translate_errors
from bigs_cli.training.job import Job
from bigs_cli.training.loop import TOKENS, Every, Plan, run, saved_if_stopped
from bigs_cli.training.nonfinite import broken, is_finite, stopped
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.peak_flops import peak_flops
from bigs_cli.training.state import SummedLoss, TrainState, make_step


@dataclass(frozen=True)
class PretrainResult:
    """What a finished run has: held-out metrics, steps, and seconds of all its sittings; also in results.json.

    Without validation there are no metrics.
    """

    heldout: dict[str, float]
    steps: int
    seconds: float


def pretrain(
    recipe: PretrainRecipe,
    shards: Corpus,
    validation: Validation | None,
    job: Job,
    start: OpenModel | None = None,
) -> PretrainResult:
    """Train `recipe` on `shards` as the `job` says: a new run, or one that continues bit for bit.

    `start` gives a new run its initial parameters.

    Raises:
        RequestError: recipe, shards, model and folder do not go together, or shards were altered; nothing is changed
            then.
        BigsError: loss or gradient stayed without a finite value, or the machine failed; the last good checkpoint is
            kept.
        KeyboardInterrupt: it was asked to stop; a checkpoint is written.
    """
    check_shards(recipe, shards)
    _verify(shards, job)
    if validation is not None and validation.corpus is not shards:
        _verify(validation.corpus, job)
    folder = job.folder
    # Of several processes, the first one keeps the folder, and none goes on with data that another found altered.
    with folder.lock() if is_main_process() else contextlib.nullcontext(), translate_errors(recipe, job):
        mesh = meshes.make_mesh(recipe.mesh)
        meshes.check_batch(mesh, batch_schedule.unit(recipe) // recipe.gradient_accumulation_steps)
        params, tokenizer = _initial_parameters(recipe, start), shards.tokenizer()
        broadcast(0)

        def begin_folder(path: Path) -> None:
            write_config(path / CONFIG, recipe.model)
            save_tokenizer(tokenizer, path)

        if is_main_process():
            job.start(recipe, start, begin_folder)
        job.announce()
        saved = recipe.checkpoint
        keep = Keep(saved.keep, saved.keep_every, saved.keep_best)
        loggers = recipe.loggers if is_main_process() else ()
        with (
            Checkpoints(folder.checkpoints, keep) as checkpoints,
            tracking(loggers, folder.path, recipe.model_dump(mode="json", by_alias=True), job.command) as also,
        ):
            log = MetricsLog(folder.metrics_file if is_main_process() else Path(os.devnull), also)
            return _train(recipe, shards, validation, job, mesh, params, checkpoints, log)


def _verify(corpus: Corpus, job: Job) -> None:
    """Raise RequestError if a corpus was altered since it was made."""
    with progress("verifying shards", corpus.nbytes // jax.process_count(), "bytes") as advance:
        if isinstance(corpus, Shards):
            verify(corpus, jax.process_index(), jax.process_count(), advance)
        elif job.needs_start:  # A checkpoint has its digest, which says that it still is what was verified.
            corpus.verify(advance)


def check_shards(recipe: PretrainRecipe, shards: Corpus) -> None:
    """Refuse shards or HDF5 files that the recipe cannot be trained on.

    Raises:
        RequestError: their length or vocabulary is another, there is no part to train on, or the tokenizer has no
            words where the recipe masks whole ones.
    """
    manifest = shards.manifest
    shards.split("train")
    if manifest.sequence_length != recipe.data.sequence_length:
        raise RequestError(
            f"The shards in {shards.folder} have rows of {manifest.sequence_length} tokens; the recipe wants "
            f"{recipe.data.sequence_length}. Use others (bigs tokenize --length {recipe.data.sequence_length}), or "
            f"--set data.sequence_length={manifest.sequence_length}."
        )
    if manifest.vocab_size != recipe.model.vocab_size:
        raise RequestError(
            f"The shards in {shards.folder} have a vocabulary of {manifest.vocab_size}; the recipe's model has "
            f"{recipe.model.vocab_size}. Use --set model.vocab_size={manifest.vocab_size}, or other shards."
        )
    if recipe.masking.whole_word and isinstance(shards, Shards):
        word_continuations(shards.tokenizer(), manifest.vocab_size)


def masked_lm_loss(apply: Apply, special: MaskIds | None, masking: Masking) -> SummedLoss:
    """Return the loss of a step: mask the rows (`evaluation.mlm.masked_batch`), and predict what was masked."""

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        mask_key, dropout_key = jax.random.split(key)
        masked = masked_batch(mask_key, batch, special, masking)
        logits = apply(
            params,
            masked.input_ids,
            masked.attention_mask,
            batch.get("token_type_ids"),
            key=jax.random.fold_in(dropout_key, part),
            positions=masked.positions,
        ).logits
        return classification_sums(logits, masked.labels, masked.weights)

    return loss


def _train(
    recipe: PretrainRecipe,
    shards: Corpus,
    validation: Validation | None,
    job: Job,
    mesh: jax.sharding.Mesh,
    params: Parameters,
    checkpoints: Checkpoints,
    log: MetricsLog,
) -> PretrainResult:
    # --- the step ---------------------------------------------------------------------------------------------
    apply = make_apply(recipe.model, recipe.compute)
    special = _mask_ids(recipe, shards)
    rate = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, recipe.steps)
    optimizer = make_optimizer(recipe.optimizer, rate)
    step = make_step(
        masked_lm_loss(apply, special, recipe.masking),
        optimizer,
        rate,
        recipe.seed,
        recipe.gradient_accumulation_steps,
        ema=recipe.optimizer.ema,
        stop_after=recipe.optimizer.stop_after_nonfinite,
    )
    average = recipe.optimizer.ema is not None
    folder, digests = job.folder, _digests(shards, validation)
    state, begun, position = begin(params, optimizer, mesh, job, checkpoints, digests, average)
    placement, unit = meshes.batch_sharding(mesh), batch_schedule.unit(recipe)
    rows_here = functools.cache(lambda rows: meshes.rows_here(placement, rows))
    # A growing batch is shared out anew at every size, so that each process reads all of it.
    read = rows_here(unit) if recipe.batch_size_warmup is None else np.arange(unit)
    batches = train_batches(shards, unit, recipe.seed, mine=read, start_state=position.get("loader"))
    parameters, last = count(state.params), batch_schedule.last_step(recipe)
    err.print(
        f"Pretraining {parameters / 1e6:.1f}M parameters on {_amount(shards)}, "
        f"{counted(last, 'step')} of {_rows(recipe)} × {recipe.data.sequence_length}, on "
        f"{counted(jax.device_count(), f'{jax.devices()[0].device_kind} device')}."
    )

    # --- the loop -----------------------------------------------------------------------------------------------
    taken, before, started = begun, float(position.get("seconds", 0.0)), time.perf_counter()

    def next_batch() -> dict[str, jax.Array]:
        nonlocal taken
        rows = batch_schedule.rows_of(recipe, taken)
        taken += 1
        batch, mine = batch_schedule.take(batches, rows // unit), rows_here(rows)
        if len(mine) < len(batch[TOKENS]):
            batch = {name: part[mine] for name, part in batch.items()}
        return meshes.place({**batch, "row": mine.astype(np.int32)}, placement, rows, mine)

    def seconds() -> float:
        return before + time.perf_counter() - started

    def time_is_up() -> bool:
        return recipe.max_minutes is not None and any_process(seconds() >= 60 * recipe.max_minutes)

    def place(batch: dict[str, Any]) -> dict[str, jax.Array]:
        mine = rows_here(recipe.batch_size)
        here = jax.tree.map(lambda part: part[mine], batch)
        return meshes.place(here, placement, recipe.batch_size, mine)

    evaluator = None
    if validation is not None:
        evaluator = MaskedLMEvaluator(apply, _mask_ids(recipe, validation.corpus), recipe.masking, place)
    measured_before = any(e["step"] == begun and "heldout_loss" in e for e in read_metrics(log.path))

    def evaluate(done: int, state: TrainState, max_batches: int | None) -> dict[str, float]:
        assert validation is not None
        assert evaluator is not None
        rows = heldout_batches(validation.corpus, recipe.batch_size, validation.split)
        held_out = itertools.islice(rows, max_batches)
        measured = min(len(validation), (max_batches or sys.maxsize) * recipe.batch_size)
        with progress("validation", measured, "row") as advance:
            values = evaluator(state.averaged, held_out, advance)
        if done > begun or not measured_before:  # A checkpoint is written after the line of its step, if not stopped.
            log.write(done, **{f"heldout_{name}": value for name, value in values.items()})
        err.print(f"step {done:,}: validation loss {values['loss']:.4f}, accuracy {percent(values['accuracy'])}%")
        return values

    def save(done: int, state: TrainState, score: float | None = None) -> None:
        position = saved_position(state, digests, loader=batches.get_state(), seconds=seconds())
        checkpoints.save(done, state.params, state.optimizer, position, state.ema, score)

    def save_if_finite(done: int, state: TrainState) -> bool:
        if fine := is_finite(done, state):
            save(done, state)
        return fine

    def judge(done: int, state: TrainState) -> None:
        loss, best = evaluate(done, state, recipe.evaluate.max_batches)["loss"], checkpoints.best()
        better = math.isfinite(loss) and (best is None or loss < best)
        if recipe.checkpoint.keep_best and better and is_finite(done, state):
            save(done, state, loss)

    plan = Plan(
        name="pretrain",
        job=job,
        first=begun,
        last=last,
        log_every=recipe.log_every,
        every=(
            *([] if validation is None else [Every(recipe.evaluate.every_steps, judge)]),
            Every(recipe.checkpoint.every_steps, save_if_finite),
        ),
        save=save_if_finite,
        stop_after=recipe.optimizer.stop_after_nonfinite,
        broken=lambda first: broken(folder.path, checkpoints, recipe.optimizer, first),
        time_is_up=time_is_up,
        full_rate=_full_rate(recipe) if err.is_terminal else None,
    )
    state = run(plan, state, step, next_batch, log)
    done = int(state.step)

    # --- the end: all of the held-out part, the last checkpoint, results.json -----------------------------------------
    heldout: dict[str, float] = {}
    if validation is not None:
        with saved_if_stopped(lambda: save_if_finite(done, state), checkpoints, done, job):
            heldout = evaluate(done, state, None)
    if not math.isfinite(heldout.get("loss", 0.0)):
        what = f"The validation loss after step {done:,} is not finite"
        raise stopped(what, folder.path, checkpoints, recipe.optimizer)
    if validation is None and not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.averaged)):
        what = f"The parameters after step {done} are not finite"
        raise stopped(what, folder.path, checkpoints, recipe.optimizer)
    save(done, state)
    checkpoints.wait()
    result = PretrainResult(heldout, done, seconds())
    if not is_main_process():
        return result
    write_json(
        folder.results_file,
        {
            "kind": "pretrain",
            "steps": result.steps,
            "stopped_by": "steps" if done == recipe.steps else "max_tokens" if done == last else "max_minutes",
            "tokens": batch_schedule.tokens_until(recipe, done),
            "skipped": int(state.skipped),
            "seconds": round(result.seconds, 1),
            "parameters": parameters,
            "metrics": {f"heldout_{name}": value for name, value in result.heldout.items()},
            "data": {"path": str(shards.folder), **digests},
        },
    )
    return result


def _mask_ids(recipe: PretrainRecipe, corpus: Corpus) -> MaskIds | None:
    """Return what `masked_batch` masks rows of `corpus` with; None for HDF5 files, which are masked already."""
    return MaskIds.of(corpus, recipe.masking, recipe.model.vocab_size) if isinstance(corpus, Shards) else None


def _digests(shards: Corpus, validation: Validation | None) -> dict[str, str]:
    """Return the digests of all data that decides what the run ends with, that to train on first."""
    digests = {"shards": shards.digest, "tokenizer": shards.manifest.tokenizer}
    if validation is not None and validation.corpus is not shards:
        digests["validation"] = validation.corpus.digest
    return digests


def _full_rate(recipe: PretrainRecipe) -> float:
    """Return the tokens per second if training were as fast as this machine's matrix products."""
    L, compute = recipe.data.sequence_length, recipe.compute
    row = count_flops(recipe.model, L, compute.mixing, recipe.masking.predictions(L)).training
    return peak_flops(compute.dtype) * jax.device_count() * L / row


def _rows(recipe: PretrainRecipe) -> str:
    return (
        str(recipe.batch_size)
        if recipe.batch_size_warmup is None
        else f"{recipe.batch_size_warmup.start} to {recipe.batch_size}"
    )


def _amount(shards: Corpus) -> str:
    if isinstance(shards, Shards):
        return f"{shards.manifest.report.tokens / 1e6:.1f}M tokens"
    return f"{len(shards.split('train')):,} rows with the masks of their files (the recipe's masking is not used)"


def _initial_parameters(recipe: PretrainRecipe, start: OpenModel | None) -> Parameters:
    # On the host: on a device of a mesh they would stay, whole, beside its share of them.
    fresh = init_parameters(parameter_shapes(recipe.model), recipe.model, recipe.seed)
    if start is None:
        return fresh
    new = to_flat(fresh, recipe.model)
    flat, report = transfer(start.flat, start.config, recipe.model, lambda path, shape: new[path])
    err.print(f"Starting from {start.source}:\n{report.describe()}")
    return to_tree(flat, recipe.model)
