"""JSON files that a user may have changed or damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json

Model = TypeVar("Model", bound=BaseModel)


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        RequestError: it cannot be read, or is not a JSON object; the message then ends with the sentence `remedy`.
    """
    try:
        value = parse_json(path.read_bytes())
    except OSError as error:
        raise read_error(path, error) from error
    except ValueError as error:
        raise RequestError(f"{path} is not JSON: {error}. {remedy}") from error
    if not isinstance(value, dict):
        raise RequestError(f"{path} is not a JSON object. {remedy}")
    return value


def checked(value: dict[str, Any], schema: type[Model], path: Path, remedy: str) -> Model:
    """Return `value`, the object in the file `path`, as a `schema`.

    Raises:
        RequestError: it does not conform to the schema; the message ends with the sentence `remedy`.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        raise RequestError(f"{path} is corrupt: {first_problem(error)}. {remedy}") from None


def first_problem(error: ValidationError) -> str:
    """Return the first problem with its key: ``model.head: Field required``."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg']}" if key else str(first["msg"])
