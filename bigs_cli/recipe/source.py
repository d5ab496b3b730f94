"""Parsing YAML into plain data with the file, line and column of every key and value.

Only mappings, lists, text, numbers, true/false and null are supported, with scalars as in YAML 1.2 (``6e-4`` is a
number, ``no`` is text). Anchors, aliases and tags are errors, so a small file cannot expand to a large one and only
plain values are constructed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError, first_line

MAX_BYTES = 2**20
"""Maximum size of a recipe file; shipped recipes have a few KB."""
MAX_DEPTH = 16
"""Maximum nesting depth of lists and mappings."""

_SHELL_PIPES = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Folders in which shells create the pipes of process substitutions, as in `--recipe <(…)`."""

Key = tuple[str | int, ...]

# Types of plain scalars other than text: tag, pattern, first characters.
_SCALAR_TYPES = (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - declared as in the base class


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - declared as in the base class

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, _pattern, _first in _SCALAR_TYPES:
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)
_Dumper.add_representer(float, lambda dumper, x: dumper.represent_scalar("tag:yaml.org,2002:float", repr(x)))


@dataclass(frozen=True)
class Location:
    """The locations of a key and its value, as shown in messages: ``file:line:column`` or ``--set …``."""

    key: str
    value: str


@dataclass
class Source:
    """Parsed YAML: the `data`, the `locations` of all paths in it, and error messages."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    locations: dict[Key, Location] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def location(self, path: Key, *, key: bool = False) -> str:
        """Return the location of the value at `path`, or of its nearest parent; with `key`, that of the key."""
        while path and path not in self.locations:
            path = path[:-1]
        location = self.locations.get(path, Location(self.name, self.name))
        return location.key if key else location.value


def read_source(path: Path) -> Source:
    """Read the YAML file at `path`. Syntax errors are in the `problems` of the result.

    Raises:
        RequestError: it cannot be read, is not UTF-8, or is larger than 1 MiB.
    """
    return parse_source(_read_text(path), str(path))


def parse_source(text: str, name: str) -> Source:
    """Parse the YAML mapping in `text`, called `name` in messages. Errors are in the `problems` of the result."""
    source = Source(name)
    node = _compose(text, source)
    if isinstance(node, yaml.MappingNode):
        source.data = _to_value(node, (), source)
    elif not source.problems:
        source.problems.append(f"{_locate(source, node)}: A recipe must be a mapping, with lines of `key: value`.")
    return source


def read_value(text: str, name: str) -> tuple[Any, list[str]]:
    """Return the YAML value in `text`, called `name` in messages, and error messages."""
    source = Source(name)
    node = _compose(text, source)
    value = None if node is None else _to_value(node, (), source)
    return value, source.problems


def dump(data: Any) -> str:
    """Return plain `data` as YAML from which `read_value` reads equal data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _read_text(path: Path) -> str:
    try:
        if path.is_fifo() and path.parent not in _SHELL_PIPES:
            raise RequestError(f"{path} is a pipe. Name a YAML file.")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RequestError(
            f"There is no recipe file {path}. To create one from a shipped recipe: bigs recipes copy NAME {path}"
        ) from None
    except OSError as error:
        raise read_error(path, error) from None
    if len(raw) > MAX_BYTES:
        raise RequestError(f"{path} is larger than 1 MiB, so it is not a recipe. Name a recipe file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text (byte {error.start}). Convert it to UTF-8, or name another recipe file."
        ) from None


def _compose(text: str, source: Source) -> yaml.Node | None:
    """Return the YAML document in `text` as a node; None, with the errors added to `source`, if it is invalid."""
    try:
        source.problems += _unsupported(text, source)
        return None if source.problems else yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        source.problems.append(f"{_locate(source, mark)}: This is not valid YAML: {error.problem or error.context}.")
    except yaml.YAMLError as error:
        source.problems.append(f"{_locate(source, None)}: This is not valid YAML: {first_line(error)}.")
    return None


def _unsupported(text: str, source: Source) -> list[str]:
    """Return an error message for every anchor, alias and tag, and for nesting deeper than `MAX_DEPTH`."""
    problems, depth = [], 0
    for event in yaml.parse(text, Loader=_Loader):
        location = _locate(source, event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problems.append(f"{location}: Anchors and aliases (& and *) are not supported. Write the value out.")
        elif getattr(event, "tag", None):
            problems.append(f"{location}: Tags (!) are not supported. Write the plain value, in quotes if it is text.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return [*problems, f"{location}: The nesting is deeper than {MAX_DEPTH} levels, which no recipe needs."]
    return problems


def _to_value(node: yaml.Node, path: Key, source: Source) -> Any:
    """Return the plain value of `node` and record its locations. Duplicate keys are errors."""
    if not path:
        source.locations[path] = Location(_locate(source, node.start_mark), _locate(source, node.start_mark))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            location = _locate(source, item.start_mark)
            source.locations[(*path, i)] = Location(location, location)
        return [_to_value(item, (*path, i), source) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node.tag, node.value)
    values: dict[str, Any] = {}
    for key, item in node.value:
        location = _locate(source, key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            source.problems.append(f"{location}: A key must be a word, not a list or a mapping.")
        elif key.value in values:
            first = source.location((*path, key.value), key=True)
            source.problems.append(f"{location}: '{key.value}' is set twice, first at {first}. Remove one of the two.")
        else:
            source.locations[(*path, key.value)] = Location(location, _locate(source, item.start_mark))
            values[key.value] = _to_value(item, (*path, key.value), source)
    return values


def _scalar(tag: str, text: str) -> Any:
    """Return the value of a scalar. A number with too many digits for Python stays text, which validation rejects."""
    kind = tag.rpartition(":")[2]
    try:
        if kind == "int":
            return int(text.replace("_", ""))
        if kind == "float":
            return float(text.replace("_", ""))
    except ValueError:
        return text
    return {"null": None, "bool": text == "true"}.get(kind, text)


def _locate(source: Source, node_or_mark: Any) -> str:
    """Return ``file:line:column``; for an option, only the option."""
    mark = getattr(node_or_mark, "start_mark", node_or_mark)
    if source.name.startswith("--set "):
        return source.name
    return f"{source.name}:{mark.line + 1}:{mark.column + 1}" if mark else source.name
