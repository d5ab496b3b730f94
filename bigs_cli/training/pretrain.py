"""`bigs pretrain`: a recipe and token shards, or HDF5 files, to a run, told in stages."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bigs_cli.checkpoint.config_json import write_config
from bigs_cli.checkpoint.folder import CONFIG
from bigs_cli.checkpoint.names import to_flat, to_tree
from bigs_cli.checkpoint.orbax import Checkpoints, Keep
from bigs_cli.checkpoint.resolve import OpenModel
from bigs_cli.checkpoint.run import RunFolder
from bigs_cli.checkpoint.transfer import transfer
from bigs_cli.core.environment import describe_environment
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.processes import agree, is_first
from bigs_cli.data.hdf5 import Corpus
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.manifest import SPLITS
from bigs_cli.data.masking import MaskIds, word_continuations
from bigs_cli.data.shards import Shards
from bigs_cli.data.tokenizer import save_tokenizer
from bigs_cli.data.verify import verify
from bigs_cli.evaluation.mlm import MaskedLMEvaluator, as_batch, masked_batch
from bigs_cli.model.functional import Parameters, count, initialize, make_apply
from bigs_cli.model.losses import classification_sums
from bigs_cli.recipe import PretrainRecipe, dump_recipe
from bigs_cli.reporting.console import err, progress
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training import mesh as meshes
from bigs_cli.training.begin import begin
from bigs_cli.training.loop import Every, Plan, run
from bigs_cli.training.optimizer import learning_rate, make_optimizer
from bigs_cli.training.state import TrainState, make_step


@dataclass(frozen=True)
class PretrainResult:
    """What a finished run has: held-out metrics, steps and seconds; also in results.json."""

    heldout: dict[str, float]
    steps: int
    seconds: float


def pretrain(
    recipe: PretrainRecipe,
    shards: Corpus,
    folder: RunFolder,
    start: OpenModel | None = None,
    resume: bool = False,
) -> PretrainResult:
    """Train `recipe` on `shards` in `folder`; `start` gives initial parameters, `resume` continues bit for bit.

    Raises:
        RequestError: recipe, shards, model and folder do not go together, or shards were altered; nothing is changed
            then.
        KeyboardInterrupt: it was asked to stop; a checkpoint is written.
    """
    check_shards(recipe, shards)
    with progress("verifying shards", shards.nbytes // jax.process_count(), "bytes") as advance:
        if isinstance(shards, Shards):
            verify(shards, jax.process_index(), jax.process_count(), advance)
        elif not resume:  # A resumed run has their digest, which says that they still are what was verified.
            shards.verify(advance)
    # Of several processes, the first one keeps the folder, and none goes on with data that another found altered.
    with folder.lock() if is_first() else contextlib.nullcontext():
        mesh = meshes.make_mesh(recipe.mesh)
        meshes.check_batch(mesh, recipe.batch_size // recipe.accumulate)
        params, tokenizer = _initial_parameters(recipe, start), shards.tokenizer()
        agree(0)
        if is_first():
            folder.start(dump_recipe(recipe), describe_environment(), resume)
        if is_first() and not resume:
            write_config(folder.path / CONFIG, recipe.model)
            save_tokenizer(tokenizer, folder.path)
        saved = recipe.checkpoint
        keep = Keep(saved.keep, saved.keep_every, saved.keep_best)
        with Checkpoints(folder.checkpoints, keep) as checkpoints:
            return _train(recipe, shards, folder, mesh, params, checkpoints)


def check_shards(recipe: PretrainRecipe, shards: Corpus) -> None:
    """Refuse shards or HDF5 files that the recipe cannot be trained on (RequestError).

    Those whose length or vocabulary is another, without a part to train on or one held out, or without words where it
    masks whole ones.
    """
    manifest = shards.manifest
    for split in SPLITS:
        shards.split(split)
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


def _train(
    recipe: PretrainRecipe,
    shards: Corpus,
    folder: RunFolder,
    mesh: jax.sharding.Mesh,
    params: Parameters,
    checkpoints: Checkpoints,
) -> PretrainResult:
    # --- the step ---------------------------------------------------------------------------------------------
    apply = make_apply(recipe.model, recipe.compute)
    special = MaskIds.of(shards, recipe.masking, recipe.model.vocab_size) if isinstance(shards, Shards) else None
    rate = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, recipe.steps)
    optimizer = make_optimizer(recipe.optimizer, rate)

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        mask_key, dropout_key = jax.random.split(key)
        masked = masked_batch(mask_key, batch, special, recipe.masking)
        logits = apply(
            params,
            masked.input_ids,
            masked.attention_mask,
            batch.get("token_type_ids"),
            key=jax.random.fold_in(dropout_key, part),
            positions=masked.positions,
        ).logits
        return classification_sums(logits, masked.labels, masked.weights)

    step = make_step(loss, optimizer, rate, recipe.seed, recipe.accumulate)
    state, begun, position = begin(params, optimizer, mesh, folder, checkpoints, shards.digest)
    log = MetricsLog(folder.metrics_file if is_first() else Path(os.devnull))
    placement = meshes.batch_sharding(mesh)
    mine = meshes.rows_here(placement, recipe.batch_size)
    batches = train_batches(shards, recipe.batch_size, recipe.seed, mine=mine, start_state=position.get("loader"))
    parameters = count(state.params)
    err.print(
        f"Pretraining {parameters / 1e6:.1f}M parameters on {_amount(shards)}, "
        f"{recipe.steps} steps of {recipe.batch_size} × {recipe.data.sequence_length}, on {jax.device_count()} "
        f"{jax.devices()[0].device_kind} device{'s' * (jax.device_count() > 1)}."
    )

    # --- the loop -----------------------------------------------------------------------------------------------
    rows = mine.astype(np.int32)

    def next_batch() -> dict[str, jax.Array]:
        return meshes.place({**as_batch(next(batches)), "row": rows}, placement, recipe.batch_size, mine)

    def place(batch: dict[str, Any]) -> dict[str, jax.Array]:
        here = jax.tree.map(lambda part: part[mine], batch)
        return meshes.place(here, placement, recipe.batch_size, mine)

    evaluator = MaskedLMEvaluator(apply, special, recipe.masking, place)

    def evaluate(done: int, state: TrainState, max_batches: int | None) -> dict[str, float]:
        held_out = itertools.islice(heldout_batches(shards, recipe.batch_size), max_batches)
        values = evaluator(state.params, held_out)
        if done > begun:  # A checkpoint is written after the line of its step.
            log.write(done, **{f"heldout_{name}": value for name, value in values.items()})
        err.print(f"step {done}: held-out loss {values['loss']:.4f}, accuracy {values['accuracy']:.3f}")
        return values

    def save(done: int, state: TrainState, score: float | None = None) -> None:
        position = {"loader": batches.get_state(), "data": shards.digest}
        checkpoints.save(done, state.params, state.optimizer, position, score)

    def judge(done: int, state: TrainState) -> None:
        loss, best = evaluate(done, state, recipe.evaluate.max_batches)["loss"], checkpoints.best()
        if recipe.checkpoint.keep_best and (best is None or loss < best):
            save(done, state, loss)

    plan = Plan(
        name="pretrain",
        first=begun,
        last=recipe.steps,
        log_every=recipe.log_every,
        every=(
            Every(recipe.evaluate.every_steps, judge),
            Every(recipe.checkpoint.every_steps, save),
        ),
        save=save,
    )
    started = time.perf_counter()
    state = run(plan, state, step, next_batch, log)

    # --- the end: all of the held-out part, the last checkpoint, results.json -----------------------------------------
    heldout = evaluate(recipe.steps, state, None)
    save(recipe.steps, state)
    checkpoints.wait()
    result = PretrainResult(heldout, recipe.steps, time.perf_counter() - started)
    if not is_first():
        return result
    write_json(
        folder.results_file,
        {
            "kind": "pretrain",
            "steps": result.steps,
            "seconds": round(result.seconds, 1),
            "parameters": parameters,
            "metrics": {f"heldout_{name}": value for name, value in result.heldout.items()},
            "data": {"path": str(shards.folder), "tokenizer": shards.manifest.tokenizer},
        },
    )
    return result


def _amount(shards: Corpus) -> str:
    if isinstance(shards, Shards):
        return f"{shards.manifest.report.tokens / 1e6:.1f}M tokens"
    return f"{len(shards.split('train')):,} rows with the masks of their files (the recipe's masking is not used)"


def _initial_parameters(recipe: PretrainRecipe, start: OpenModel | None) -> Parameters:
    fresh = initialize(recipe.model, recipe.seed)
    if start is None:
        return fresh
    new = to_flat(fresh, recipe.model)
    flat, report = transfer(start.flat, start.config, recipe.model, lambda path, shape: new[path])
    err.print(f"Starting from {start.source}:\n{report.describe()}")
    return to_tree(flat, recipe.model)
