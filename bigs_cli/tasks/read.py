"""`load_examples`: one split of a task, from wherever it lies."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.folders import check_link
from bigs_cli.core.paths import check_local
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.table import find_saved, read_hub, read_saved, saved_places
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.tsv import read_tsv


def load_examples(task: Task, split: str, data: str | Path | None = None) -> Examples:
    """Return a split ("train", "dev", "dev_mismatched", "test", …) of `task`, in the order of its source.

    `data` is a folder: the task's official files, or a data set saved by `datasets` or as Parquet, in it or
    in its folder of the task's name. Without `data` the hub is asked. A task that is generated from text
    (`Task.generate`) takes `data` as its text source.

    A few examples of train may be left out because they cannot be learned (`Examples.trainable`).

    Raises:
        RequestError: there is no such split, nothing is found, or it is malformed (with file and line).
    """
    if split not in task_splits(task):
        raise RequestError(
            f"{task.title} has no split '{split}'.{did_you_mean(split, task_splits(task))} "
            f"It has {', '.join(task_splits(task))}."
        )
    if task.generate is not None:
        return task.generate(split, None if data is None else str(data))
    examples = _read(task, split, None if data is None else Path(data))
    if not examples.labelled and not split.startswith("test"):
        raise RequestError(
            f"The {split} split of {task.title}{f' in {data}' if data else ''} has no labels: "
            f"there is no column '{task.label}' with values in it."
        )
    if split == "train":
        return examples.trainable(f"The {split} split of {task.title}{f' in {data}' if data else ''}")
    return examples


def task_splits(task: Task) -> tuple[str, ...]:
    """Return the splits that `task` has officially, in order."""
    return tuple(task.sizes)


def available_splits(task: Task, data: str | Path | None = None) -> tuple[str, ...]:
    """Return the splits of `task` that lie under `data`; without `data`, and for a generated task, all it has."""
    if data is None or task.generate is not None:
        return task_splits(task)
    return tuple(split for split in task_splits(task) if _find(task, split, Path(data)))


def data_digest(examples: Examples) -> str:
    """Return the SHA-256 of texts and labels in order: the same data, the same digest from any source."""
    digest = hashlib.sha256()
    for record in examples.records():
        digest.update(json.dumps({**record, "id": None}, sort_keys=True).encode())
    return digest.hexdigest()


def _read(task: Task, split: str, folder: Path | None) -> Examples:
    if folder is None and task.hub is not None:
        return read_hub(task, split)
    folder = folder or Path()
    check_local(folder)
    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder} (--data). It should hold the files of {task.title}.")
    for path in (*_official_paths(task, split, folder), *saved_places(task, split, folder)):
        check_link(path)
    found = _find(task, split, folder)
    if not found:
        looked = "\n".join(f"  {path}" for path in _official_paths(task, split, folder))
        raise RequestError(
            f"The {split} split of {task.title} is not under {folder}. Looked for:\n{looked}\n"
            "and for a saved data set or Parquet files of that split."
        )
    if found[0].is_dir() or found[0].suffix == ".parquet":
        return read_saved(task, found)
    return (task.read or read_tsv)(task, found[0])


def _find(task: Task, split: str, folder: Path) -> list[Path]:
    official = next((path for path in _official_paths(task, split, folder) if path.is_file()), None)
    return [official] if official else find_saved(task, split, folder)


def _official_paths(task: Task, split: str, folder: Path) -> list[Path]:
    return [place / name for place in (folder / task.folder, folder) for name in task.files.get(split, ())]
