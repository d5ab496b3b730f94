"""`bigs export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bigs_cli.commands import local

EPILOG = "[bold]Example:[/bold] bigs export --model runs/mrpc --format transformers --output exports/mrpc"


def export(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A run, folder, hub id or short name.",
            show_default="the newest run",
            parser=local.name,
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="flax or torch (the published layouts), safetensors (our own names), transformers (PyTorch, with its "
            "code), onnx, or stablehlo.",
        ),
    ] = "flax",
    from_format: Annotated[
        str | None,
        typer.Option(
            "--from-format",
            metavar="NAME",
            help="Which of several weights files of MODEL to read: flax, safetensors, torch or onnx.",
            show_default="the first of these there",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write into this new folder.", show_default="exports/MODEL-FORMAT", parser=local.path
        ),
    ] = None,
    length: Annotated[
        list[int] | None,
        typer.Option(
            help="Tokens of a row in onnx and stablehlo files. Repeat it for further files.", show_default="the model's"
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Of onnx: write 8-bit matrices too, and say what they cost.")
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(
            help="Write the weights of flax, torch, safetensors and transformers so; state-space parameters stay "
            "float32."
        ),
    ] = "float32",
    license: Annotated[
        str | None,
        typer.Option(help="Licence that the model card names, such as apache-2.0.", show_default="none stated"),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Push the folder to this repository on the hub too."),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", metavar="BRANCH", help="Push to this branch.", show_default="the main one"),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everyone see what is pushed; without it, a new repository is private.")
    ] = False,
) -> None:
    """Write a model as a folder that other tools load, and check it by reading it back.

    The folder also has the tokenizer, config.json and a model card, README.md. Nothing is left there if outputs differ.
    Prints the path of the folder.
    """
    from bigs_cli.commands.shared import open_and_announce, prepare_jax
    from bigs_cli.core import hub
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err, out

    to = None if push is None else hub.Destination(push, revision, public)
    if to is None and (revision is not None or public):
        raise RequestError(f"{'--public' if public else '--revision'} says how to push: add --push owner/name.")
    if to is not None:
        hub.check_destination(to)
    prepare_jax()
    opened = open_and_announce(model, from_format)
    from bigs_cli.export.formats import export as write
    from bigs_cli.export.formats import other_weights

    place = output or Path("exports") / f"{opened.name}-{form}"
    asked: dict[str, Any] = {"lengths": tuple(length or ()), "int8": int8, "dtype": dtype, "license": license}
    exported = write(opened, form, place, **asked)
    err.print(f"Wrote {', '.join(sorted(path.name for path in place.iterdir()))}.")
    for file, difference in exported.differences.items():
        err.print(f"{file} read back: outputs differ by {difference:.1e} of the largest.")
    for warning in exported.warnings:
        err.print(f"Warning: {warning}")
    for note in exported.notes:
        err.print(note)
    if to is not None:
        page, files = hub.push(place, to, f"{opened.name} in the format {form}, exported by bigs")
        err.print(f"Pushed to {page}")
        if note := other_weights(to, files, place):
            err.print(note)
    out.print(str(place))
