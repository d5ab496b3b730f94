"""What a run says when the machine fails it: how it goes on once the fault is gone, and how it needs less memory."""

from __future__ import annotations

from contextlib import AbstractContextManager

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.core.error_messages import AGAIN, convert_errors, describe_disk_error, describe_memory_error
from bigs_cli.core.errors import BigsError
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe
from bigs_cli.training.job import Job


def translate_errors(recipe: PretrainRecipe | FinetuneRecipe, job: Job) -> AbstractContextManager[None]:
    """Turn a fault of the machine in the run of `recipe`, such as a full disk, into sentences.

    Raises:
        BigsError: there was one. Other errors pass.
    """
    return convert_errors(lambda error: _explained(error, recipe, job))


def _explained(error: Exception, recipe: PretrainRecipe | FinetuneRecipe, job: Job) -> BigsError | None:
    folder = job.folder
    go_on = f"and continue with `{job.command}`" if folder.is_run else AGAIN
    if (sentence := describe_disk_error(error, folder.path, go_on)) is not None:
        return BigsError(sentence)
    if (sentence := describe_memory_error(error)) is not None:
        start = f" --from {folder.path}" if steps(folder.checkpoints) else ""
        return BigsError(f"{sentence} {_less(recipe)} Begin anew so: --run {folder.path}-2{start}")
    return None


def _less(recipe: PretrainRecipe | FinetuneRecipe) -> str:
    """Return which settings make a run of `recipe` need less memory, with what they are now."""
    knobs = [f"raise gradient_accumulation_steps (now {recipe.gradient_accumulation_steps})"]
    batch = f"lower batch_size (now {recipe.batch_size})"
    if isinstance(recipe, FinetuneRecipe):
        batch += f" or eval_batch_size (now {recipe.eval_batch_size})"
    if recipe.compute.remat != "layer":
        knobs.append("set compute.remat to layer")
    return (
        f"With --set, {', '.join([batch, *knobs])}, or shard the parameters over more devices with mesh.fsdp (now "
        f"{recipe.mesh.fsdp})."
    )
