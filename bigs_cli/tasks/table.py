"""Reading one split of a task with `datasets`: from the hub, a saved data set, or Parquet files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bigs_cli.core.error_messages import translate_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json
from bigs_cli.core.hub_client import hub_answers
from bigs_cli.core.paths import plain_path
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
    import datasets
    from datasets import config
    from huggingface_hub import constants

    if task.hub is None or split not in task.hub.splits:
        raise RequestError(f"{task.title} has no split '{split}' on the hub; pass --data DIR with its files.")
    name, kept = task.hub.splits[split], Path(config.HF_DATASETS_CACHE)
    with _offline_if_unreachable() as hindrance:
        try:
            kept.mkdir(parents=True, exist_ok=True)
            with plain_path(kept) as cache:  # `datasets` finds what is in its cache with glob patterns.
                table = datasets.load_dataset(task.hub.repo, task.hub.config, split=name, cache_dir=str(cache))
        except Exception as error:  # each kind of file has a library with errors of its own
            if (fault := translate_error(error, Path(constants.HF_HOME))) is not None:
                raise fault from error
            why = hindrance or f"the hub does not give it ({_reason(error)})"
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
            f"{paths[0]} cannot be read as a data set ({_reason(error)}). Save or fetch it again."
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


def _reason(error: Exception) -> str:
    """Return the first line of an error of `datasets`; where it only says that it failed, of what is behind it."""
    while type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


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
