"""The options of `bigs finetune` for a custom task: its files and columns."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from bigs_cli.commands import options as opt
from bigs_cli.core.errors import RequestError

TaskKind = Literal["sequence-classification", "classification", "multi-label", "regression", "embedding"]

KEYS = {
    "train_file": "train",
    "dev_file": "dev",
    **{name: name for name in ("text", "pair", "label", "task_type", "delimiter", "negative")},
}
"""Parameters of the command → the key of `files` in the recipe that each sets."""
_PANEL = "Custom tasks"
TrainFile = Annotated[
    str | None,
    opt.source_option(
        "--train",
        metavar="FILE",
        help="Training set, also a URL: CSV, TSV, JSONL or Parquet; for sentence embeddings, also a .txt file.",
        rich_help_panel=_PANEL,
    ),
]
DevFile = Annotated[
    str | None,
    opt.source_option("--dev", metavar="FILE", help="Dev set with the columns of --train.", rich_help_panel=_PANEL),
]
TextColumn = Annotated[str | None, opt.text_option("text", _PANEL)]
PairColumn = Annotated[
    str | None,
    typer.Option(
        "--pair",
        metavar="COLUMN",
        help="Column of the second text of a pair.",
        show_default="single texts",
        rich_help_panel=_PANEL,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        "--label", metavar="COLUMN", help="Column of the class or score.", show_default="label", rich_help_panel=_PANEL
    ),
]
TaskTypeName = Annotated[
    TaskKind | None,
    typer.Option(
        "--task-type",
        help="Whether texts have a class (short: classification), any number of labels (multi-label) or a score "
        "(regression); embedding trains sentence embeddings.",
        show_default="inferred from the labels",
        rich_help_panel=_PANEL,
    ),
]

NegativeColumn = Annotated[
    str | None,
    typer.Option(
        "--negative",
        metavar="COLUMN",
        help="Column of a text that does not belong to --text, for sentence embeddings.",
        show_default="only the texts of other rows",
        rich_help_panel=_PANEL,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter",
        metavar="TEXT",
        help="What separates several labels in a cell of --label.",
        show_default="cells are lists, or have one label",
        rich_help_panel=_PANEL,
    ),
]


def is_custom(task: str | None) -> bool:
    """Return whether the task that is named on the command line is a custom one."""
    return task is not None and task.lower() == "custom"


def option_of(key: str) -> str:
    """Return the option that sets a key of `files`."""
    return f"--{key.replace('_', '-')}"


def recipe_values(task: str | None, files: dict[str, str | None]) -> dict[str, Any]:
    """Return the recipe values set by the options of a custom task; `task` is the requested built-in task, if any.

    Raises:
        RequestError: a built-in task is requested too.
    """
    values = {f"files.{name}": value for name, value in files.items() if value is not None}
    if not values:
        return {}
    if task is not None:
        option = option_of(next(iter(values)).removeprefix("files."))
        raise RequestError(f"{task} is a built-in task with its own files; {option} is for custom tasks. Leave it out.")
    # Classes listed in the recipe do not apply to scores.
    no_labels = {"files.labels": None} if values.get("files.task_type") == "regression" else {}
    return {**values, **no_labels, "task": "custom"}
