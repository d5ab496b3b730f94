"""Notes on stderr from code that does not use the console."""

from __future__ import annotations

import functools
import sys

from bigs_cli.core.errors import BigsError


@functools.cache
def notice(sentence: str) -> None:
    """Print `sentence` on stderr, once per process."""
    print(BigsError(sentence), file=sys.stderr)  # BigsError escapes terminal control characters.
