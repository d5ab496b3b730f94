"""The same fine-tuning from several seeds, in one process: what is compiled for the first serves all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.checkpoint.resolve import OpenModel
from bigs_cli.checkpoint.run import RunFolder
from bigs_cli.core.files import write_json
from bigs_cli.evaluation.seeds import SUMMARY, summarize
from bigs_cli.recipe import FinetuneRecipe
from bigs_cli.reporting.console import err
from bigs_cli.tasks.task import Task
from bigs_cli.training.finetune import TaskData, finetune

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def seed_folders(folder: Path, first: int, count: int) -> list[RunFolder]:
    """Return the run folders of `count` seeds from `first` on."""
    return [RunFolder(folder / f"seed-{seed}") for seed in range(first, first + count)]


def finetune_seeds(
    recipe: FinetuneRecipe,
    task: Task,
    data: TaskData,
    start: OpenModel,
    tokenizer: Tokenizer,
    folder: Path,
    count: int,
    resume: bool = False,
) -> dict[str, Any]:
    """Fine-tune `count` times, each in a run folder of its own; return what seeds.json says of them all.

    With `resume`, finished runs stay as they are, and one that was stopped goes on.

    Raises:
        RequestError, BigsError, KeyboardInterrupt: as `finetune` does; seeds that are finished stay.
    """
    runs = seed_folders(folder, recipe.seed, count)
    for number, run in enumerate(runs):
        if resume and run.finished:
            err.print(f"{run.path} is finished.")
            continue
        err.print(f"Seed {number + 1} of {count}: {run.path}")
        of_seed = recipe.model_copy(update={"seed": recipe.seed + number})
        finetune(of_seed, task, data, start, tokenizer, run, resume and run.is_run)
    summary = summarize(task, runs)
    write_json(folder / SUMMARY, summary)
    return summary
