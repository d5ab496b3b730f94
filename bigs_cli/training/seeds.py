"""Fine-tuning with several seeds in one process, which compiles the training step only once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import write_json
from bigs_cli.core.places import place_of
from bigs_cli.core.processes import broadcast, is_main_process
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
    """Fine-tune once per seed of `job`, each in a subfolder of its run folder; return the summary in seeds.json.

    A resumed job keeps finished runs and continues an interrupted one. `start` is needed unless every run has a
    checkpoint.

    Raises:
        RequestError: the model or the data differ from those of the seeds trained before, or as `finetune`.
        BigsError, KeyboardInterrupt: as `finetune`. Finished seeds are kept.
    """
    jobs = seed_jobs(job, recipe.seed)
    existing = [each.folder for each in jobs if each.resume]
    if start is not None and existing:
        check_start_digest(existing[0], start)
    digests = data_digests(task, data, tokenizer)
    for run in existing:
        if run.finished:
            _check_data(run, digests)
    for number, each in enumerate(jobs):
        run = each.folder
        if broadcast(job.resume and run.finished):
            err.print(f"{place_of(run.path)} is finished.")
            continue
        err.print(f"Seed {number + 1} of {len(jobs)}: {run.path}")
        seed_recipe = recipe.model_copy(update={"seed": recipe.seed + number})
        finetune(seed_recipe, task, data, start if each.needs_start else None, tokenizer, each)
    summary = summarize(task, [each.folder for each in jobs], job.command)
    if is_main_process():
        write_json(job.folder.path / SUMMARY, summary)
    return summary


def _check_data(run: RunFolder, digests: Mapping[str, str]) -> None:
    """Check that the finished seed was trained on the same data, because a summary must not mix data sets.

    Raises:
        RequestError: it was trained on other data.
    """
    recorded = run.results().get("data", {})
    changed = [name for name, digest in digests.items() if recorded.get(name, digest) != digest]
    if changed:
        raise RequestError(
            f"The data is not what {run.path} was trained on (changed: {', '.join(changed)}). Resume with the same "
            f"data, or train all seeds again: --run {run.path.parent}-2"
        )
