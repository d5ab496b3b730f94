"""How we use the client of the Hugging Face hub: in silence, with a limit to all waiting, its errors in a few words."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")

_PROBE_SECONDS = 5.0
_WRITE_SECONDS = 600.0
_WAITS = (1, 2, 4)  # seconds before the hub is asked again
_PATIENCE = 15.0  # seconds
_BUSY = (429, 500, 502, 503, 504)


def hub_answers() -> bool:
    """Say whether anything answers at the hub's address, within a few seconds. HF_HUB_OFFLINE=1: it is not asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):  # ValueError: no address at all
        return False


def network_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises when the network or the hub fails, after its own attempts."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # pyright: ignore[reportPrivateImportUsage] - its HTTP library's; no OSError


def reason_of(error: Exception) -> str:
    """Return an error of the client, or what is behind it, in a few words."""
    behind, status = error.__cause__ or error, status_of(error)
    return f"HTTP {status}" if status else (str(behind).strip() or type(behind).__name__).splitlines()[0].rstrip(".")


def status_of(error: Exception) -> int | None:
    """Return the status of the answer behind an error of the client, None if the hub did not answer."""
    return getattr(getattr(error.__cause__ or error, "response", None), "status_code", None)


class Damaged(OSError):
    """What arrived is not what the hub said it would be."""


def patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Return what `ask` gives; asked again, three times, where the hub is busy or a file arrived damaged.

    The client itself is patient with some questions only. Where it was, for longer than `_PATIENCE`, that was enough.
    """
    started = time.monotonic()
    for wait in _WAITS:
        try:
            return ask()
        except network_errors() as error:
            cut = isinstance(error, Damaged) or "Consistency check failed" in str(error)
            if (status_of(error) not in _BUSY and not cut) or time.monotonic() - started > _PATIENCE:
                raise
            time.sleep(wait)
    return ask()


@contextlib.contextmanager
def arriving(repo_id: str) -> Iterator[None]:
    """Check the files of a model's repository that are fetched inside against what the cache calls them: their digests.

    The client compares no more than their sizes. Damaged ones are removed, and fetched again the next time.

    Raises:
        Damaged: there are some.
    """
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"), "blobs")
    before = {path.name for path in blobs.glob("*")}
    try:
        yield
    finally:
        damaged = [path for path in blobs.glob("*") if path.name not in before and _is_damaged(path)]
        for path in damaged:
            path.unlink()
        if damaged:
            raise Damaged(f"what arrived is not what the hub says it sent, {len(damaged)} files")


def _is_damaged(blob: Path) -> bool:
    """Whether a file of the cache has not the digest that is its name: Git's own, or, of large files, a SHA-256."""
    if not set(blob.name) <= set("0123456789abcdef"):
        return False
    with blob.open("rb") as file:
        if len(blob.name) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() != blob.name
        if len(blob.name) == 40:
            content = file.read()
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() != blob.name
    return False


def limit_waiting() -> None:
    """Let no request of the client wait for ever: its listings have no time limit, unlike its downloads.

    The limit of the downloads, HF_HUB_DOWNLOAD_TIMEOUT (10 seconds), holds for all questions. What writes has ten
    minutes, for the hub answers a commit of large files late. The client may be exchanged for a new one after a
    failed connection: to be called before each use.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _limit not in hooks:
        hooks.append(_limit)


def hush_client() -> None:
    """Keep the libraries' warnings and progress bars off the terminal: what matters of them, our sentences say."""
    import datasets
    from huggingface_hub.utils import disable_progress_bars

    for name in ("datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    disable_progress_bars()


def _limit(request: Any) -> None:
    from huggingface_hub import constants

    asks = request.method in ("GET", "HEAD") or "/paths-info/" in request.url.path
    longest = constants.HF_HUB_DOWNLOAD_TIMEOUT if asks else _WRITE_SECONDS
    limits = request.extensions.get("timeout", {})
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: limits.get(kind) or longest for kind in kinds}
