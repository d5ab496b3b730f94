"""Reading one split of a task with `datasets`: from the hub, a saved data set, or Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.hub import hub_answers
from bigs_cli.tasks.examples import Texts
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.tsv import parse_label

if TYPE_CHECKING:
    from datasets import Dataset


def read_hub(task: Task, split: str) -> Texts:
    """Return a split of `task` from the hub (`HF_ENDPOINT` is honoured), or from its cache on this machine.

    Raises:
        RequestError: the task is not on the hub, or neither the hub nor a cached copy can be reached.
    """
    import datasets

    if task.hub is None or split not in task.hub.splits:
        raise RequestError(f"{task.title} has no split '{split}' on the hub; pass --data DIR with its files.")
    with _offline_if_unreachable() as hindrance:
        try:
            table = datasets.load_dataset(task.hub.repo, task.hub.config, split=task.hub.splits[split])
        except (OSError, ValueError) as error:
            why = hindrance or f"the hub does not give it ({str(error).splitlines()[0].rstrip('.')})"
            files = " and ".join(names[0] for key, names in task.files.items() if key in ("train", "dev"))
            raise RequestError(
                f"The {split} split of {task.title} is not on this machine, and {why}. "
                f"Pass --data DIR holding {files or task.files['test'][0]}, or connect to the hub once."
            ) from error
    assert isinstance(table, datasets.Dataset)
    return read_table(task, table, f"{task.hub.repo} {task.hub.config} {table.split}")


def find_saved(task: Task, split: str, folder: Path) -> list[Path]:
    """Return the saved data set (`save_to_disk`) or Parquet files with `split` under `folder`, if any."""
    for place in _places(task, folder):
        for name in _split_names(task, split):
            if (place / name / "dataset_info.json").is_file():
                return [place / name]
            files = sorted({*place.glob(f"{name}.parquet"), *place.glob(f"{name}-*.parquet")})
            if files:
                return files
    return []


def read_saved(task: Task, paths: list[Path]) -> Texts:
    """Return the examples of what `find_saved` found.

    Raises:
        RequestError: the files are damaged, or their columns or labels are not the task's.
    """
    import datasets
    import pyarrow
    from datasets.table import InMemoryTable
    from pyarrow import parquet

    try:
        if paths[0].is_dir():
            table = datasets.load_from_disk(str(paths[0]))
        else:
            # `Dataset.from_parquet` would leave a copy in the user's cache
            parts = [parquet.read_table(path) for path in paths]
            table = datasets.Dataset(InMemoryTable(pyarrow.concat_tables(parts)))
    except (OSError, ValueError) as error:
        raise RequestError(f"{paths[0]} cannot be read as a data set ({error}).") from error
    assert isinstance(table, datasets.Dataset)
    return read_table(task, table, str(paths[0]))


def read_table(task: Task, table: Dataset, where: str) -> Texts:
    """Return the examples of `table`, its labels brought into the task's order by name, never by number.

    `where` opens the sentence of an error. If every label is −1, as in the hub's test splits, there are none.

    Raises:
        RequestError: a column is missing, a text is missing, or a label is not the task's.
    """
    first, second = _text_columns(task, table.column_names, where)
    label = next((name for name in ("label", task.label) if name in table.column_names), None)
    columns: dict[str, list[Any]] = table.select_columns([name for name in (first, second, label) if name])[:]
    for name in (first, second):
        if name and not all(isinstance(text, str) for text in columns[name]):
            raise RequestError(f"{where}: column '{name}' holds something that is not text.")
    return Texts(
        first=columns[first],
        second=columns[second] if second else None,
        labels=_labels(task, columns[label], table.features[label], where) if label else None,
        ids=np.arange(len(table), dtype=np.int64),
    )


def _text_columns(task: Task, columns: list[str], where: str) -> tuple[str, str | None]:
    """Return the columns of the first and second text: the hub's names, or those of the official files."""
    pairs = {(task.first, task.second): None}
    if task.hub is not None:
        pairs = {(task.hub.first, task.hub.second): None, **pairs}
    for first, second in pairs:
        if first in columns and (second is None or second in columns):
            return first, second
    wanted = " or ".join(" + ".join(name for name in pair if name) for pair in pairs)
    raise RequestError(f"{where}: no columns {wanted}; the columns are: {', '.join(columns)}.")


def _labels(task: Task, values: list[Any], feature: Any, where: str) -> np.ndarray[Any, Any] | None:
    if all(value is None or value == -1 for value in values):
        return None
    names = getattr(feature, "names", None)
    if task.labels is not None and names is not None and set(names) != set(task.labels):
        raise RequestError(
            f"{where}: its labels are {', '.join(names)}; those of {task.title} are {', '.join(task.labels)}."
        )
    texts = [str(value) if names is None or value in (None, -1) else names[value] for value in values]
    labels = [parse_label(task, text, f"{where}, row {row}") for row, text in enumerate(texts)]
    return np.array(labels, task.label_dtype)


def _places(task: Task, folder: Path) -> list[Path]:
    names = [task.folder, task.hub.config if task.hub else task.name]
    return [*(folder / name for name in names), folder]


def _split_names(task: Task, split: str) -> list[str]:
    return [*([task.hub.splits[split]] if task.hub and split in task.hub.splits else []), split]


@contextlib.contextmanager
def _offline_if_unreachable() -> Iterator[str]:
    """Keep `datasets` from retrying for half a minute without a network; it then looks in its cache.

    Yields what stands between us and the hub, "" if nothing does.
    """
    from datasets import config

    before = config.HF_HUB_OFFLINE
    if before:
        hindrance = "HF_HUB_OFFLINE is set"
    else:
        hindrance = "" if hub_answers() else f"the hub ({config.HF_ENDPOINT}) cannot be reached"
    config.HF_HUB_OFFLINE = bool(hindrance)
    try:
        yield hindrance
    finally:
        config.HF_HUB_OFFLINE = before
