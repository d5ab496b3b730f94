"""Loading a recipe: reads a file or shipped recipe, applies `extends` and command-line overrides, and validates it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bigs_cli.core.errors import RequestError, did_you_mean, not_utf8
from bigs_cli.recipe.catalog import is_recipe_file, recipe_text
from bigs_cli.recipe.renamed import Deprecated, note_once, rename_keys
from bigs_cli.recipe.schema import FinetuneRecipe, PretrainRecipe, Recipe
from bigs_cli.recipe.source import MAX_DEPTH, Key, Location, Source, dump, parse_source, read_source, read_value

_KINDS: dict[str, type[PretrainRecipe] | type[FinetuneRecipe]] = {
    "pretrain": PretrainRecipe,
    "finetune": FinetuneRecipe,
}
# Descriptions of types in pydantic's messages → ours.
_TYPE_NAMES = {
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a finite number": "a finite number",
    "a valid boolean": "true or false",
    "True or False": "true or false",
    "a valid string": "text",
    "an object": "a mapping of keys",
    "a valid tuple": "a list",
    "a valid array": "a list",
}


def load_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    deprecated: Deprecated = note_once,
) -> Recipe:
    """Return the validated recipe with a shipped name (``mrpc``) or from a file (``mine.yaml``, ``./mine``).

    `overrides` are ``key.subkey=value`` with YAML values, as in ``--set``; the last value of a key counts. `options`
    maps ``key.subkey`` to the value of the command-line option ``--subkey``, and takes precedence over `overrides` and
    the recipe. For each renamed key, `deprecated` is called with its location and a sentence.

    Raises:
        RequestError: the recipe is invalid; the message lists all problems with their locations.
    """
    source = _read_extended(name_or_path, deprecated)
    for text in overrides:
        _apply_override(source, text, deprecated)
    # In reverse, so that a message about a missing key names the first option as its location.
    for key, value in reversed(list((options or {}).items())):
        option = f"--{key.rpartition('.')[2].replace('_', '-')}"
        if isinstance(value, str) and (escaped := not_utf8(value)) is not None:
            source.problems.append(f"{option} {escaped}: This is not UTF-8. Rename the file or column.")
        else:
            _set(source, key.split("."), value, f"{option} {value}", deprecated)
    return _validate(source)


def load_run_recipe(file: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe recorded in a run, updated with `overrides`. Renamed keys in the file print no note.

    Raises:
        RequestError: as `load_recipe`.
    """
    source = _read_extended(str(file), lambda location, sentence: None)
    for text in overrides:
        _apply_override(source, text, note_once)
    return _validate(source)


def dump_recipe(recipe: Recipe) -> str:
    """Return all values of `recipe` as YAML, from which `load_recipe` reads an equal recipe."""
    return dump(recipe.model_dump(mode="json", by_alias=True))


def _read(name_or_path: str, folder: Path = Path()) -> Source:
    """Read a shipped recipe, or a file whose path is relative to `folder`."""
    if is_recipe_file(name_or_path):
        return read_source(folder / name_or_path)
    return parse_source(recipe_text(name_or_path), name_or_path)


def _read_extended(name_or_path: str, deprecated: Deprecated) -> Source:
    """Read a recipe and merge it into the recipe named by its ``extends``, if any.

    Raises:
        RequestError: one of the two cannot be read.
    """
    source = rename_keys(_read(name_or_path), deprecated)
    if not source.data:
        raise _recipe_error(source)
    name = source.data.pop("extends", None)
    if name is None:
        return source
    location = source.location(("extends",))
    if not isinstance(name, str):
        source.problems.append(f"{location}: 'extends' must be the name of a recipe, not {_quote(name)}.")
        raise _recipe_error(source)
    try:
        base = rename_keys(_read(name, Path(name_or_path).parent), deprecated)
    except RequestError as error:
        source.problems.append(f"{location}: {error}")
        raise _recipe_error(source) from None
    if "extends" in base.data:
        source.problems.append(
            f"{location}: '{name}' in turn extends '{base.data['extends']}', and `extends` cannot be nested. Extend "
            f"'{base.data['extends']}', or write '{name}' out with `bigs recipes show {name} --resolved`."
        )
        raise _recipe_error(source)
    base.problems += source.problems
    base.name = source.name
    base.locations[()] = source.locations[()]
    _merge(base, source.data, source.locations, ())
    return base


