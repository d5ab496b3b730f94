"""The Typer application, and the one place where errors become exit codes.

0 ok, 1 the run failed, 2 the request was wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from bigs_cli.commands import (
    bench,
    demo,
    doctor,
    evaluate,
    export,
    finetune,
    predict,
    pretrain,
    recipes,
    runs,
    tokenize,
)
from bigs_cli.core.errors import BigsError
from bigs_cli.core.faults import explain
from bigs_cli.core.processes import end_together

app = typer.Typer(
    name="bigs",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command(epilog=tokenize.EPILOG)(tokenize.tokenize)
app.command(epilog=pretrain.EPILOG)(pretrain.pretrain)
app.command(epilog=finetune.EPILOG)(finetune.finetune)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command("eval", epilog=evaluate.EPILOG, hidden=True)(evaluate.evaluate)
app.command(epilog=predict.EPILOG)(predict.predict)
app.command(epilog=export.EPILOG)(export.export)
app.command(epilog=demo.EPILOG)(demo.demo)
app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(recipes.app, name="recipes")
app.add_typer(runs.app, name="runs")
app.add_typer(bench.app, name="bench")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"bigs {version('bigs')}")
        raise typer.Exit


@app.callback(epilog="Start with: [bold]bigs demo[/bold] (a whole lifecycle in a few minutes on a CPU).")
def bigs(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Language models without attention: pretrain, fine-tune, evaluate and export BiGS.

    Text goes through [bold]tokenize[/bold] → [bold]pretrain[/bold] → [bold]finetune[/bold] →
    [bold]evaluate[/bold] → [bold]export[/bold]; every verb's --help ends with a worked example.
    """
    if debug:
        os.environ["BIGS_DEBUG"] = "1"


def main() -> None:
    """Run the command line; turn errors into sentences on stderr and into exit codes."""
    try:
        app()
    except SystemExit as ended:  # Typer's end, also of an interrupted command.
        end_together(ended.code if isinstance(ended.code, int) else int(ended.code is not None), "")
        raise
    except BigsError as error:
        if os.environ.get("BIGS_DEBUG"):
            raise
        print(f"bigs: {error}", file=sys.stderr)
        end_together(error.exit_code, str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("bigs: interrupted", file=sys.stderr)
        end_together(130, "interrupted")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("BIGS_DEBUG"):
            raise
        if (fault := explain(error)) is not None:
            print(f"bigs: {fault}", file=sys.stderr)
            end_together(fault.exit_code, str(fault))
            sys.exit(fault.exit_code)
        end_together(1, f"the run failed: {str(error).strip()[:300]} ({type(error).__name__})")
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        print(
            f"bigs: the run failed: {reason} ({type(error).__name__}). `bigs --debug …` shows where.", file=sys.stderr
        )
        sys.exit(1)
