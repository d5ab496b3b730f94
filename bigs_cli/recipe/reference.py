"""Generates the reference of recipe keys at the end of docs/recipes.md: `python -m bigs_cli.recipe.reference`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bigs_cli.recipe.renamed import RENAMED_KEYS
from bigs_cli.recipe.schema import FinetuneRecipe, PretrainRecipe

MARK = "<!-- The rest of this page is generated: python -m bigs_cli.recipe.reference -->"


def reference() -> str:
    """Return the tables of all keys and of the renamed keys, as Markdown."""
    lines = [MARK]
    for title, model in (("Pretraining", PretrainRecipe), ("Fine-tuning", FinetuneRecipe)):
        lines += ["", f"## {title} recipes", "", *_HEAD, *_rows(model, "")]
    lines += ["", "## Renamed keys", "", "| old | new |", "|---|---|"]
    lines += [f"| `{old}` | `{new}` |" for old, new in RENAMED_KEYS.items()]
    return "\n".join(lines) + "\n"


_HEAD = ("| key | default | meaning |", "|---|---|---|")


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner = next((kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)), None)
        default = _default(field) if inner is None or not field.is_required() else "required"
        meaning = f"{field.description or ''}{_values(field.annotation)}"
        yield f"| `{key}` | {default} | {meaning.replace('|', '&#124;')} |"
        if inner is not None:
            yield from _rows(inner, f"{key}.")


def _kinds(annotation: Any) -> Iterator[type]:
    for kind in get_args(annotation) or (annotation,):
        if isinstance(kind, type):
            yield kind


def _values(annotation: Any) -> str:
    """Return the names that a key can have, as a clause, unless it is free or has only one."""
    kinds = [annotation, *get_args(annotation)]
    values = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    return f" (one of {', '.join(f'`{value}`' for value in values)})" if len(values) > 1 else ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined:
        return ""
    return f"`{json.dumps(field.default, ensure_ascii=False)}`"


if __name__ == "__main__":
    print(reference(), end="")
