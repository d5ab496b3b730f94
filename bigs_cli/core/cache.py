"""Where bigs keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return the cache folder: $BIGS_CACHE, else `bigs` in the user's cache folder. It need not exist."""
    given = os.environ.get("BIGS_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bigs"
