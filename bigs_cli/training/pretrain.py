"""`bigs pretrain`: a recipe and token shards to a run, told in stages."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from bigs_cli.checkpoint.config_json import write_config
from bigs_cli.checkpoint.folder import CONFIG
from bigs_cli.checkpoint.names import to_flat, to_tree
from bigs_cli.checkpoint.orbax import Checkpoints
from bigs_cli.checkpoint.resolve import OpenModel
from bigs_cli.checkpoint.run import RunFolder
from bigs_cli.checkpoint.transfer import transfer
from bigs_cli.core.environment import describe_environment
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.masking import MaskIds, mask_tokens
from bigs_cli.data.shards import Shards
from bigs_cli.data.tokenizer import save_tokenizer
from bigs_cli.evaluation.mlm import MaskedLMEvaluator
from bigs_cli.model.functional import Parameters, count, initialize, make_apply
from bigs_cli.model.losses import classification_sums
from bigs_cli.recipe import PretrainRecipe, dump_recipe
from bigs_cli.reporting.console import err
from bigs_cli.reporting.metrics_log import MetricsLog
from bigs_cli.training import mesh as meshes
from bigs_cli.training.begin import begin
from bigs_cli.training.loop import TOKENS, Every, Plan, run
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
    shards: Shards,
    folder: RunFolder,
    start: OpenModel | None = None,
    resume: bool = False,
) -> PretrainResult:
    """Train `recipe` on `shards` in `folder`; `start` gives initial parameters, `resume` continues bit for bit.

    Raises:
        RequestError: recipe, shards, model and folder do not go together; nothing is changed then.
        KeyboardInterrupt: it was asked to stop; a checkpoint is written.
    """
    check_shards(recipe, shards)
    with folder.lock():
        mesh = meshes.make_mesh(recipe.mesh)
        meshes.check_batch(mesh, recipe.batch_size // recipe.accumulate)
        params, tokenizer = _initial_parameters(recipe, start), shards.tokenizer()
        folder.start(dump_recipe(recipe), describe_environment(), resume)
        if not resume:
            write_config(folder.path / CONFIG, recipe.model)
            save_tokenizer(tokenizer, folder.path)
        with Checkpoints(folder.checkpoints, recipe.checkpoint.keep) as checkpoints:
            return _train(recipe, shards, folder, mesh, params, checkpoints)


def check_shards(recipe: PretrainRecipe, shards: Shards) -> None:
    """Refuse shards whose length or vocabulary is not the recipe's, or without a held-out part (RequestError)."""
    manifest = shards.manifest
    shards.split("heldout")
    if manifest.sequence_length != recipe.data.sequence_length:
        raise RequestError(
            f"The shards in {shards.folder} have rows of {manifest.sequence_length} tokens; the recipe wants "
            f"{recipe.data.sequence_length}. Tokenize again with --length {recipe.data.sequence_length}, or set "
            f"data.sequence_length={manifest.sequence_length}."
        )
    if manifest.vocab_size != recipe.model.vocab_size:
        raise RequestError(
            f"The shards in {shards.folder} have a vocabulary of {manifest.vocab_size}; the recipe's model has "
            f"{recipe.model.vocab_size}. Use --set model.vocab_size={manifest.vocab_size}, or other shards."
        )


def _train(
    recipe: PretrainRecipe,
    shards: Shards,
    folder: RunFolder,
    mesh: jax.sharding.Mesh,
    params: Parameters,
    checkpoints: Checkpoints,
) -> PretrainResult:
    # --- the step ---------------------------------------------------------------------------------------------
    apply = make_apply(recipe.model, recipe.compute)
    special = MaskIds.of(shards.manifest.special_ids, recipe.model.vocab_size)
    rate = learning_rate(recipe.schedule, recipe.optimizer.learning_rate, recipe.steps)
    optimizer = make_optimizer(recipe.optimizer, rate)

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any) -> Any:
        mask_key, dropout_key = jax.random.split(key)
        masked = mask_tokens(mask_key, batch["row"], batch[TOKENS], special, recipe.masking)
        logits = apply(
            params,
            masked.input_ids,
            masked.attention_mask,
            key=jax.random.fold_in(dropout_key, part),
            positions=masked.positions,
        ).logits
        return classification_sums(logits, masked.labels, masked.weights)

    step = make_step(loss, optimizer, rate, recipe.seed, recipe.accumulate)
    state, begun, position = begin(params, optimizer, mesh, folder, checkpoints, shards.digest)
    log = MetricsLog(folder.metrics_file)
    batches = train_batches(shards, recipe.batch_size, recipe.seed, start_state=position.get("loader"))
    parameters = count(state.params)
    err.print(
        f"Pretraining {parameters / 1e6:.1f}M parameters on {shards.manifest.report.tokens / 1e6:.1f}M tokens, "
        f"{recipe.steps} steps of {recipe.batch_size} × {recipe.data.sequence_length}, on {jax.device_count()} "
        f"{jax.devices()[0].device_kind} device{'s' * (jax.device_count() > 1)}."
    )

    # --- the loop -----------------------------------------------------------------------------------------------
    evaluator = MaskedLMEvaluator(apply, special, recipe.masking)
    rows = np.arange(recipe.batch_size, dtype=np.int32)
    placement = meshes.batch_sharding(mesh)

    def next_batch() -> dict[str, jax.Array]:
        return jax.device_put({TOKENS: next(batches), "row": rows}, placement)

    def evaluate(done: int, state: TrainState, max_batches: int | None) -> dict[str, float]:
        held_out = itertools.islice(heldout_batches(shards, recipe.batch_size), max_batches)
        values = evaluator(state.params, held_out)
        if done > begun:  # A checkpoint is written after the line of its step.
            log.write(done, **{f"heldout_{name}": value for name, value in values.items()})
        err.print(f"step {done}: held-out loss {values['loss']:.4f}, accuracy {values['accuracy']:.3f}")
        return values

    def save(done: int, state: TrainState) -> None:
        position = {"loader": batches.get_state(), "data": shards.digest}
        checkpoints.save(done, state.params, state.optimizer, position)

    plan = Plan(
        name="pretrain",
        first=begun,
        last=recipe.steps,
        log_every=recipe.log_every,
        every=(
            Every(
                recipe.evaluate.every_steps,
                lambda done, state: evaluate(done, state, recipe.evaluate.max_batches),
            ),
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


def _initial_parameters(recipe: PretrainRecipe, start: OpenModel | None) -> Parameters:
    fresh = initialize(recipe.model, recipe.seed)
    if start is None:
        return fresh
    new = to_flat(fresh, recipe.model)
    flat, report = transfer(start.flat, start.config, recipe.model, lambda path, shape: new[path])
    err.print(f"Starting from {start.source}:\n{report.describe()}")
    return to_tree(flat, recipe.model)
