"""Messages for a full disk or too little memory during a run: how to resume, and how to use less memory."""

from __future__ import annotations

from contextlib import AbstractContextManager

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.core.error_messages import AGAIN, convert_errors, describe_disk_error, describe_memory_error
from bigs_cli.core.errors import BigsError
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe
from bigs_cli.training.job import Job


def translate_errors(recipe: PretrainRecipe | FinetuneRecipe, job: Job) -> AbstractContextManager[None]:
    """Translate a full disk or too little memory during the run of `recipe` into an error with a remedy.

    Raises:
        BigsError: the disk is full or memory is exhausted. Other errors are re-raised.
    """
    return convert_errors(lambda error: _explained(error, recipe, job))


def _explained(error: Exception, recipe: PretrainRecipe | FinetuneRecipe, job: Job) -> BigsError | None:
    folder = job.folder
    then = f"and continue with `{job.command}`" if folder.is_run else AGAIN
    if (sentence := describe_disk_error(error, folder.path, then)) is not None:
        return BigsError(sentence)
    if (sentence := describe_memory_error(error)) is not None:
        start = f" --from {folder.path}" if steps(folder.checkpoints) else ""
        return BigsError(f"{sentence} {_memory_advice(recipe)} Then start a new run: --run {folder.path}-2{start}")
    return None


def _memory_advice(recipe: PretrainRecipe | FinetuneRecipe) -> str:
    """Return a sentence with the settings that make a run of `recipe` use less memory, and their current values."""
    options = [f"raise gradient_accumulation_steps (now {recipe.gradient_accumulation_steps})"]
    batch = f"lower batch_size (now {recipe.batch_size})"
    if isinstance(recipe, FinetuneRecipe):
        batch += f" or eval_batch_size (now {recipe.eval_batch_size})"
    if recipe.compute.remat != "layer":
        options.append("set compute.remat to layer")
    return (
        f"With --set, {', '.join([batch, *options])}, or shard the parameters over more devices with mesh.fsdp (now "
        f"{recipe.mesh.fsdp})."
    )
