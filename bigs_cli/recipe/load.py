"""A recipe's name or file, and what the command line sets, to a checked recipe; and a recipe back to YAML."""

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
from bigs_cli.recipe.source import MAX_DEPTH, Key, Place, Source, dump, parse_source, read_source, read_value

_KINDS: dict[str, type[PretrainRecipe] | type[FinetuneRecipe]] = {
    "pretrain": PretrainRecipe,
    "finetune": FinetuneRecipe,
}
# pydantic's words for a type → a reader's
_WORDS = {
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
    """Return the checked recipe of a shipped name (``mrpc``) or a file (``mine.yaml``, ``./mine``).

    `overrides` are ``key.subkey=value`` with YAML values, as given to ``--set``; for one key the last counts.
    `options` maps ``key.subkey`` to the value of the command's option called ``--subkey``, and wins over both. A key
    of an earlier release is read under its present name, and `deprecated` is called with its place and a sentence.

    Raises:
        RequestError: with a sentence and a place for everything that is wrong.
    """
    source = _extended(rename_keys(_read(name_or_path), deprecated), Path(name_or_path).parent, deprecated)
    for text in overrides:
        _override(source, text, deprecated)
    for key, value in reversed(list((options or {}).items())):  # what is missing beside them is told of the first
        option = f"--{key.rpartition('.')[2].replace('_', '-')}"
        if isinstance(value, str) and (shown := not_utf8(value)) is not None:
            source.problems.append(f"{option} {shown}: This is not UTF-8. Rename the file or column.")
        else:
            _lay(source, key.split("."), value, f"{option} {value}")
    recipe = _checked(source)
    if recipe is None:
        raise _refusal(source)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return `recipe` in full as YAML; `load_recipe` of a file with it gives an equal recipe."""
    return dump(recipe.model_dump(mode="json", by_alias=True))


def _read(name_or_path: str, folder: Path = Path()) -> Source:
    """Read a shipped recipe, or a file whose path is relative to `folder`."""
    if is_recipe_file(name_or_path):
        return read_source(folder / name_or_path)
    return parse_source(recipe_text(name_or_path), name_or_path)


def _extended(source: Source, folder: Path, deprecated: Deprecated) -> Source:
    """Return `source`, a recipe in `folder`, merged over the recipe that its ``extends`` names.

    Raises:
        RequestError: one of the two cannot be read; other errors would only follow from that.
    """
    if not source.data:
        raise _refusal(source)
    name = source.data.pop("extends", None)
    if name is None:
        return source
    place = source.place(("extends",))
    if not isinstance(name, str):
        source.problems.append(f"{place}: 'extends' names one recipe, and this is {_shown(name)}.")
        raise _refusal(source)
    try:
        parent = rename_keys(_read(name, folder), deprecated)
    except RequestError as error:
        source.problems.append(f"{place}: {error}")
        raise _refusal(source) from None
    if "extends" in parent.data:
        source.problems.append(
            f"{place}: '{name}' extends '{parent.data['extends']}' itself, and a parent has no parent. "
            f"Extend that one, or write the file anew with `bigs recipes show {name} --resolved`."
        )
        raise _refusal(source)
    parent.problems += source.problems
    parent.name = source.name
    parent.places[()] = source.places[()]
    _merge(parent, source.data, source.places, ())
    return parent


def _merge(into: Source, data: dict[str, Any], places: dict[Key, Place], path: Key) -> None:
    """Lay `data`, which is at `path`, over `into`: mappings key by key, anything else as a whole."""
    target = into.data
    for part in path:
        target = target[str(part)]
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            into.places[here] = places.get(here, into.places[here])
            _merge(into, value, places, here)
        else:
            target[key] = value
            kept = {at: place for at, place in into.places.items() if at[: len(here)] != here}
            into.places = kept | {at: place for at, place in places.items() if at[: len(here)] == here}


def _override(source: Source, text: str, deprecated: Deprecated) -> None:
    """Lay the ``key.subkey=value`` in `text` over `source`."""
    place = f"--set {text}"
    dotted, equals, value = text.partition("=")
    keys = dotted.split(".")
    if (shown := not_utf8(text)) is not None:
        source.problems.append(f"--set {shown}: This is not UTF-8. Write it in plain letters.")
        return
    if len(keys) > MAX_DEPTH:
        source.problems.append(f"{place}: This key has {len(keys)} parts, and no key of a recipe has as many.")
        return
    if not equals or not all(re.fullmatch(r"\S+", key) for key in keys):
        source.problems.append(f"{place}: This is not KEY=VALUE, as in --set optimizer.learning_rate=1e-4.")
        return
    data, problems = read_value(value, place)
    source.problems += problems
    if problems:
        return
    _lay(source, keys, data, place, deprecated)


def _lay(
    source: Source,
    keys: Sequence[str],
    data: Any,
    place: str,
    deprecated: Deprecated = note_once,
) -> None:
    """Lay `data`, which is at `keys` and was given at `place`, over `source`."""
    for key in reversed(keys):
        data = {key: data}
    places: dict[Key, Place] = {tuple(keys[:n]): Place(place, place) for n in range(1, len(keys) + 1)}
    given = rename_keys(Source(place, data, places), deprecated)
    _merge(source, given.data, given.places, ())


def _checked(source: Source) -> Recipe | None:
    """Return the recipe in `source`, or None with everything that is wrong added to its problems."""
    kind = source.data.get("kind")
    model = _KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        place = source.place(("kind",))
        said = f"'kind' is {_shown(kind)}." if "kind" in source.data else "'kind' is missing."
        source.problems.append(f"{place}: {said} It is one of {', '.join(_KINDS)}.")
        return None
    try:
        recipe = model.model_validate_json(json.dumps(source.data), strict=True)
    except ValidationError as error:
        source.problems += [_sentence(model, source, details) for details in error.errors()]
        return None
    return None if source.problems else recipe


def _sentence(model: type[BaseModel], source: Source, details: ErrorDetails) -> str:
    """Return where and what is wrong, in a reader's words."""
    path, kind = details["loc"], details["type"]
    dotted = ".".join(map(str, path))
    if kind == "extra_forbidden":
        known = _keys(model, path[:-1])
        inside = f" in '{'.'.join(map(str, path[:-1]))}'" if path[:-1] else ""
        near = did_you_mean(str(path[-1]), known) or f" The keys are {', '.join(known)}."
        return f"{source.place(path, key=True)}: There is no key '{path[-1]}'{inside}.{near}"
    if kind == "missing":
        known = _keys(model, path[:-1])
        return f"{source.place(path[:-1])}: '{dotted}' is missing: {known[str(path[-1])]}."
    if kind == "value_error":
        message = details["msg"].removeprefix("Value error, ")
        return f"{source.place(path)}: {message}."
    _, should, expected = details["msg"].partition(" should ")
    expected = expected if should else f"be {details['msg']}"
    for theirs, ours in _WORDS.items():
        expected = expected.replace(theirs, ours)
    near = ""
    if kind == "literal_error" and isinstance(details["input"], str):
        near = did_you_mean(details["input"], re.findall(r"'([^']*)'", expected))
    return f"{source.place(path)}: '{dotted}' should {expected}, not {_shown(details['input'])}.{near}"


def _keys(model: type[BaseModel], path: Key) -> dict[str, str]:
    """Return the keys and descriptions of the part of `model` at `path`."""
    for part in path:
        field = next(field for name, field in model.model_fields.items() if (field.alias or name) == part)
        # A part that may be left out is a union with None.
        kinds = get_args(field.annotation) or (field.annotation,)
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return {}
        model = inner
    return {field.alias or name: field.description or "" for name, field in model.model_fields.items()}


def _shown(value: Any) -> str:
    """Return `value` as a reader would write it, cut short."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    short = text if len(text) <= 60 else f"{text[:57]}…"
    return f"'{short}'" if isinstance(value, str) else short


def _refusal(source: Source) -> RequestError:
    """Return the error that lists the problems of `source`."""
    problems = source.problems
    if len(problems) == 1:
        return RequestError(problems[0])
    return RequestError("\n  ".join([f"The recipe {source.name} has {len(problems)} problems:", *problems]))
