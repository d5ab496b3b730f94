"""The data type of a new run with `compute.dtype: auto`."""

from __future__ import annotations

from typing import TypeVar

from bigs_cli.core.processes import broadcast
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe
from bigs_cli.reporting.console import err
from bigs_cli.training.peak_flops import peak_flops

AnyRecipe = TypeVar("AnyRecipe", PretrainRecipe, FinetuneRecipe)


def with_dtype(recipe: AnyRecipe) -> AnyRecipe:
    """Return a recipe in which `compute.dtype` is not auto: the data type with the faster matrix products here.

    CPUs without bfloat16 instructions emulate them, which is slower than float32. With several processes, process 0
    decides.
    """
    if recipe.compute.dtype != "auto":
        return recipe
    speed = peak_flops("bfloat16") / peak_flops("float32")
    dtype = "bfloat16" if broadcast(speed > 1) else "float32"
    err.print(f"compute.dtype: {dtype}; here, bfloat16 matrix products are {speed:.1f} times as fast as float32 ones.")
    return recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"dtype": dtype})})
