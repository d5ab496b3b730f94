"""`bigs runs`: what was trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List the runs here.")


@app.command("list", epilog="[bold]Example:[/bold] bigs runs list")
def list_runs(
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder of runs.", show_default="$BIGS_RUNS, or runs/")
    ] = None,
) -> None:
    """List the runs, the newest first: kind, task, state, and the figure each ended with."""
    from bigs_cli.checkpoint.run import runs, runs_root
    from bigs_cli.recipe import FinetuneRecipe, load_recipe
    from bigs_cli.reporting.console import err, out, table
    from bigs_cli.tasks import get_task

    found = runs(root)
    if not found:
        err.print(f"No runs under {root or runs_root()}/. Make one: bigs demo")
        return
    made = table("", "run", "kind", "task", "state", "result", right=("result",))
    for run in found:
        recipe = load_recipe(str(run.recipe_file))
        task = recipe.task if isinstance(recipe, FinetuneRecipe) else "mlm"
        state, result = "not finished", ""
        if run.finished:
            state = "finished"
            name = get_task(task).metrics[0] if isinstance(recipe, FinetuneRecipe) else "heldout_loss"
            result = f"{name} {run.results()['metrics'][name]:.4f}"
        made.add_row(str(run.path), recipe.kind, task, state, result)
    out.print(made)
