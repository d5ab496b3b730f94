"""`bigs pretrain`: train a model on token shards or HDF5 files with the masked-language-model loss."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from pydantic import ValidationError

from bigs_cli.checkpoints.config_json import write_config
from bigs_cli.checkpoints.folder import CONFIG
from bigs_cli.checkpoints.orbax import Checkpoints, Keep
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.metric_names import percent
from bigs_cli.core.places import place_of
from bigs_cli.core.processes import broadcast, is_main_process
from bigs_cli.core.wording import counted
from bigs_cli.data.corpus import Corpus, Validation
from bigs_cli.data.loader import heldout_batches, train_batches
from bigs_cli.data.masking import MaskIds, mask_ids, masked_batch, word_continuations
from bigs_cli.data.tokenizer import save_tokenizer
from bigs_cli.evaluation.mlm import MaskedLMEvaluator
from bigs_cli.models import sharding as meshes
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import Apply, Parameters, count, make_apply, memoize
from bigs_cli.models.losses import classification_sums, distillation, with_teacher
from bigs_cli.models.published import to_tree
from bigs_cli.recipe import BiGSConfig, PretrainRecipe
from bigs_cli.recipe.groups import Distillation, Masking
from bigs_cli.reporting.console import err, is_screen, progress
from bigs_cli.reporting.loggers import open_loggers
from bigs_cli.reporting.metrics_log import MetricsLog, read_metrics
from bigs_cli.training import batch_schedule
from bigs_cli.training.budget import steps_within
from bigs_cli.training.dtype import with_dtype
from bigs_cli.training.error_messages import translate_errors
from bigs_cli.training.job import Job, initial_parameters
from bigs_cli.training.loop import TOKENS, Training, place_parameters, train
from bigs_cli.training.peak_flops import peak_tokens
from bigs_cli.training.step import SummedLoss
from bigs_cli.training.verification import Verification


@dataclass(frozen=True)
class PretrainResult:
    """The result of a finished run, also in results.json: held-out metrics, steps, and training time in seconds.

    The time is summed over all resumes. Without validation data there are no metrics.
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
    teacher: OpenModel | None = None,
) -> PretrainResult:
    """Train the model of `recipe` on `shards`: a new run, or a bit-exact continuation, as `job` specifies.

    `start` provides the initial parameters of a new run; `teacher` is the model that `recipe` names.

    Raises:
        RequestError: recipe, shards, model and folder are incompatible, or the shards were modified. A new run leaves
            nothing behind.
        BigsError: the loss or gradient stayed nonfinite, or the machine failed. The last good checkpoint is kept.
        KeyboardInterrupt: the run was interrupted. A checkpoint is written.
    """
    check_shards(recipe, shards)
    if teacher is not None:
        check_word_teacher(teacher.config, teacher.source, recipe)
    folder, main = job.folder, is_main_process()
    other = None if validation is None or validation.corpus is shards else validation.corpus
    # Only process 0 locks and writes the folder.
    with (
        folder.lock() if main else contextlib.nullcontext(),
        translate_errors(recipe, job),
        contextlib.ExitStack() as stack,
    ):
        mesh = meshes.make_mesh(recipe.mesh)
        rows = batch_schedule.base_batch_size(recipe) // recipe.gradient_accumulation_steps
        meshes.check_batch(mesh, rows, recipe.data.sequence_length)
        (params, _), tokenizer = initial_parameters(recipe.model, recipe.seed, start), shards.tokenizer()
        broadcast(0)  # Every process has checked the request before the folder is written.
        recipe = with_dtype(recipe)
        apply = make_apply(recipe.model, recipe.compute)
        length, compute = recipe.data.sequence_length, recipe.compute
        special = mask_ids(shards, recipe.masking, recipe.model.vocab_size)
        loss, fixed = masked_lm_loss(apply, special, recipe.masking), ()
        digests = _digests(shards, validation)
        if teacher is not None:
            teach = make_apply(teacher.config, compute)
            loss = masked_lm_loss(apply, special, recipe.masking, teach, recipe.distillation)
            digests["teacher"] = teacher.digest  # Before `to_tree`, which takes the arrays.
            fixed = (place_parameters(to_tree(teacher.flat, teacher.config), mesh),)
        flops = count_flops(recipe.model, length, compute.mixing, recipe.masking.predictions(length)).training
        peak = peak_tokens(compute.dtype, flops, length) if is_screen(err) else None
        # After the peak was measured, which reading would disturb.
        verification = stack.enter_context(_verification([shards] if other is None else [shards, other], job))
        training = Training(
            recipe=recipe,
            job=job,
            mesh=mesh,
            loss=loss,
            steps=batch_schedule.last_step(recipe),
            batches=_Batches(recipe, shards, mesh),
            evaluator=None,
            checkpoint_every=recipe.checkpoint.every_steps,
            digests=digests,
            fixed=fixed,
            verification=verification,
            max_minutes=recipe.max_minutes,
            peak_tokens=peak,
        )
        if recipe.budget is not None:
            verification.wait()  # Reading would slow the measured steps.
            recipe = _fit_budget(training, params, 0 if validation is None else len(validation))
            training = replace(
                training,
                recipe=recipe,
                steps=batch_schedule.last_step(recipe),
                batches=_Batches(recipe, shards, mesh),
            )

        def write_model(path: Path) -> None:
            write_config(path / CONFIG, recipe.model)
            save_tokenizer(tokenizer, path)

        verification.poll()
        if main:
            job.start(recipe, start, write_model)
        saved = recipe.checkpoint
        keep = Keep(saved.keep, saved.keep_every, saved.keep_best)
        loggers = recipe.loggers if main else ()
        with (
            job.discarded_if_refused(),
            Checkpoints(folder.checkpoints, keep) as checkpoints,
            open_loggers(loggers, folder.path, recipe.model_dump(mode="json", by_alias=True), job.command) as logger,
        ):
            log = MetricsLog(folder.metrics_file if main else Path(os.devnull), logger)
            evaluator = None if validation is None else _Evaluator(recipe, validation, mesh, apply, log)
            err.print(
                f"Pretraining {count(params) / 1e6:.1f}M parameters on {shards.size}, "
                f"{counted(training.steps, 'step')} of {_describe_batch(recipe)} × {length}, on "
                f"{counted(jax.device_count(), f'{jax.devices()[0].device_kind} device')}."
            )
            training = replace(training, evaluator=evaluator)
            trained = train(training, params, checkpoints, log)
        result = PretrainResult({} if evaluator is None else evaluator.metrics, trained.steps, trained.seconds)
        if main:
            _write_results(training, result, int(trained.state.skipped), count(params), shards)
        return result


