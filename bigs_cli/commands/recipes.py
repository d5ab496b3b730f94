"""`bigs recipes`: list, show, copy and check recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import options as opt
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
        Literal["pretrain", "finetune"] | None, typer.Option(help="List only recipes of this kind.")
    ] = None,
) -> None:
    """List the shipped recipes with kind and purpose."""
    from bigs_cli.recipe import recipe_comment, recipe_kind, recipe_names

    names = recipe_names(kind)
    rows = [("NAME", "KIND", "PURPOSE")]
    rows += [(name, recipe_kind(name), recipe_comment(name).partition("\n")[0]) for name in names]
    width = max(len(name) for name, _, _ in rows)
    for name, recipe_type, purpose in rows:  # Never wrapped, so that the output can be searched with grep.
        typer.echo(f"{name:<{width}}  {recipe_type:<8}  {purpose}")


@app.command(epilog="[bold]Example:[/bold] bigs recipes show mrpc --resolved > mine.yaml")
def show(
    name: Annotated[str, typer.Argument(help="Name or file of a recipe.", parser=opt.local_name)],
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Print all values, including inherited ones and defaults."),
    ] = False,
) -> None:
    """Print a recipe as written, or with all values."""
    from bigs_cli.recipe import dump_recipe, is_recipe_file, load_recipe, recipe_text

    recipe = load_recipe(name)
    if resolved:
        text = dump_recipe(recipe)
    else:
        text = Path(name).read_text(encoding="utf-8") if is_recipe_file(name) else recipe_text(name)
    typer.echo(text, nl=False)


@app.command(epilog="[bold]Example:[/bold] bigs recipes copy small mine.yaml")
def copy(
    name: Annotated[str, typer.Argument(help="Name of a recipe.", parser=opt.local_name)],
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="DEST", help="File or folder to write.", show_default="NAME.yaml", parser=opt.local_path
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Copy a recipe to a file that you can edit and pass to --recipe. Prints the path of the file."""
    from bigs_cli.core.error_messages import write_error
    from bigs_cli.core.files import atomic_write
    from bigs_cli.recipe import recipe_text

    text = recipe_text(name)
    target = destination or Path(f"{name}.yaml")
    if target.is_dir():
        target /= f"{name}.yaml"
    if target.suffix not in (".yaml", ".yml"):
        raise RequestError(f"{target} does not end in .yaml. Name the file {target}.yaml.")
    if target.exists() and not force:
        raise RequestError(f"{target} already exists. Name another file, or replace it with --force.")
    try:
        with atomic_write(target, "w") as file:
            file.write(text)
    except OSError as error:
        raise write_error(str(target), error, "Name another file.") from None
    typer.echo(target)


@app.command(epilog="[bold]Example:[/bold] bigs recipes validate mine.yaml")
def validate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Files or names of recipes.",
            show_default="every shipped recipe",
            parser=opt.local_name,
        ),
    ] = None,
) -> None:
    """Check recipes and report all errors.

    Prints a line for each valid recipe. The exit code is 2 if any recipe is invalid.
    """
    from bigs_cli.recipe import load_recipe, recipe_names
    from bigs_cli.reporting.console import err

    errors = []
    for file in files or recipe_names():
        try:
            recipe = load_recipe(file, deprecated=lambda place, note: err.print(f"{place}: {note}"))
        except RequestError as error:
            errors.append(str(error))
        else:
            typer.echo(f"{file}: a valid {recipe.kind} recipe")
    if errors:
        raise RequestError("\n".join(errors))
    if not files:
        typer.echo("Checked all shipped recipes. To check your own: bigs recipes validate mine.yaml", err=True)