def _merge(target: Source, data: dict[str, Any], locations: dict[Key, Location], path: Key) -> None:
    """Update the value of `target` at `path` with `data`: mappings are merged by key, other values are replaced."""
    section = target.data
    for part in path:
        section = section[str(part)]
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(section.get(key), dict):
            target.locations[here] = locations.get(here, target.locations[here])
            _merge(target, value, locations, here)
        else:
            section[key] = value
            others = {at: location for at, location in target.locations.items() if at[: len(here)] != here}
            target.locations = others | {at: where for at, where in locations.items() if at[: len(here)] == here}


def _apply_override(source: Source, text: str, deprecated: Deprecated) -> None:
    """Set the key in `text`, ``key.subkey=value``, in `source`."""
    location = f"--set {text}"
    dotted, equals, value = text.partition("=")
    keys = dotted.split(".")
    if (escaped := not_utf8(text)) is not None:
        source.problems.append(f"--set {escaped}: This is not UTF-8. Use UTF-8 text.")
        return
    if len(keys) > MAX_DEPTH:
        source.problems.append(f"{location}: This key has {len(keys)} parts; the maximum is {MAX_DEPTH}.")
        return
    if not equals or not all(re.fullmatch(r"\S+", key) for key in keys):
        source.problems.append(f"{location}: This is not KEY=VALUE, as in --set optimizer.learning_rate=1e-4.")
        return
    data, problems = read_value(value, location)
    source.problems += problems
    if not problems:
        _set(source, keys, data, location, deprecated)


def _set(source: Source, keys: Sequence[str], value: Any, location: str, deprecated: Deprecated) -> None:
    """Set the value at the path `keys` in `source`; `location` is the source of the value."""
    for key in reversed(keys):
        value = {key: value}
    locations: dict[Key, Location] = {tuple(keys[:n]): Location(location, location) for n in range(1, len(keys) + 1)}
    update = rename_keys(Source(location, value, locations), deprecated)
    _merge(source, update.data, update.locations, ())


def _validate(source: Source) -> Recipe:
    """Return the recipe in `source`.

    Raises:
        RequestError: it has problems.
    """
    kind = source.data.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        problem = f"'kind' is {_quote(kind)}" if "kind" in source.data else "'kind' is missing"
        source.problems.append(f"{source.location(('kind',))}: {problem}; it must be {' or '.join(_KINDS)}.")
        raise _recipe_error(source)
    try:
        recipe = model.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        source.problems += [_error_message(model, source, details) for details in error.errors()]
        raise _recipe_error(source) from None
    if source.problems:
        raise _recipe_error(source)
    return recipe


def _error_message(model: type[BaseModel], source: Source, details: ErrorDetails) -> str:
    """Return the location and the description of a validation error."""
    path, kind = details["loc"], details["type"]
    dotted = ".".join(map(str, path))
    if kind == "extra_forbidden":
        known = _keys(model, path[:-1])
        section = f" in '{'.'.join(map(str, path[:-1]))}'" if path[:-1] else ""
        near = did_you_mean(str(path[-1]), known) or f" The keys are {', '.join(known)}."
        return f"{source.location(path, key=True)}: There is no key '{path[-1]}'{section}.{near}"
    if kind == "missing":
        known = _keys(model, path[:-1])
        return f"{source.location(path[:-1])}: '{dotted}' is missing ({known[str(path[-1])]})."
    if kind == "value_error":
        message = details["msg"].removeprefix("Value error, ")
        return f"{source.location(path)}: {message}."
    _, should, expected = details["msg"].partition(" should ")
    expected = expected if should else f"be {details['msg']}"
    for theirs, ours in _TYPE_NAMES.items():
        expected = expected.replace(theirs, ours)
    near = ""
    if kind == "literal_error" and isinstance(details["input"], str):
        near = did_you_mean(details["input"], re.findall(r"'([^']*)'", expected))
    return f"{source.location(path)}: '{dotted}' should {expected}, not {_quote(details['input'])}.{near}"


def _keys(model: type[BaseModel], path: Key) -> dict[str, str]:
    """Return the keys and descriptions of the section of `model` at `path`."""
    for part in path:
        field = next(field for name, field in model.model_fields.items() if (field.alias or name) == part)
        # An optional section is a union with None.
        kinds = get_args(field.annotation) or (field.annotation,)
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return {}
        model = inner
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def _quote(value: Any) -> str:
    """Return `value` as it is written in YAML, shortened to 60 characters; text is in quotes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    short = text if len(text) <= 60 else f"{text[:57]}…"
    return f"'{short}'" if isinstance(value, str) else short


def _recipe_error(source: Source) -> RequestError:
    """Return the error that lists the problems of `source`."""
    problems = source.problems
    if len(problems) == 1:
        return RequestError(problems[0])
    return RequestError("\n  ".join([f"The recipe {source.name} has {len(problems)} problems:", *problems]))
