"""YAML text to plain data that remembers the file, line and column of every key and value.

The dialect is small: mappings, lists, text, numbers, true/false and null. Numbers and words mean what they do
in YAML 1.2 (``6e-4`` is a number, ``no`` is text). Anchors, aliases and tags are refused, so a small file
cannot grow large and nothing is constructed but plain values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bigs_cli.core.error_messages import unreadable
from bigs_cli.core.errors import RequestError

MAX_BYTES = 2**20
"""The largest file that is read as a recipe; chosen here, as the next one: the shipped ones have a few KB."""
MAX_DEPTH = 16
"""How deep its lists and mappings may be nested."""

_OF_SHELLS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Where pipes lie that a shell has put a writer at: `--recipe <(…)`."""

Key = tuple[str | int, ...]

# tag, pattern, first characters: what a plain scalar may be other than text
_RESOLVED = (
    ("null", r"null|~|", ["n", "~", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?[0-9][0-9_]*", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the base class's own form


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the base class's own form

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind, _pattern, _first in _RESOLVED:
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)
_Dumper.add_representer(float, lambda dumper, x: dumper.represent_scalar("tag:yaml.org,2002:float", repr(x)))


@dataclass(frozen=True)
class Place:
    """Where a key and its value were written, as shown to people: ``file:line:column`` or ``--set …``."""

    key: str
    value: str


@dataclass
class Source:
    """What was read: `data`, the `places` of the paths in it, and sentences about what is wrong with it."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, Place] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def place(self, path: Key, *, key: bool = False) -> str:
        """Return where `path`, or the nearest thing around it, was written; with `key`, its name."""
        while path and path not in self.places:
            path = path[:-1]
        found = self.places.get(path, Place(self.name, self.name))
        return found.key if key else found.value


def read_source(path: Path) -> Source:
    """Read the YAML file at `path`. Errors in the YAML are in the result's `problems`.

    Raises:
        RequestError: it cannot be read, is not text, or is larger than 1 MiB.
    """
    return parse_source(_text(path), str(path))


def parse_source(text: str, name: str) -> Source:
    """Parse the YAML mapping in `text`, called `name` in messages. Errors are in the result's `problems`."""
    source = Source(name)
    node = _compose(text, source)
    if isinstance(node, yaml.MappingNode):
        source.data = _plain(node, (), source)
    elif not source.problems:
        source.problems.append(f"{_at(source, node)}: A recipe is a mapping: lines of `key: value`.")
    return source


def read_value(text: str, name: str) -> tuple[Any, list[str]]:
    """Return the YAML value in `text` and the sentences about what is wrong with it, found in `name`."""
    source = Source(name)
    node = _compose(text, source)
    value = None if node is None else _plain(node, (), source)
    return value, source.problems


def dump(data: Any) -> str:
    """Return plain `data` as YAML that reads back to the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _text(path: Path) -> str:
    try:
        if path.is_fifo() and path.parent not in _OF_SHELLS:
            raise RequestError(f"{path} is a pipe, which may never end. Name a recipe's YAML file.")
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RequestError(
            f"There is no recipe file {path}. `bigs recipes copy NAME {path}` makes one from a shipped one."
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    if len(raw) > MAX_BYTES:
        raise RequestError(f"{path} is larger than 1 MiB, which no recipe is. Name a recipe's YAML file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{path} is not UTF-8 text (byte {error.start}), which a recipe is. Name a recipe's YAML file."
        ) from None


def _compose(text: str, source: Source) -> yaml.Node | None:
    """Return the one document in `text` as nodes; None, with the reasons in `source`, when it is refused."""
    try:
        source.problems += _refused(text, source)
        return None if source.problems else yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        source.problems.append(f"{_at(source, mark)}: This is not YAML: {error.problem or error.context}.")
    except yaml.YAMLError as error:
        source.problems.append(f"{_at(source, None)}: This is not YAML: {str(error).splitlines()[0]}.")
    return None


def _refused(text: str, source: Source) -> list[str]:
    """Return a sentence for every anchor, alias and tag and for nesting past `MAX_DEPTH`."""
    problems, depth = [], 0
    for event in yaml.parse(text, Loader=_Loader):
        place = _at(source, event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problems.append(f"{place}: A recipe takes no anchors or aliases (& and *). Write the value out.")
        elif getattr(event, "tag", None):
            problems.append(f"{place}: A recipe takes no tags (!). Write the plain value, in quotes if it is text.")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return [*problems, f"{place}: This is nested {depth} deep, which nothing in a recipe is."]
    return problems


def _plain(node: yaml.Node, path: Key, source: Source) -> Any:
    """Return the plain value of `node`, noting places; the first of two equal keys counts."""
    if not path:
        source.places[path] = Place(_at(source, node.start_mark), _at(source, node.start_mark))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            source.places[(*path, i)] = Place(_at(source, item.start_mark), _at(source, item.start_mark))
        return [_plain(item, (*path, i), source) for i, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node.tag, node.value)
    values: dict[str, Any] = {}
    for key, item in node.value:
        here = _at(source, key.start_mark)
        if not isinstance(key, yaml.ScalarNode):
            source.problems.append(f"{here}: A key is a word, not a list or a mapping.")
        elif key.value in values:
            first = source.place((*path, key.value), key=True)
            source.problems.append(f"{here}: '{key.value}' is set twice, first at {first}. Remove one of the two.")
        else:
            source.places[(*path, key.value)] = Place(here, _at(source, item.start_mark))
            values[key.value] = _plain(item, (*path, key.value), source)
    return values


def _scalar(tag: str, text: str) -> Any:
    """Return what plain `text` means; a number too long for Python stays text, which is refused later."""
    kind = tag.rpartition(":")[2]
    try:
        if kind == "int":
            return int(text.replace("_", ""))
        if kind == "float":
            return float(text.replace("_", ""))
    except ValueError:
        return text
    return {"null": None, "bool": text == "true"}.get(kind, text)


def _at(source: Source, where: Any) -> str:
    """Return ``file:line:column`` of a mark; an argument's value has no lines worth naming."""
    mark = getattr(where, "start_mark", where)
    if source.name.startswith("--set "):
        return source.name
    return f"{source.name}:{mark.line + 1}:{mark.column + 1}" if mark else source.name
