"""Sentences for the person at the terminal, from code that has no console of its own."""

from __future__ import annotations

import functools
import sys

from bigs_cli.core.errors import BigsError


@functools.cache
def notice(sentence: str) -> None:
    """Print `sentence` on stderr, once in this process however often the same file is read."""
    print(BigsError(sentence), file=sys.stderr)  # as an error's, it cannot steer a terminal