def _fit_budget(training: Training, params: Parameters, validation_rows: int) -> PretrainRecipe:
    """Return the recipe of a new run with the number of steps that fit into its budget, and without the budget.

    Raises:
        RequestError: no step fits, or the schedule does not fit into so few steps.
    """
    recipe = training.recipe
    assert isinstance(recipe, PretrainRecipe)
    err.print(f"Measuring the speed for a budget of {recipe.budget}, which replaces steps: {recipe.steps:,}.")
    steps = steps_within(training, params, validation_rows)
    values = recipe.model_dump(mode="json", by_alias=True) | {"steps": steps, "budget": None}
    try:
        return PretrainRecipe.model_validate(values)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RequestError(
            f"The budget of {recipe.budget} is enough for {counted(steps, 'step')}. {reason}. Raise --budget, or set "
            "schedule.warmup_fraction instead of schedule.warmup_steps."
        ) from None


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
            "data": {"path": place_of(shards.folder), **training.digests},
        },
    )


def _verification(corpora: Sequence[Corpus], job: Job) -> Verification:
    """Return the check that no corpus was modified after it was written. HDF5 files are checked at once.

    Raises:
        RequestError: HDF5 files were modified.
    """
    place, resumed = (jax.process_index(), jax.process_count()), not job.needs_start
    for corpus in corpora:
        if corpus.static_masks:  # Its digest needs the content of all files, too.
            with progress("verifying", corpus.nbytes, "bytes") as advance:
                corpus.verify(advance, *place, resumed)

    def verify_shards(advance: Callable[[int], None]) -> None:
        for corpus in corpora:
            if not corpus.static_masks:
                corpus.verify(advance, *place, resumed)

    return Verification(verify_shards)


def check_shards(recipe: PretrainRecipe, shards: Corpus) -> None:
    """Check that the recipe can train on the shards or HDF5 files.

    Raises:
        RequestError: their row length or vocabulary differs from the recipe's, they have no training split, or the
            recipe masks whole words and the tokenizer does not mark words.
    """
    manifest = shards.manifest
    shards.split("train")
    if manifest.sequence_length != recipe.data.sequence_length:
        raise RequestError(
            f"The shards in {shards.folder} have rows of {manifest.sequence_length} tokens; the recipe has "
            f"{recipe.data.sequence_length}. Use other shards (bigs tokenize --length {recipe.data.sequence_length}), "
            f"or --set data.sequence_length={manifest.sequence_length}."
        )
    if manifest.vocab_size != recipe.model.vocab_size:
        raise RequestError(
            f"The shards in {shards.folder} have a vocabulary of {manifest.vocab_size}; the recipe's model has "
            f"{recipe.model.vocab_size}. Use --set model.vocab_size={manifest.vocab_size}, or other shards."
        )
    if recipe.masking.whole_word and not shards.static_masks:
        word_continuations(shards.tokenizer(), manifest.vocab_size)


def check_word_teacher(config: BiGSConfig, source: str, recipe: PretrainRecipe) -> None:
    """Check that a model of this recipe can learn the words that the teacher of this config predicts.

    Raises:
        RequestError: the teacher has another head or vocabulary, or is for shorter rows.
    """
    vocabulary, length = recipe.model.vocab_size, recipe.data.sequence_length
    if config.head != "masked-lm":
        raise RequestError(
            f"The teacher {source} is a {config.head} model. Only a masked-lm model, such as a pretraining "
            "run, predicts masked words."
        )
    if config.vocab_size != vocabulary or config.max_position_embeddings < length:
        raise RequestError(
            f"The teacher {source} (vocabulary {config.vocab_size}, at most {config.max_position_embeddings} "
            f"tokens) does not fit the recipe (vocabulary {vocabulary}, {length} tokens)."
        )


