"""The folder of a sweep: its plan in sweep.json, and runs with every combination of values of some recipe keys.

A GLUE suite is a sweep over tasks: its only key is `task`, which is an argument of the command.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bigs_cli.checkpoints.run import RunFolder, runs_root
from bigs_cli.core.errors import RequestError

PLAN = "sweep.json"
TASK = "task"

Axes = dict[str, tuple[str, ...]]
"""Recipe key → the values to try, in the syntax of --set."""


@dataclass(frozen=True)
class Setting:
    """One combination: a value for each key of the sweep."""

    values: dict[str, str]

    @property
    def task(self) -> str | None:
        """The task of a suite; None in other sweeps."""
        return self.values.get(TASK)

    @property
    def sets(self) -> tuple[str, ...]:
        """The values as KEY=VALUE, as in --set."""
        return tuple(f"{key}={value}" for key, value in self.values.items() if key != TASK)

    @property
    def name(self) -> str:
        """The name of its folder: the task, or such as ``learning_rate=1e-4,epochs=3``; "" without keys."""
        values = (f"{short_key(key)}={value}" for key, value in self.values.items())
        return self.task or ",".join(re.sub(r"[^\w.=+-]+", "-", value) for value in values)


def parse_axes(texts: Sequence[str]) -> Axes:
    """Return the axes that are given as KEY=VALUE,VALUE,… Commas in brackets or quotes do not separate values.

    Raises:
        RequestError: a text has another form, or a key or value is repeated.
    """
    axes: Axes = {}
    for text in texts:
        key, _, values = text.partition("=")
        parts = _split(values)
        if not key or not parts:
            raise RequestError(
                f"--sweep {text}: name a key and its values, as in --sweep optimizer.learning_rate=1e-4,3e-4"
            )
        if key in axes:
            raise RequestError(f"--sweep {key} is given twice. Give all its values at once: --sweep {key}=A,B,C")
        if len(set(parts)) < len(parts):
            raise RequestError(f"--sweep {text} repeats a value.")
        axes[key] = parts
    names = [setting.name for setting in combinations(axes)]
    if len(set(names)) < len(names):
        raise RequestError("Two settings of the sweep would have the same folder. Use values that differ in a letter.")
    return axes


def _split(values: str) -> tuple[str, ...]:
    try:
        node = yaml.compose(f"[{values}]", Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return ()
    if not isinstance(node, yaml.SequenceNode) or node.end_mark.index != len(values) + 2:
        return ()
    return tuple(values[one.start_mark.index - 1 : one.end_mark.index - 1] for one in node.value)


def combinations(axes: Axes) -> list[Setting]:
    """Return all combinations; the values of the last key change fastest."""
    return [Setting(dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def short_key(key: str) -> str:
    """Return the last part of a recipe key."""
    return key.rpartition(".")[2]


class Plan(BaseModel):
    """What a sweep runs: a `command` with the same `arguments` for every setting and, if there are several, seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    axes: tuple[tuple[str, tuple[str, ...]], ...]
    seeds: int
    first_seed: int
    arguments: dict[str, Any]

    @property
    def is_suite(self) -> bool:
        """Whether it runs over tasks."""
        return TASK in dict(self.axes)

    @property
    def settings(self) -> list[Setting]:
        """All combinations of values."""
        return combinations(dict(self.axes))

    def runs(self, root: Path, setting: Setting) -> dict[RunFolder, int | None]:
        """Return the runs of a setting, one per seed, with their seeds; if there is only one, it has the recipe's."""
        folder = root / setting.name
        if self.seeds == 1:
            return {RunFolder(folder): None}
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        return {RunFolder(folder / f"seed-{seed}"): seed for seed in seeds}

    def finished_runs(self, root: Path, setting: Setting) -> list[RunFolder]:
        """Return those of the runs of a setting that are finished."""
        return [run for run in self.runs(root, setting) if run.finished]


def is_sweep(root: Path | str | None) -> bool:
    """Return whether `root` is the folder of a sweep."""
    return root is not None and (Path(root) / PLAN).is_file()


def find_sweep(name: str) -> Path | None:
    """Return the folder of the sweep `name`, a path or a name in `runs_root()`; None if there is none.

    Suites are not found: the scores of different tasks do not compare.

    Raises:
        RequestError: its plan is invalid.
    """
    found = next((path for path in (Path(name), runs_root() / name) if is_sweep(path)), None)
    return None if found is None or read_plan(found).is_suite else found


def other_seeds(run: RunFolder) -> list[RunFolder]:
    """Return the runs that were begun with other seeds and the setting of `run`, if that is part of a sweep.

    Raises:
        RequestError: the plan of the sweep is invalid.
    """
    root = next((path for path in (run.path.parent, run.path.parent.parent) if is_sweep(path)), None)
    if root is None:
        return []
    plan = read_plan(root)
    seeds = next((runs for setting in plan.settings if run in (runs := plan.runs(root, setting))), {})
    return [other for other in seeds if other != run and other.is_run]


def read_plan(root: Path) -> Plan:
    """Return the plan of the sweep in `root`.

    Raises:
        RequestError: it is missing or invalid.
    """
    try:
        return Plan.model_validate_json((root / PLAN).read_bytes())
    except (OSError, ValidationError):
        raise RequestError(f"{root / PLAN} is invalid, so this sweep cannot be read. Start a new one.") from None
