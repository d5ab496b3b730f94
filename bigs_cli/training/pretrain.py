"""`bigs pretrain`: a recipe and token shards, or HDF5 files, to a run, told in stages."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.orbax import Checkpoints, Keep
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.transfer import transfer
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.metric_names import percent
from bigs_cli.core.processes import broadcast, is_main_process
from bigs_cli.core.wording import counted
from bigs_cli.data.corpus import Corpus, Validation
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.masking import MaskIds, mask_ids, masked_batch, word_continuations
from bigs_cli.data.tokenizer import save_tokenizer
from bigs_cli.evaluation.mlm import MaskedLMEvaluator
from bigs_cli.models import sharding as meshes
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Apply, Parameters, count, make_apply, parameter_shapes
from bigs_cli.models.init import init_parameters
from bigs_cli.models.losses import classification_sums
from bigs_cli.models.published import to_flat, to_tree
from bigs_cli.recipe import PretrainRecipe
from bigs_cli.recipe.schema import Masking
from bigs_cli.reporting.console import err, progress
from bigs_cli.reporting.metrics_log import MetricsLog, read_metrics
from bigs_cli.reporting.trackers import tracking
from bigs_cli.training import batch_schedule
from bigs_cli.training.error_messages import translate_errors
from bigs_cli.training.job import Job
from bigs_cli.training.loop import TOKENS, Training, train
from bigs_cli.training.peak_flops import peak_flops
from bigs_cli.training.step import SummedLoss


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
    folder, main = job.folder, is_main_process()
    # Only process 0 locks and writes the folder; none starts with data that another found altered.
    with folder.lock() if main else contextlib.nullcontext(), translate_errors(recipe, job):
        mesh = meshes.make_mesh(recipe.mesh)
        meshes.check_batch(mesh, batch_schedule.unit(recipe) // recipe.gradient_accumulation_steps)
        params, tokenizer = _initial_parameters(recipe, start), shards.tokenizer()
        broadcast(0)

        def write_model(path: Path) -> None:
            write_config(path / CONFIG, recipe.model)
            save_tokenizer(tokenizer, path)

        if main:
            job.start(recipe, start, write_model)
        job.announce()
        saved = recipe.checkpoint
        keep = Keep(saved.keep, saved.keep_every, saved.keep_best)
        loggers = recipe.loggers if main else ()
        with (
            Checkpoints(folder.checkpoints, keep) as checkpoints,
            tracking(loggers, folder.path, recipe.model_dump(mode="json", by_alias=True), job.command) as tracker,
        ):
            log = MetricsLog(folder.metrics_file if main else Path(os.devnull), tracker)
            apply, steps = make_apply(recipe.model, recipe.compute), batch_schedule.last_step(recipe)
            evaluator = None if validation is None else _Evaluator(recipe, validation, mesh, apply, log)
            training = Training(
                recipe=recipe,
                job=job,
                mesh=mesh,
                loss=masked_lm_loss(apply, mask_ids(shards, recipe.masking, recipe.model.vocab_size), recipe.masking),
                steps=steps,
                batches=_Batches(recipe, shards, mesh),
                evaluator=evaluator,
                checkpoint_every=recipe.checkpoint.every_steps,
                digests=_digests(shards, validation),
                gradient_accumulation_steps=recipe.gradient_accumulation_steps,
                max_minutes=recipe.max_minutes,
                peak_tokens=_peak_tokens(recipe) if err.is_terminal else None,
            )
            err.print(
                f"Pretraining {count(params) / 1e6:.1f}M parameters on {shards.size}, {counted(steps, 'step')} of "
                f"{_rows(recipe)} × {recipe.data.sequence_length}, on "
                f"{counted(jax.device_count(), f'{jax.devices()[0].device_kind} device')}."
            )
            trained = train(training, params, checkpoints, log)
        result = PretrainResult({} if evaluator is None else evaluator.metrics, trained.steps, trained.seconds)
        if main:
            _write_results(training, result, int(trained.state.skipped), count(params), shards)
        return result


def _write_results(training: Training, result: PretrainResult, skipped: int, parameters: int, shards: Corpus) -> None:
    recipe, steps = training.recipe, result.steps
    assert isinstance(recipe, PretrainRecipe)
    stopped_by = "steps" if steps == recipe.steps else "max_tokens" if steps == training.steps else "max_minutes"
    write_json(
        training.job.folder.results_file,
        {
            "kind": "pretrain",
            "steps": steps,
            "stopped_by": stopped_by,
            "tokens": batch_schedule.tokens_until(recipe, steps),
            "skipped": skipped,
            "seconds": round(result.seconds, 1),
            "parameters": parameters,
            "metrics": {f"heldout_{name}": value for name, value in result.heldout.items()},
            "data": {"path": str(shards.folder), **training.digests},
        },
    )


def _verify(corpus: Corpus, job: Job) -> None:
    """Raise RequestError if a corpus was altered since it was made."""
    with progress("verifying shards", corpus.nbytes // jax.process_count(), "bytes") as advance:
        corpus.verify(advance, jax.process_index(), jax.process_count(), resumed=not job.needs_start)


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
    if recipe.masking.whole_word and not shards.static_masks:
        word_continuations(shards.tokenizer(), manifest.vocab_size)


def masked_lm_loss(apply: Apply, special: MaskIds | None, masking: Masking) -> SummedLoss:
    """Return the loss of a step: mask the rows (`masked_batch`) and predict the masked tokens."""

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


class _Batches:
    """The rows of the corpus in the order of training: `Batches` of the training loop."""

    def __init__(self, recipe: PretrainRecipe, corpus: Corpus, mesh: jax.sharding.Mesh) -> None:
        self._recipe, self._rows = recipe, corpus.split("train")
        self._sharding, self._unit = meshes.batch_sharding(mesh), batch_schedule.unit(recipe)

    def restore(self, step: int, position: Mapping[str, Any]) -> None:
        # A growing batch is distributed anew at every size, so each process reads all of it.
        mine = self._rows_here(self._unit) if self._recipe.batch_size_warmup is None else np.arange(self._unit)
        self._loader = train_batches(
            self._rows, self._unit, self._recipe.seed, mine=mine, start_state=position.get("loader")
        )

    def take(self, step: int) -> dict[str, jax.Array]:
        rows = batch_schedule.rows_of(self._recipe, step)
        batch, mine = batch_schedule.take(self._loader, rows // self._unit), self._rows_here(rows)
        if len(mine) < len(batch[TOKENS]):
            batch = {name: part[mine] for name, part in batch.items()}
        return meshes.place({**batch, "row": mine.astype(np.int32)}, self._sharding, rows, mine)

    def position(self) -> dict[str, Any]:
        return {"loader": self._loader.get_state()}

    def _rows_here(self, rows: int) -> np.ndarray[Any, Any]:
        return _rows_here(self._sharding, rows)


class _Evaluator:
    """The loss on the validation rows: `Evaluator` of the training loop.

    Attributes:
        metrics: those of the last measurement.
    """

    def __init__(
        self, recipe: PretrainRecipe, validation: Validation, mesh: jax.sharding.Mesh, apply: Apply, log: MetricsLog
    ) -> None:
        self._recipe, self._validation, self._log = recipe, validation, log
        self._sharding = meshes.batch_sharding(mesh)
        special = mask_ids(validation.corpus, recipe.masking, recipe.model.vocab_size)
        self._measure = MaskedLMEvaluator(apply, special, recipe.masking, self._place)
        self.every_steps = recipe.evaluate.every_steps
        self.metrics: dict[str, float] = {}

    def restore(self, step: int, position: Mapping[str, Any]) -> None:
        # A checkpoint is written after the measurement of its step, unless the run was stopped.
        self._measured = {entry["step"] for entry in read_metrics(self._log.path) if "heldout_loss" in entry}

    def evaluate(self, step: int, params: Parameters) -> float | None:
        loss = self._run(step, params, self._recipe.evaluate.max_batches)
        return loss if self._recipe.checkpoint.keep_best and math.isfinite(loss) else None

    def finish(self, step: int, params: Parameters) -> float | None:
        return self._run(step, params, None)

    def should_stop(self) -> bool:
        return False

    def position(self) -> dict[str, Any]:
        return {}

    def _run(self, step: int, params: Parameters, max_batches: int | None) -> float:
        size = self._recipe.batch_size
        rows = heldout_batches(self._validation.rows, size)
        count = min(len(self._validation), (max_batches or sys.maxsize) * size)
        with progress("validation", count, "row") as advance:
            self.metrics = self._measure(params, itertools.islice(rows, max_batches), advance)
        if step not in self._measured:
            self._log.write(step, **{f"heldout_{name}": value for name, value in self.metrics.items()})
        loss, accuracy = self.metrics["loss"], self.metrics["accuracy"]
        err.print(f"step {step:,}: validation loss {loss:.4f}, accuracy {percent(accuracy)}%")
        return loss

    def _place(self, batch: dict[str, Any]) -> dict[str, jax.Array]:
        mine = _rows_here(self._sharding, self._recipe.batch_size)
        here = jax.tree.map(lambda part: part[mine], batch)
        return meshes.place(here, self._sharding, self._recipe.batch_size, mine)


@functools.lru_cache
def _rows_here(sharding: jax.sharding.NamedSharding, rows: int) -> np.ndarray[Any, Any]:
    return meshes.rows_here(sharding, rows)


def _digests(shards: Corpus, validation: Validation | None) -> dict[str, str]:
    """Return the digests of all data that decides what the run ends with, that to train on first."""
    digests = {"shards": shards.digest, "tokenizer": shards.manifest.tokenizer}
    if validation is not None and validation.corpus is not shards:
        digests["validation"] = validation.corpus.digest
    return digests


def _peak_tokens(recipe: PretrainRecipe) -> float:
    """Return the tokens per second of training at the peak FLOP/s of the devices."""
    L, compute = recipe.data.sequence_length, recipe.compute
    row = count_flops(recipe.model, L, compute.mixing, recipe.masking.predictions(L)).training
    return peak_flops(compute.dtype) * jax.device_count() * L / row


def _rows(recipe: PretrainRecipe) -> str:
    return (
        str(recipe.batch_size)
        if recipe.batch_size_warmup is None
        else f"{recipe.batch_size_warmup.start} to {recipe.batch_size}"
    )


def _initial_parameters(recipe: PretrainRecipe, start: OpenModel | None) -> Parameters:
    # On the host: on a device of a mesh they would stay, whole, beside its share of them.
    fresh = init_parameters(parameter_shapes(recipe.model), recipe.model, recipe.seed)
    if start is None:
        return fresh
    new = to_flat(fresh, recipe.model)
    flat, report = transfer(start.flat, start.config, recipe.model, lambda path, shape: new[path])
    err.print(f"Starting from {start.source}:\n{report.describe()}")
    return to_tree(flat, recipe.model)