@memoize
def masked_lm_loss(
    apply: Apply,
    special: MaskIds | None,
    masking: Masking,
    teach: Apply | None = None,
    distill: Distillation | None = None,
) -> SummedLoss:
    """Return the loss of a step: mask the rows (`masked_batch`) and predict the masked tokens.

    With `distill`, the loss is also a function of the parameters of a teacher, whose function is `teach`.
    """

    def loss(params: Parameters, batch: dict[str, jax.Array], key: jax.Array, part: Any, *fixed: Parameters) -> Any:
        mask_key, dropout_key = jax.random.split(key)
        masked = masked_batch(mask_key, batch, special, masking)
        inputs = (masked.input_ids, masked.attention_mask, batch.get("token_type_ids"))
        dropout_key = jax.random.fold_in(dropout_key, part)
        logits = apply(params, *inputs, key=dropout_key, positions=masked.positions).logits
        total, sums = classification_sums(logits, masked.labels, masked.weights)
        if teach is None or distill is None:
            return total, sums
        taught = teach(*fixed, *inputs, positions=masked.positions).logits
        difference = (distillation(logits, taught, distill.temperature) * masked.weights).sum()
        return with_teacher(total, sums, difference, distill.weight)

    return loss


class _Batches:
    """The training rows of the corpus, shuffled. Implements `Batches` of the training loop."""

    def __init__(self, recipe: PretrainRecipe, corpus: Corpus, mesh: jax.sharding.Mesh) -> None:
        self._recipe, self._rows = recipe, corpus.split("train")
        self._sharding, self._base = meshes.batch_sharding(mesh), batch_schedule.base_batch_size(recipe)
        self._steps = batch_schedule.last_step(recipe)

    def restore(self, step: int, loop_state: Mapping[str, Any]) -> None:
        # With batch-size warmup the rows of a process change with the batch size, so each process reads all rows.
        fixed = self._recipe.batch_size_warmup is None
        mine = meshes.rows_here(self._sharding, self._base) if fixed else np.arange(self._base)
        self._loader = train_batches(
            self._rows, self._base, self._recipe.seed, mine=mine, start_state=loop_state.get("loader")
        )

    def take(self, step: int) -> dict[str, jax.Array]:
        rows = batch_schedule.rows_of(self._recipe, step)
        batch, mine = batch_schedule.take(self._loader, rows // self._base), meshes.rows_here(self._sharding, rows)
        if len(mine) < len(batch[TOKENS]):
            batch = {name: part[mine] for name, part in batch.items()}
        batch = {**batch, "row": mine.astype(np.int32)}
        if self._recipe.masking.final_rate is not None:
            rate = self._recipe.masking.rate_at(step, self._steps)
            batch["mask_rate"] = np.full(len(mine), rate, np.float32)
        return meshes.place(batch, self._sharding, rows, mine)

    def loop_state(self) -> dict[str, Any]:
        return {"loader": self._loader.get_state()}


class _Evaluator:
    """Measures the held-out loss on the validation rows. Implements `Evaluator` of the training loop.

    Attributes:
        metrics: the metrics of the last evaluation.
    """

    def __init__(
        self, recipe: PretrainRecipe, validation: Validation, mesh: jax.sharding.Mesh, apply: Apply, log: MetricsLog
    ) -> None:
        self._recipe, self._validation, self._log = recipe, validation, log
        place = functools.partial(meshes.put, sharding=meshes.batch_sharding(mesh))
        self._measure = MaskedLMEvaluator(apply, validation.corpus, recipe.model.vocab_size, place)
        self.every_steps = recipe.evaluate.every_steps
        self.metrics: dict[str, float] = {}

    def restore(self, step: int, loop_state: Mapping[str, Any]) -> None:
        # A checkpoint usually follows the evaluation of its step, which a resumed run must not log again.
        self._measured = {entry["step"] for entry in read_metrics(self._log.path) if "heldout_loss" in entry}

    def evaluate(self, step: int, params: Parameters) -> float | None:
        loss = self._run(step, params, self._recipe.evaluate.max_batches)
        return loss if self._recipe.checkpoint.keep_best and math.isfinite(loss) else None

    def finish(self, step: int, params: Parameters) -> float | None:
        return self._run(step, params, None)

    def should_stop(self) -> bool:
        return False

    def loop_state(self) -> dict[str, Any]:
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


def _digests(shards: Corpus, validation: Validation | None) -> dict[str, str]:
    """Return the digests of all data that the result of the run depends on, the training data first."""
    digests = {"shards": shards.digest, "tokenizer": shards.manifest.tokenizer}
    if validation is not None and validation.corpus is not shards:
        digests["validation"] = validation.corpus.digest
    return digests


def _describe_batch(recipe: PretrainRecipe) -> str:
    warmup = recipe.batch_size_warmup
    return str(recipe.batch_size) if warmup is None else f"{warmup.start} to {recipe.batch_size}"
