"""`bigs recipes`: see, copy and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import local
from bigs_cli.core.errors import RequestError

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, copy and check recipes.",
    epilog="[bold]Example:[/bold] bigs recipes show mrpc --resolved",
    rich_markup_mode="rich",
)


@app.command("list", epilog="[bold]Example:[/bold] bigs recipes list --kind finetune")
def list_recipes(
    kind: Annotated[
        Literal["pretrain", "finetune"] | None, typer.Option(help="Show only the recipes of this kind.")
    ] = None,
) -> None:
    """Show the name, the kind and the purpose of every recipe that ships with bigs."""
    from bigs_cli.recipe import recipe_comment, recipe_kind, recipe_names

    names = recipe_names(kind)
    rows = [("NAME", "KIND", "WHAT IT DOES")]
    rows += [(name, recipe_kind(name), recipe_comment(name).partition("\n")[0]) for name in names]
    width = max(len(name) for name, _, _ in rows)
    for name, what_for, purpose in rows:  # one line each, whatever the terminal's width: made to be searched
        typer.echo(f"{name:<{width}}  {what_for:<8}  {purpose}")


@app.command(epilog="[bold]Example:[/bold] bigs recipes show mrpc --resolved > mine.yaml")
def show(
    name: Annotated[str, typer.Argument(help="A recipe's name, or a file.", parser=local.name)],
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Print every value in force, those of its parent and defaults included."),
    ] = False,
) -> None:
    """Print a recipe as it is written, or in full."""
    from bigs_cli.recipe import dump_recipe, load_recipe, recipe_file

    recipe = load_recipe(name)
    text = dump_recipe(recipe) if resolved else recipe_file(name).read_text(encoding="utf-8")
    typer.echo(text, nl=False)


@app.command(epilog="[bold]Example:[/bold] bigs recipes copy small mine.yaml")
def copy(
    name: Annotated[str, typer.Argument(help="A recipe's name.", parser=local.name)],
    destination: Annotated[
        Path | None,
        typer.Argument(metavar="DEST", help="File or folder to write.", show_default="NAME.yaml", parser=local.path),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Copy a recipe to a file of your own, to edit and name with --recipe. Prints the path of the file."""
    from bigs_cli.core.error_messages import refused
    from bigs_cli.core.files import atomic_write
    from bigs_cli.recipe import recipe_path

    source = recipe_path(name)
    target = destination or Path(source.name)
    if target.is_dir():
        target /= source.name
    if target.suffix not in (".yaml", ".yml"):
        raise RequestError(f"A recipe's file ends in .yaml, and {target} does not. Name it {target}.yaml.")
    if target.exists() and not force:
        raise RequestError(f"{target} is there already. Name another file, or replace it with --force.")
    try:
        with atomic_write(target) as file:
            file.write(source.read_bytes())
    except OSError as error:
        raise refused(str(target), error, "Name another file.") from None
    typer.echo(target)


@app.command(epilog="[bold]Example:[/bold] bigs recipes validate mine.yaml")
def validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Recipe files, or recipes' names.",
            show_default="every recipe that ships with bigs",
            parser=local.name,
        ),
    ] = None,
) -> None:
    """Check recipes and name everything that is wrong with them.

    Prints a line for each that is valid; ends with exit code 2 if one is not.
    """
    from bigs_cli.recipe import load_recipe, recipe_names
    from bigs_cli.reporting.console import err

    refused = []
    for file in files or recipe_names():
        try:
            recipe = load_recipe(file, deprecated=err.print)
        except RequestError as error:
            refused.append(str(error))
        else:
            typer.echo(f"{file}: a valid {recipe.kind} recipe")
    if refused:
        raise RequestError("\n".join(refused))
    if not files:
        typer.echo("These ship with bigs. To check one of your own: bigs recipes validate mine.yaml", err=True)
