"""The splits of a task: finds their files, and loads their examples (`load_examples`).

A split from any source is read as a `Table`, whose rows the task type converts to examples (`examples_in`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.folders import check_link
from bigs_cli.core.paths import check_local, is_url
from bigs_cli.core.remote import local_copy
from bigs_cli.data.delimited import read_cells
from bigs_cli.data.files import local_file
from bigs_cli.data.hub import load_hub_table
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.reading import Table, dataset_table, read_parquet_files, read_saved, read_table, table_of
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of


def load_examples(task: Task, split: str, data: str | Path | None = None) -> Examples:
    """Return a split ("train", "dev", "dev_mismatched", "test", …) of `task`, in the order of its source.

    `data` is a folder with the official files of the task, or with a data set saved by `datasets` or as Parquet,
    directly or in a subfolder with the name of the task. Without `data`, the split is downloaded from the hub. For a
    task that is generated from text (`Task.generate`), `data` is the text source.

    A few training examples may be left out because they cannot be learned (`Examples.trainable`).

    Raises:
        RequestError: the split does not exist, is not found, or is malformed (the message names file and line).
    """
    if split not in task.sizes:
        raise RequestError(
            f"{task.title} has no split '{split}'.{did_you_mean(split, task.sizes)} It has {', '.join(task.sizes)}."
        )
    if task.generate is not None:
        return task.generate(split, None if data is None else str(data))
    table = _read_hub(task, split) if data is None and task.hub is not None else _read_files(task, split, data)
    examples = type_of(task).examples_in(table)
    where = f"The {split} split of {task.title}{f' in {data}' if data else ''}"
    if not examples.labelled and not split.startswith("test"):
        raise RequestError(f"{where} has no labels: there is no column '{task.label}' with values.")
    return examples.trainable(where) if split == "train" else examples


def available_splits(task: Task, data: str | Path | None = None) -> tuple[str, ...]:
    """Return the splits of `task` under `data`; without `data`, or for a generated task, all of its splits."""
    if data is None or task.generate is not None:
        return tuple(task.sizes)
    return tuple(split for split in task.sizes if _find_split(task, split, Path(data)))


def dev_splits(task: Task, data: str | Path | None = None) -> list[str]:
    """Return the dev splits of `task` under `data`; ["dev"] if there is none, so that loading it names the reason."""
    return [name for name in available_splits(task, data) if name.startswith("dev")] or ["dev"]


def data_digest(examples: Examples) -> str:
    """Return the SHA-256 of texts and labels in order, which does not depend on the source of the data."""
    digest = hashlib.sha256()
    for record in examples.records():
        digest.update(json.dumps({**record, "id": None}, sort_keys=True).encode())
    return digest.hexdigest()


def _read_hub(task: Task, split: str) -> Table:
    """Return a split from the hub (at `HF_ENDPOINT`), or from its cache on this machine."""
    assert task.hub is not None
    try:
        dataset = load_hub_table(task.hub.repo, task.hub.config, task.hub.splits[split])
    except RequestError as error:
        files = " and ".join(names[0] for key, names in task.files.items() if key in ("train", "dev"))
        raise RequestError(
            f"The {split} split of {task.title} is not on this machine, and {error}. "
            f"Pass --data DIR with {files or task.files['test'][0]}, or connect to the hub once."
        ) from error
    return dataset_table(dataset, f"{task.hub.repo} {task.hub.config} {dataset.split}")


def _read_files(task: Task, split: str, data: str | Path | None) -> Table:
    folder = Path(data or "")
    check_local(folder)
    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder} (--data). It should contain the files of {task.title}.")
    official = _official_paths(task, split, folder)
    saved = [place / f"{name}{end}" for place, name in _saved(task, split, folder) for end in ("", ".parquet")]
    for path in (*official, *saved):
        check_link(path)
    found = _find_split(task, split, folder)
    if not found:
        looked = "\n".join(f"  {path}" for path in official)
        raise RequestError(
            f"The {split} split of {task.title} is not under {folder}. Looked for:\n{looked}\n"
            "and for a saved data set or Parquet files of that split."
        )
    if found[0].is_dir():
        return read_saved(found[0])
    if found[0].suffix == ".parquet":
        return read_parquet_files([local_file(path) for path in found])
    if task.rows is not None:
        return table_of(str(found[0]), task.rows(found[0]))
    return read_table(found[0], _columns_without_header(task, found[0]), task.broken_rows)


def _columns_without_header(task: Task, path: Path) -> tuple[str, ...]:
    """Return the columns of a file without a header line; () if it has one."""
    if not task.headerless_columns:
        return ()
    first = next((cells for _, cells in read_cells(local_file(path))), [])
    columns = task.headerless_columns
    headerless = isinstance(first, list) and len(first) == len(columns) and task.text_a not in first
    return columns if headerless else ()


def _find_split(task: Task, split: str, folder: Path) -> list[Path]:
    """Return the official file of a split under `folder`, else its saved data set, else its Parquet files, if any."""
    official = next((path for path in _official_paths(task, split, folder) if path.is_file()), None)
    if official:
        return [official]
    for place, name in _saved(task, split, folder):
        if (place / name / "dataset_info.json").is_file():
            return [place / name]
        if files := sorted({*place.glob(f"{name}.parquet"), *place.glob(f"{name}-*.parquet")}):
            return files
    return []


def _official_paths(task: Task, split: str, folder: Path) -> list[Path]:
    names = task.files.get(split, ())
    places = (folder / task.folder, folder)
    return [local_copy(name) if is_url(name) else place / name for place in places for name in names]


def _saved(task: Task, split: str, folder: Path) -> list[tuple[Path, str]]:
    """Return the folders that may contain a split as a data set, each with a possible name of the split."""
    hub = task.hub
    names = [*([hub.splits[split]] if hub and split in hub.splits else []), split]
    places = [folder / task.folder, folder / (hub.config if hub else task.name), folder]
    return [(place, name) for place in places for name in names]
