"""The Typer application, and the one place where errors become exit codes.

0 ok, 1 the run failed, 2 the request was wrong, 130 interrupted (after saving, where there is something to save).
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, NoReturn

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
from bigs_cli.commands.options import current_name
from bigs_cli.core.error_messages import translate_error
from bigs_cli.core.errors import BigsError
from bigs_cli.core.processes import leave, lost_contact

app = typer.Typer(
    name="bigs",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": current_name},
)

app.command(epilog=tokenize.EPILOG)(tokenize.tokenize)
app.command(epilog=pretrain.EPILOG)(pretrain.pretrain)
app.command(epilog=finetune.EPILOG)(finetune.finetune)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(evaluate.app, name="eval", hidden=True)
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
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Language models without attention: pretrain, fine-tune, evaluate and export BiGS.

    Text goes through [bold]tokenize[/bold] → [bold]pretrain[/bold] → [bold]finetune[/bold] →
    [bold]evaluate[/bold] → [bold]export[/bold]; every verb's --help ends with a worked example.

    What was asked for goes to stdout, everything else to stderr. Exit codes: 0 done, 1 it failed, 2 the request was
    wrong and nothing was changed, 130 interrupted. Runs are kept in runs/ ($BIGS_RUNS names another folder), what is
    compiled and measured in ~/.cache/bigs ($BIGS_CACHE).
    """
    if debug:
        os.environ["BIGS_DEBUG"] = "1"


def _let_flow(group: typer.Typer) -> None:
    """Have the paragraphs of every command's help broken where the terminal ends, not where the source's lines do."""
    for command in [*group.registered_commands, *filter(None, [group.registered_callback])]:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(one.split()) for one in paragraphs)
    for below in group.registered_groups:
        if below.typer_instance is not None:
            _let_flow(below.typer_instance)


_let_flow(app)


def main() -> None:
    """Run the command line; turn errors into sentences on stderr and into exit codes."""
    try:
        with _stoppable():
            app()
    except SystemExit as ended:  # Typer's end, also of an interrupted command.
        leave(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise
    except BigsError as error:
        if os.environ.get("BIGS_DEBUG"):
            raise
        _end(error.exit_code, str(error))
    except KeyboardInterrupt:
        _end(130, "interrupted")
    except Exception as error:
        if os.environ.get("BIGS_DEBUG"):
            raise
        if (fault := translate_error(error) or lost_contact(error)) is not None:
            _end(fault.exit_code, str(fault))
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        _end(1, f"the run failed: {reason} ({type(error).__name__}). `bigs --debug …` shows where.")


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Have SIGTERM end the work as Ctrl-C does: with whatever is to be cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals reach the main thread only.
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(code: int, sentence: str) -> NoReturn:
    """End this process with `sentence` on stderr."""
    print(f"bigs: {BigsError(sentence)}", file=sys.stderr)  # without what steers a terminal, also from libraries
    leave(code)
    sys.exit(code)
