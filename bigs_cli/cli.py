"""The Typer application, and the one place where errors become exit codes.

Exit codes: 0 success, 1 failure, 2 invalid request, 130 interrupted (after saving the progress, if there is any).
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
from bigs_cli.core.processes import leave, leave_if_lost

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


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"bigs {version('bigs')}")
        raise typer.Exit


@app.callback(epilog="[bold]Example:[/bold] bigs demo (the whole workflow, in a few minutes on a CPU)")
def bigs(
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Pretrain, fine-tune, evaluate and export BiGS, a bidirectional language model without attention.

    The workflow is [bold]tokenize[/bold] → [bold]pretrain[/bold] → [bold]finetune[/bold] → [bold]evaluate[/bold] →
    [bold]export[/bold]. The --help of every command ends with an example.

    Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 invalid request (nothing was
    changed), 130 interrupted. Runs are saved in runs/ (or $BIGS_RUNS); compiled code and measurements are cached in
    ~/.cache/bigs (or $BIGS_CACHE).
    """
    if debug:
        os.environ["BIGS_DEBUG"] = "1"


def _unwrap_help(group: typer.Typer) -> None:
    """Join the lines of each paragraph of a docstring, so that help is wrapped at the width of the terminal."""
    for command in [*group.registered_commands, *filter(None, [group.registered_callback])]:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for subgroup in group.registered_groups:
        if subgroup.typer_instance is not None:
            _unwrap_help(subgroup.typer_instance)


_unwrap_help(app)


def main() -> None:
    """Run the command line; print errors on stderr and turn them into exit codes."""
    try:
        with _sigterm_as_interrupt():
            app()
    except SystemExit as stop:  # Typer exits this way, also after an interrupt.
        leave(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
        raise
    except BigsError as error:
        if os.environ.get("BIGS_DEBUG"):
            raise
        _fail(error.exit_code, str(error))
    except KeyboardInterrupt:
        _fail(130, "interrupted")
    except Exception as error:
        if os.environ.get("BIGS_DEBUG"):
            raise
        if (translated := translate_error(error)) is not None:
            _fail(translated.exit_code, str(translated))
        leave_if_lost(error)
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        message = f"the run failed: {reason} ({type(error).__name__})"
        _fail(1, f"{message}. Repeat the command as `bigs --debug …` for the traceback.")


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that cleanup runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Signals reach the main thread only.
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(code: int, message: str) -> NoReturn:
    """Print `message` on stderr, and exit with `code`."""
    print(f"bigs: {BigsError(message)}", file=sys.stderr)  # BigsError escapes terminal control characters.
    leave(code)
    sys.exit(code)
