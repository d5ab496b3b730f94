"""`bigs finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = "[bold]Example:[/bold] bigs finetune mrpc --from mnli --data glue/MRPC --run runs/mrpc"


def finetune(
    task: Annotated[str, typer.Argument(help="cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli, or word-order.")],
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Start from a run, folder, hub id or short name.",
            show_default="the recipe's",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with the task's TSV files.", show_default="from the hub")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder.", show_default="runs/RECIPE")] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Another recipe than the task's own, such as mrpc-128 or mrpc-freeze."),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder.")] = False,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="Send the figures to tensorboard or wandb too. Repeat it for both."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the recipe in full, sizes, FLOPs, shardings and an example; train nothing."
        ),
    ] = False,
) -> None:
    """Train a model for a labelled task and keep its best checkpoint.

    Best is by the task's first metric on the dev set, measured after every epoch.
    """
    from bigs_cli.checkpoint.run import RunFolder, runs_root
    from bigs_cli.core.errors import RequestError
    from bigs_cli.recipe import FinetuneRecipe, load_recipe
    from bigs_cli.reporting.trackers import check_trackers
    from bigs_cli.tasks import get_task

    chosen_task = get_task(task)
    name = recipe or chosen_task.name
    folder = RunFolder(run or runs_root() / Path(name).stem)
    chosen = load_recipe(str(folder.recipe_file) if resume and folder.is_run else name, sets or ())
    if not isinstance(chosen, FinetuneRecipe):
        raise RequestError(f"The recipe {name} is for pretraining. Use it so: bigs pretrain --recipe {name}")
    if chosen.task != chosen_task.name:
        raise RequestError(f"The recipe {name} is for the task {chosen.task}, not {chosen_task.name}.")
    folder.check(resume)
    if resume and sets:
        raise RequestError("A run goes on with its own recipe: leave out --set, or start a new run --from this one.")
    if track:
        chosen = chosen.model_copy(update={"track": tuple(track)})
    check_trackers(chosen.track)
    model_name = start or chosen.from_
    if model_name is None:
        raise RequestError(
            f"The recipe {name} names no model to start from. Name one: bigs finetune {task} --from MODEL"
        )
    from bigs_cli.checkpoint.resolve import find_model
    from bigs_cli.commands.shared import lasting_name, open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.scores import scores_table

    prepare_jax()
    from bigs_cli.training.finetune import finetune as train
    from bigs_cli.training.finetune import load_task_data

    chosen = chosen.model_copy(update={"from_": lasting_name(find_model(model_name))})
    examples = load_task_data(chosen_task, data, chosen.max_train_examples, chosen.seed)
    model = open_and_announce(model_name)
    if dry_run:
        from bigs_cli.recipe import dump_recipe
        from bigs_cli.training.preview import preview_finetune

        tables, example = preview_finetune(chosen, chosen_task, examples.train, model.config, tokenizer_of(model))
        out.print(dump_recipe(chosen))
        for part in tables:
            out.print(part, "", sep="\n")
        out.print(example)
        err.print("A dry run: there is no run folder. Leave out --dry-run to train.")
        return
    result = train(chosen, chosen_task, examples, model, tokenizer_of(model), folder, resume)
    err.print(f"Done in {result['seconds'] / 60:.1f} minutes; best at step {result['step']}.")
    err.print(scores_table(chosen_task, result["metrics"]))
    where = f" --data {data}" if data else ""
    err.print(f"Next: bigs eval {chosen_task.name} --model {folder.path}{where}")
    out.print(str(folder.path))
