"""What a run says when the machine fails it: how it goes on once the fault is gone, and how it needs less memory."""

from __future__ import annotations

from contextlib import AbstractContextManager

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.core.error_messages import AGAIN, of_disk, of_memory, told
from bigs_cli.core.errors import BigsError
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe
from bigs_cli.training.job import Job


def translate_errors(recipe: PretrainRecipe | FinetuneRecipe, job: Job) -> AbstractContextManager[None]:
    """Turn a fault of the machine in the run of `recipe`, such as a full disk, into sentences.

    Raises:
        BigsError: there was one. Other errors pass.
    """
    return told(lambda error: _explained(error, recipe, job))


def _explained(error: Exception, recipe: PretrainRecipe | FinetuneRecipe, job: Job) -> BigsError | None:
    folder = job.folder
    go_on = f"and continue with `{job.command}`" if folder.is_run else AGAIN
    if (sentence := of_disk(error, folder.path, go_on)) is not None:
        return BigsError(sentence)
    if (sentence := of_memory(error)) is not None:
        start = f" --from {folder.path}" if steps(folder.checkpoints) else ""
        return BigsError(f"{sentence} {_less(recipe)} Begin anew so: --run {folder.path}-2{start}")
    return None


def _less(recipe: PretrainRecipe | FinetuneRecipe) -> str:
    """Return which settings make a run of `recipe` need less memory, with what they are now."""
    batch = f"batch_size (now {recipe.batch_size})"
    if isinstance(recipe, PretrainRecipe):
        parts = f"accumulate (now {recipe.accumulate}: the parts in which a batch is computed) higher"
        knobs = [f"{batch} lower", parts]
    else:
        knobs = [f"{batch} or eval_batch_size (now {recipe.eval_batch_size}) lower"]
    if recipe.compute.remat != "layer":
        knobs.append(f"compute.remat (now {recipe.compute.remat}) layer")
    return (
        f"With --set, make {', '.join(knobs)}, or share the parameters out over more devices with mesh.fsdp (now "
        f"{recipe.mesh.fsdp})."
    )
