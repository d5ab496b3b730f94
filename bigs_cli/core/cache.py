"""The cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from bigs_cli.core.errors import RequestError
from bigs_cli.core.paths import check_local


def cache_root() -> Path:
    """Return the cache folder: $BIGS_CACHE, else `bigs` in the user's cache folder. It may not exist yet.

    Raises:
        RequestError: $BIGS_CACHE is a URL, or it is not set and the user has no home folder.
    """
    configured = os.environ.get("BIGS_CACHE")
    if configured:
        check_local(configured, "$BIGS_CACHE: ")
        return Path(configured)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bigs"
    except RuntimeError:
        raise RequestError(
            "This user has no home folder, so there is no cache folder. Name one: BIGS_CACHE=FOLDER bigs …"
        ) from None
