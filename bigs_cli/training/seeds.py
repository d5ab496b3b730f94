"""The same fine-tuning from several seeds, in one process: what is compiled for the first serves all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.evaluation.seeds import SUMMARY, summarize
from bigs_cli.recipe import FinetuneRecipe
from bigs_cli.reporting.console import err
from bigs_cli.tasks.task import Task
from bigs_cli.training.finetune import TaskData, data_digests, finetune
from bigs_cli.training.job import Job, check_start_digest, seed_jobs

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def finetune_seeds(
    recipe: FinetuneRecipe,
    task: Task,
    data: TaskData,
    start: OpenModel | None,
    tokenizer: Tokenizer,
    job: Job,
) -> dict[str, Any]:
    """Fine-tune with as many seeds as the record of `job` says, each in a run folder of its own below that of `job`.

    Return what seeds.json says of them all. When the job is resumed, finished runs stay as they are, and one that was
    stopped continues. `start` is needed unless every run has a checkpoint.

    Raises:
        RequestError: the model or the data are not those of the seeds that were trained before, or as `finetune`.
        BigsError, KeyboardInterrupt: as `finetune` does; seeds that are finished stay.
    """
    jobs = seed_jobs(job, recipe.seed)
    begun = [each.folder for each in jobs if each.resume]
    if start is not None and begun:
        check_start_digest(begun[0], start)
    digests = data_digests(task, data, tokenizer)
    for run in begun:
        if run.finished:
            _check_data(run, digests)
    for number, each in enumerate(jobs):
        run = each.folder
        if job.resume and run.finished:
            err.print(f"{run.path} is finished.")
            continue
        err.print(f"Seed {number + 1} of {len(jobs)}: {run.path}")
        of_seed = recipe.model_copy(update={"seed": recipe.seed + number})
        finetune(of_seed, task, data, start if each.needs_start else None, tokenizer, each)
    summary = summarize(task, [each.folder for each in jobs], job.command)
    write_json(job.folder.path / SUMMARY, summary)
    return summary


def _check_data(run: RunFolder, digests: Mapping[str, str]) -> None:
    """Refuse data that is not what a finished seed was trained and measured on: their figures belong together.

    Raises:
        RequestError: it is other data.
    """
    recorded = run.results().get("data", {})
    changed = [name for name, digest in digests.items() if recorded.get(name, digest) != digest]
    if changed:
        raise RequestError(
            f"The data is not what {run.path} was trained on (changed: {', '.join(changed)}). Resume with the same "
            f"data, or train all seeds again: --run {run.path.parent}-2"
        )
