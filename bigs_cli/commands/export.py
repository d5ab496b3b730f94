"""`bigs export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import options as opt

EPILOG = "[bold]Example:[/bold] bigs export --model runs/mrpc --format transformers --output exports/mrpc"

WeightsFormat = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help="flax or torch (the published layouts), safetensors (named by parameter path), transformers "
        "(PyTorch weights and model code), sentence-transformers, onnx, or stablehlo.",
    ),
]
FromFormat = Annotated[
    str | None,
    typer.Option(
        "--from-format",
        metavar="NAME",
        help="Format to read if MODEL has weights in several: flax, safetensors, torch or onnx.",
        show_default="the first of these that exists",
    ),
]
Output = Annotated[
    str | None,
    opt.place_option(
        "--output", "-o", metavar="PLACE", help="Folder, or URL, to create.", show_default="exports/MODEL-FORMAT"
    ),
]
Lengths = Annotated[
    list[int] | None,
    typer.Option(
        "--length",
        help="With --format onnx or stablehlo: input length in tokens. Repeatable.",
        show_default="the model's maximum",
    ),
]
Int8 = Annotated[
    bool,
    typer.Option("--int8", help="With --format onnx: also write a model with 8-bit weights and report its accuracy."),
]
DType = Annotated[
    Literal["float32", "bfloat16", "float16"],
    typer.Option(
        "--dtype",
        help="Data type of the weights, except in onnx and stablehlo; SSM parameters stay float32.",
    ),
]
License = Annotated[
    str | None,
    typer.Option("--license", help="Licence for the model card, such as apache-2.0.", show_default="none stated"),
]
Push = Annotated[
    str | None,
    typer.Option("--push", metavar="OWNER/NAME", help="Also upload the folder to this repository on the hub."),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", metavar="BRANCH", help="Upload to this branch.", show_default="main"),
]
Public = Annotated[
    bool,
    typer.Option(
        "--public",
        help="Make the repository public, even if it exists and is private. By default, a new repository is private.",
    ),
]


def export(
    model: opt.Model = None,
    form: WeightsFormat = "flax",
    from_format: FromFormat = None,
    output: Output = None,
    length: Lengths = None,
    int8: Int8 = False,
    dtype: DType = "float32",
    license: License = None,
    push: Push = None,
    revision: Revision = None,
    public: Public = False,
) -> None:
    """Export a model to a folder that other tools load, and verify it by reading it back.

    The folder also contains the tokenizer, config.json and a model card, README.md. If the outputs of the exported
    model differ, the folder is removed. Prints the path of the folder.
    """
    arguments = dict(locals())
    from bigs_cli.commands.shared import open_and_announce, prepare_jax, uploaded
    from bigs_cli.core import hub
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.paths import is_url
    from bigs_cli.core.places import place_of
    from bigs_cli.reporting.console import err, out

    if output is not None and is_url(output):
        with uploaded(output, is_folder=True) as path:
            export(**{**arguments, "output": str(path)})
        return

    to = None if push is None else hub.Destination(push, revision, public)
    if to is None and (revision is not None or public):
        raise RequestError(f"{'--public' if public else '--revision'} applies only to uploads: add --push OWNER/NAME.")
    if to is not None:
        hub.check_destination(to)
    prepare_jax()
    opened = open_and_announce(model, from_format)
    from bigs_cli.export.formats import export as write
    from bigs_cli.export.formats import other_weights
    from bigs_cli.export.settings import Settings

    folder = Path("exports") / f"{opened.name}-{form}" if output is None else Path(output)
    exported = write(opened, form, folder, Settings(tuple(length or ()), int8, dtype, license))
    err.print(f"Wrote {', '.join(sorted(path.name for path in folder.iterdir()))}.")
    for file, difference in exported.differences.items():
        err.print(f"{file}: read back; outputs differ by at most {difference:.1e} of the largest output.")
    for warning in exported.warnings:
        err.print(f"Warning: {warning}")
    for note in exported.notes:
        err.print(note)
    if to is not None:
        page, files = hub.push(folder, to, f"{opened.name} in the format {form}, exported by bigs")
        err.print(f"Pushed to {page}")
        if note := other_weights(to, files, folder):
            err.print(note)
    out.print(place_of(folder))
