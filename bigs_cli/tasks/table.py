"""Reading one split of a task with `datasets`: from the hub, a saved data set, or Parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bigs_cli.core.error_messages import translate_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json
from bigs_cli.core.paths import plain_path
from bigs_cli.data.hub import datasets_reason, load_hub_table
from bigs_cli.tasks.dataset import read_table
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    import pyarrow


def read_hub(task: Task, split: str) -> Examples:
    """Return a split of `task` from the hub (`HF_ENDPOINT` is honoured), or from its cache on this machine.

    Raises:
        RequestError: the task is not on the hub, or neither the hub nor a cached copy can be reached.
    """
    if task.hub is None or split not in task.hub.splits:
        raise RequestError(f"{task.title} has no split '{split}' on the hub; pass --data DIR with its files.")
    try:
        table = load_hub_table(task.hub.repo, task.hub.config, task.hub.splits[split])
    except RequestError as error:
        files = " and ".join(names[0] for key, names in task.files.items() if key in ("train", "dev"))
        raise RequestError(
            f"The {split} split of {task.title} is not on this machine, and {error}. "
            f"Pass --data DIR holding {files or task.files['test'][0]}, or connect to the hub once."
        ) from error
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


def saved_places(task: Task, split: str, folder: Path) -> list[Path]:
    """Return the folders and Parquet files that `find_saved` looks for by their whole name."""
    names = _split_names(task, split)
    return [place / name for place in _places(task, folder) for split in names for name in (split, f"{split}.parquet")]


def read_saved(task: Task, paths: list[Path]) -> Examples:
    """Return the examples of what `find_saved` found.

    Raises:
        RequestError: the files are damaged, or their columns or labels are not the task's.
    """
    import datasets
    import pyarrow
    from datasets.table import InMemoryTable

    try:
        if paths[0].is_dir():
            _check_parts(paths[0])
            with plain_path(paths[0]) as plain:
                table = datasets.load_from_disk(str(plain)).with_format(None)  # all columns, whatever is chosen there
        else:
            # `Dataset.from_parquet` would leave a copy in the user's cache
            parts = [_read_parquet(path) for path in paths]
            table = datasets.Dataset(InMemoryTable(pyarrow.concat_tables(parts)))
    except RequestError:
        raise
    except Exception as error:  # What is wrong with state.json, the library meets as any error of Python's.
        if isinstance(error, MemoryError) and (fault := translate_error(error, paths[0])) is not None:
            raise fault from error
        raise RequestError(
            f"{paths[0]} cannot be read as a data set ({datasets_reason(error)}). Save or fetch it again."
        ) from error
    assert isinstance(table, datasets.Dataset)
    return read_table(task, table, str(paths[0]))


def _read_parquet(path: Path) -> pyarrow.Table:
    """Return the table in a file. Its path is kept from pyarrow, which reads addresses and columns into paths."""
    from pyarrow import parquet

    with path.open("rb") as file:
        return parquet.read_table(file)


def _check_parts(folder: Path) -> None:
    """Refuse a saved data set whose parts are files elsewhere: what was given to read is this folder.

    Raises:
        RequestError, OSError, ValueError: there is one, or the list of them is not there or garbled.
    """
    state = parse_json((folder / "state.json").read_bytes())
    parts = state.get("_data_files") if isinstance(state, dict) else None
    names = [part.get("filename") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise RequestError(f"{folder / 'state.json'} names {json.dumps(name)}, which is no file of its folder.")


def _places(task: Task, folder: Path) -> list[Path]:
    names = [task.folder, task.hub.config if task.hub else task.name]
    return [*(folder / name for name in names), folder]


def _split_names(task: Task, split: str) -> list[str]:
    return [*([task.hub.splits[split]] if task.hub and split in task.hub.splits else []), split]
