"""Where bigs keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

from bigs_cli.core.errors import RequestError
from bigs_cli.core.paths import refuse_address


def cache_root() -> Path:
    """Return the cache folder: $BIGS_CACHE, else `bigs` in the user's cache folder. It need not exist.

    Raises:
        RequestError: $BIGS_CACHE is an address; there is neither folder, for this user has no home.
    """
    given = os.environ.get("BIGS_CACHE")
    if given:
        refuse_address(given, "$BIGS_CACHE: ")
        return Path(given)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bigs"
    except RuntimeError:
        raise RequestError(
            "This user has no home folder, where bigs keeps what it compiles. Name another: BIGS_CACHE=FOLDER bigs …"
        ) from None
