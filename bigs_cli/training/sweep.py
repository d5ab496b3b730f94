"""The settings of a sweep: every combination of the values of some recipe keys, and the folder of each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from bigs_cli.core.errors import RequestError

Axes = dict[str, tuple[str, ...]]
"""Recipe key → the values to try, in the syntax of --set."""


@dataclass(frozen=True)
class Setting:
    """One combination: a value for each key of the sweep."""

    values: dict[str, str]

    @property
    def sets(self) -> tuple[str, ...]:
        """The values as KEY=VALUE, as in --set."""
        return tuple(f"{key}={value}" for key, value in self.values.items())

    @property
    def name(self) -> str:
        """The name of its folder, such as ``learning_rate=1e-4,epochs=3``; "" without keys."""
        return ",".join(re.sub(r"[^\w.=+-]+", "-", f"{short_key(key)}={value}") for key, value in self.values.items())


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
