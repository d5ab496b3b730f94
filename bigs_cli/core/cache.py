"""Where bigs keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from bigs_cli.core.errors import RequestError


def cache_root() -> Path:
    """Return the cache folder: $BIGS_CACHE, else `bigs` in the user's cache folder. It need not exist.

    Raises:
        RequestError: there is neither, for this user has no home.
    """
    given = os.environ.get("BIGS_CACHE")
    if given:
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bigs"
    except RuntimeError:
        raise RequestError(
            "This user has no home folder, where bigs keeps what it compiles. Name another: BIGS_CACHE=FOLDER bigs …"
        ) from None
