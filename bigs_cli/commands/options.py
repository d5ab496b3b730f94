"""Options that several commands share, each declared once as an ``Annotated`` alias."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bigs_cli.core.errors import notice
from bigs_cli.core.paths import check_local, check_readable_url, check_writable_url

RENAMED = {"--freeze": "--freeze-ssm", "--track": "--logger", "--learning": "--validation-curve"}
"""Old names of options, which still work → new names."""


def current_name(name: str) -> str:
    """Return the new name of an option, without dashes, and print a deprecation note on stderr if it was renamed."""
    new = RENAMED.get(f"--{name}")
    if new is None:
        return name
    notice(f"--{name} is deprecated; use {new}.")
    return new.removeprefix("--")


def local_path(text: str | Path) -> Path:
    """Return the path of a local file or folder.

    URLs are checked here, because `Path` turns ``s3://bucket/file`` into ``s3:/bucket/file``.

    Raises:
        RequestError: `text` is a URL.
    """
    check_local(text)
    return Path(text)


def writable_folder(text: str | Path) -> Path:
    """Return the path of a folder that is writable or can be created.

    Raises:
        RequestError: it is not, or `text` is a URL.
    """
    from bigs_cli.core.files import check_writable

    path = local_path(text)
    check_writable(path, f"The folder {path}")
    return path


def local_name(text: str) -> str:
    """Return a value that is a local path or a name: of a model, run, recipe or vocabulary.

    Raises:
        RequestError: `text` is a URL.
    """
    check_local(text)
    return text


def json_target(text: str) -> str:
    """Return a file that can be written, or ``-`` for stdout.

    Raises:
        RequestError: the file cannot be written, or `text` is a URL.
    """
    from bigs_cli.core.files import check_output_file

    if text != "-":
        check_output_file(local_path(text), "--json")
    return text


def source_name(text: str) -> str:
    """Return a value that is a local path, a URL or a name of a model.

    Raises:
        RequestError: no copy can be made of what is at such URLs.
    """
    check_readable_url(text)
    return text


def fetched(text: str | Path) -> Path:
    """Return a local path, or that of a copy of what is at a URL; see `core.remote.fetch`."""
    from bigs_cli.commands.shared import download

    check_readable_url(str(text))
    return download(text)


def source_option(*names: str, **settings: Any) -> Any:
    """Declare an option whose value is a local path or a URL to read from, or the name of a model."""
    return typer.Option(*names, parser=source_name, **settings)


def fetched_option(*names: str, **settings: Any) -> Any:
    """Declare an option whose value is a local path, or a URL of which a copy is made."""
    return typer.Option(*names, parser=fetched, **settings)


def place_name(text: str) -> str:
    """Return a value that is a local path or a URL to write to.

    Raises:
        RequestError: nothing can be written to such URLs.
    """
    check_writable_url(text)
    return text


def place_option(*names: str, **settings: Any) -> Any:
    """Declare an option whose value is a local path, or a URL to write to."""
    return typer.Option(*names, parser=place_name, **settings)


def path_option(*names: str, **settings: Any) -> Any:
    """Declare an option whose value is a local path."""
    return typer.Option(*names, parser=local_path, **settings)


def name_option(*names: str, **settings: Any) -> Any:
    """Declare an option whose value is a local path or a name."""
    return typer.Option(*names, parser=local_name, **settings)


def model_option(default: str) -> Any:
    """Declare ``--model``; `default` describes what is used without it."""
    return source_option(
        "--model", "-m", metavar="MODEL", help="A run, folder, URL, hub id or short name.", show_default=default
    )


def task_data_option(default: str) -> Any:
    """Declare ``--data`` of a task; `default` describes what is used without it."""
    return source_option(
        "--data", metavar="PATH", help="Folder, or URL, with the files of the task.", show_default=default
    )


def text_option(default: str, panel: str) -> Any:
    """Declare ``--text``, a column; `default` describes what is used without it, `panel` is its help panel."""
    return typer.Option(
        "--text", metavar="COLUMN", help="Column of the text.", show_default=default, rich_help_panel=panel
    )


def lengths_option(default: str) -> Any:
    """Declare a repeatable ``--length`` of a benchmark; `default` describes what is used without it."""
    return typer.Option("--length", "-l", min=1, help="Tokens per row. Repeatable.", show_default=default)


def length_option(default: str) -> Any:
    """Declare ``--length`` of model inputs; `default` describes what is used without it."""
    return typer.Option(
        "--length",
        min=4,
        help="Truncate and pad inputs to this many tokens.",
        show_default=default,
        rich_help_panel=INFERENCE,
    )


def batch_size_option(default: str) -> Any:
    """Declare ``--batch-size`` of inference; `default` describes what is used without it."""
    return typer.Option("--batch-size", min=1, help="Rows per batch.", show_default=default, rich_help_panel=INFERENCE)


SMALL = 512
"""Models of a smaller hidden size hardly learn with the published settings for fine-tuning, which are for H = 1024."""
INFERENCE = "Inference"
"""Help panel of the options that control model inputs."""

Model = Annotated[str | None, model_option("the newest run")]
Recipe = Annotated[str | None, name_option("--recipe", "-r", help="A shipped recipe (bigs recipes list) or a file.")]
Run = Annotated[
    str | None,
    place_option(
        "--run",
        metavar="PLACE",
        help="Folder of the run, or a URL such as s3://bucket/run.",
        show_default="runs/RECIPE",
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe. Repeatable.")
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        "--sweep",
        metavar="KEY=A,B,…",
        help="Train with each of these values of a recipe key, in RUN/SETTING. Repeatable: every combination.",
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        "--seeds",
        min=1,
        help="Train with this many seeds, each in RUN/seed-N, and report mean, standard deviation and best.",
        show_default="1",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=0,
        help="Run this many settings of a sweep at a time, on a GPU each; 0: only print the commands, as for a Slurm "
        "array.",
        show_default="one after the other in this process, on all devices",
    ),
]
Start = Annotated[
    str | None,
    source_option(
        "--from",
        metavar="MODEL",
        help="Start from a run, folder, URL, hub id or short name.",
        show_default="the recipe's",
    ),
]
Teacher = Annotated[
    str | None,
    source_option(
        "--teacher",
        metavar="MODEL",
        help="Also learn the predictions of this trained model: a run, folder, URL, hub id or short name.",
        show_default="the recipe's",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --run with its own recipe and data.")]
Loggers = Annotated[
    list[str] | None,
    typer.Option("--logger", metavar="NAME", help="Also send metrics to tensorboard or wandb. Repeatable."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the resolved recipe, sizes, FLOPs, shardings and an example; write nothing."),
]
DryRunJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print the requirements as JSON.")]
Mfu = Annotated[
    float | None,
    typer.Option(
        "--mfu",
        min=0.01,
        max=1.0,
        help="Model FLOPs utilization for planned times: the fraction of the bfloat16 peak that is reached.",
        show_default="0.4",
    ),
]
Profile = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write a trace of a few steps to this folder, for xprof or Perfetto.",
        show_default="no",
        parser=writable_folder,
    ),
]
Coordinator = Annotated[
    str | None, typer.Option("--coordinator", metavar="HOST:PORT", help="Address of process 0 in a multi-process run.")
]
Process = Annotated[
    int | None,
    typer.Option(
        "--process", metavar="I", help="Index of this process, from 0.", show_default="that of srun or mpirun"
    ),
]
Processes = Annotated[
    int | None,
    typer.Option("--processes", metavar="N", help="Number of processes.", show_default="that of srun or mpirun"),
]

Length = Annotated[int | None, length_option("the run's, else the model's maximum")]
Dimensions = Annotated[
    int | None,
    typer.Option(
        "--dimensions",
        min=1,
        help="Keep only the first values of each sentence embedding, which loss.dimensions trains.",
        show_default="all",
        rich_help_panel=INFERENCE,
    ),
]
BatchSize = Annotated[int | None, batch_size_option("the run's, else 32")]
TrimPadding = Annotated[
    bool | None,
    typer.Option(
        "--trim-padding/--full-padding",
        help="Trim batches to their longest text. Trimming changes the outputs of models that do not mask padding.",
        show_default="the run's, else only for models that mask padding",
        rich_help_panel=INFERENCE,
    ),
]
AllowUntrained = Annotated[
    bool,
    typer.Option("--allow-untrained", help="Accept a model whose head was never trained.", rich_help_panel=INFERENCE),
]
Predictions = Annotated[
    Path | None,
    path_option("--predictions", metavar="FILE", help="Write each example's prediction and scores as JSONL."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Same as --format json.")]
TableFormat = Annotated[Literal["table", "json"], typer.Option("--format", help="Output format.")]
Format = Annotated[Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="Output format.")]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the results as JSON; - writes them to stdout, instead of the table.",
        parser=json_target,
    ),
]
Examples = Annotated[int, typer.Option("--examples", min=0, help="List at most this many examples in each table.")]
KernelLength = Annotated[
    int | None,
    typer.Option("--length", min=1, help="Length of the plotted kernels in tokens.", show_default="128"),
]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Number of repetitions; the median is reported.")]
Layers = Annotated[int, typer.Option("--layers", min=1, help="Number of layers.")]
Hidden = Annotated[int, typer.Option("--hidden", min=1, help="Hidden size H; the intermediate size is 3 H.")]
VocabSize = Annotated[int, typer.Option("--vocab-size", min=200, help="Vocabulary size V.")]
