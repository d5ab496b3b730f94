"""Errors a user meets. Each is a sentence: what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BigsError(Exception):
    """The run failed (exit code 1): the request was sound, carrying it out was not possible."""

    exit_code = 1


class RequestError(BigsError):
    """The request was wrong (exit code 2): a bad argument, recipe, file or name. Nothing was changed."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name nearest to `name`, or ``""`` when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
