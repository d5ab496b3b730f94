"""The Hugging Face hub: downloading files into its cache, uploading folders, and error messages.

"The client" is the library huggingface_hub. The endpoint, cache folder, token and timeouts are its own (HF_ENDPOINT,
HF_HOME, HF_TOKEN, …). Data sets are in `data/hub.py`, which uses the functions here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bigs_cli.core.error_messages import AGAIN, describe_disk_error
from bigs_cli.core.errors import BigsError, RequestError, first_line

_Result = TypeVar("_Result")

_PROBE_SECONDS = 5.0
_WRITE_SECONDS = 600.0
_RETRY_DELAYS = (1, 2, 4)  # seconds
_COMMIT = re.compile("[0-9a-f]{40}")
_BUSY = (429, 500, 502, 503, 504)


# --- the client -------------------------------------------------------------------------------------------------


def endpoint() -> str:
    """Return the URL of the hub."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE is set, which forbids all requests."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_logged_in() -> bool:
    """Return whether there is an access token."""
    from huggingface_hub import get_token

    return get_token() is not None


def hub_answers() -> bool:
    """Return whether the hub answers within a few seconds. With HF_HUB_OFFLINE, no request is made."""
    if is_offline():
        return False
    try:
        request = urllib.request.Request(endpoint(), method="HEAD")
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):  # ValueError: the endpoint is not a URL.
        return False


def network_errors() -> tuple[type[Exception], ...]:
    """Return the exception types that the client raises when the network or the hub fails."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # pyright: ignore[reportPrivateImportUsage] - not a subclass of OSError


def reason_of(error: Exception) -> str:
    """Return a short description of an exception that the client raised."""
    cause, status = error.__cause__ or error, status_of(error)
    return f"HTTP {status}" if status else first_line(cause)


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of an exception that the client raised; None if the hub did not answer."""
    return getattr(getattr(error.__cause__ or error, "response", None), "status_code", None)


def silence_client() -> None:
    """Turn off the warnings and progress bars of `datasets` and `huggingface_hub`."""
    import datasets
    from huggingface_hub.utils import disable_progress_bars

    for name in ("datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    disable_progress_bars()


def set_timeouts() -> None:
    """Set a timeout for all requests of the client, including listings, which have none by default.

    The timeout is HF_HUB_DOWNLOAD_TIMEOUT (10 seconds) for reading and ten minutes for writing, because large commits
    take long. The client is replaced after a failed connection, so call this before each use.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _add_timeout not in hooks:
        hooks.append(_add_timeout)


def _add_timeout(request: Any) -> None:
    from huggingface_hub import constants

    reads = request.method in ("GET", "HEAD") or "/paths-info/" in request.url.path
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT if reads else _WRITE_SECONDS
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {kind: limits.get(kind) or timeout for kind in ("connect", "read", "write", "pool")}


def retry(ask: Callable[[], _Result], patience: float = 15.0, after_any_error: bool = False) -> _Result:
    """Return the result of `ask`, retried up to three times if the hub is busy or a file is incomplete.

    With `after_any_error`, it is retried after every network error. The client retries some requests itself, so
    there is no further attempt once `patience` seconds have passed.
    """
    started = time.monotonic()
    for delay in _RETRY_DELAYS:
        set_timeouts()
        try:
            return ask()
        except network_errors() as error:
            again = after_any_error or status_of(error) in _BUSY or "Consistency check failed" in str(error)
            if not again or time.monotonic() - started > patience:
                raise
            time.sleep(delay)
    return ask()


# --- reading ----------------------------------------------------------------------------------------------------


def fetch_files(repo: str, patterns: Sequence[str], revision: str | None = None, kind: str = "model") -> Path:
    """Return the cache folder with the files of `repo` that match `patterns`; `kind` is "model" or "dataset".

    Only files missing from the cache are downloaded. Without network access, the cached copy is used.

    Raises:
        RequestError: the repository or the revision does not exist or is not accessible.
        BigsError: the hub cannot be reached and the repository is not in the cache.
    """
    from huggingface_hub import snapshot_download

    def ask(local: bool = False) -> Path:
        return Path(
            snapshot_download(
                repo, repo_type=kind, revision=revision, allow_patterns=list(patterns), local_files_only=local
            )
        )

    with read_errors(repo, revision, "data set" if kind == "dataset" else "model"):
        return _or_cached(ask)


def fetch_first(repo: str, names: Sequence[str], revision: str | None = None) -> Path | None:
    """Download the first of `names` that exists in a model repository, and return its path; None if none exists.

    Raises:
        RequestError, BigsError: as `fetch_files`.
    """
    from huggingface_hub import errors, hf_hub_download

    unreached: Exception | None = None
    with read_errors(repo, revision, "model"):
        for name in names:

            def ask(local: bool = unreached is not None, name: str = name) -> Path:
                return Path(hf_hub_download(repo, name, revision=revision, local_files_only=local))

            try:
                return _or_cached(ask)
            except (
                errors.LocalEntryNotFoundError
            ) as error:  # Not in the cache, and the hub is unreachable or denies access.
                unreached = unreached or error
            except errors.EntryNotFoundError:
                continue
        if unreached is not None:
            raise unreached
    return None


def _or_cached(ask: Callable[..., Path]) -> Path:
    """Return the result of `ask`, or the cached result if the server is not a hub."""
    try:
        return retry(ask)
    except (TypeError, LookupError, AttributeError, json.JSONDecodeError):
        with contextlib.suppress(*network_errors()):
            return ask(True)
        raise


@contextlib.contextmanager
def read_errors(repo: str, revision: str | None, noun: str) -> Iterator[None]:
    """Convert exceptions of the client while reading a repository; `noun` is "model" or "data set".

    Raises:
        RequestError, BigsError: as `fetch_files`.
    """
    from huggingface_hub import constants, errors

    at = f"{repo}@{revision}" if revision and not _COMMIT.fullmatch(revision) else repo
    try:
        yield
    except errors.HFValidationError:
        raise RequestError(
            f"'{repo}' is neither an existing file or folder nor a hub id such as owner/name. Check the name."
        ) from None
    except errors.GatedRepoError:
        raise gated_error(at, noun) from None
    except errors.RepositoryNotFoundError:
        raise RequestError(
            f"{repo} is not a local file or folder, and the hub has no {noun} of that name that you can access. "
            "Check the name; if it is private, log in with: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise RequestError(
            f"The {noun} {repo} on the hub has no revision '{revision}'. Name a branch, tag or commit of it."
        ) from None
    except network_errors() as error:
        if (sentence := describe_disk_error(error, Path(constants.HF_HUB_CACHE), AGAIN)) is not None:
            raise BigsError(sentence) from None
        if status_of(error) in (401, 403):
            raise RequestError(
                f"The hub denies access to {at} ({reason_of(error)}). Log in with an account that has access: "
                "hf auth login (HF_TOKEN takes precedence if it is set)."
            ) from None
        if is_offline():
            raise BigsError(
                f"{at} is not in the hub's cache, and HF_HUB_OFFLINE is set. Unset it and run the command once online."
            ) from None
        raise BigsError(
            f"{at} could not be downloaded from {endpoint()} and is not in the cache ({reason_of(error)}). Check the "
            "network and try again, or use local files."
        ) from None
    except (BigsError, FileNotFoundError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # The client could not parse the response.
        raise BigsError(
            f"The server at {endpoint()} is not a hub ({reason_of(error)}), and {at} is not in the cache. A login page "
            "or a proxy may intercept the connection: open that URL in a browser, check HF_ENDPOINT, and try again."
        ) from None


def gated_error(repo: str, noun: str) -> RequestError:
    """Return the error for a repository that requires an access request."""
    return RequestError(
        f"The {noun} {repo} on the hub is gated. Request access on its page, then log in with: hf auth login"
    )


# --- pushing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Destination:
    """Where to push: the repository "owner/name", a branch (None: the default branch), and its visibility."""

    repo: str
    branch: str | None = None
    public: bool = False


def check_destination(to: Destination) -> None:
    """Check, before any work is done, that the repository can be pushed to. Nothing is changed.

    Raises:
        RequestError: the name is invalid, the user is not logged in, or the repository is public and `to` is not.
        BigsError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi, errors
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(to.repo)
        valid = "/" in to.repo
    except errors.HFValidationError:
        valid = False
    if not valid:
        raise RequestError(f"'{to.repo}' is not a valid repository name. Use --push OWNER/NAME.")
    if is_offline():
        raise RequestError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it, or leave out --push.")
    if not is_logged_in():
        raise RequestError(
            "You are not logged in to the hub. Log in with: hf auth login (or set HF_TOKEN to a token with write "
            "access)."
        )
    set_timeouts()
    with _push_errors(to, "Nothing was pushed."):
        api = HfApi()
        api.whoami()
        with contextlib.suppress(errors.RepositoryNotFoundError):  # `push` creates it.
            _check_public(to, private=bool(api.repo_info(to.repo).private))


def push(folder: Path, to: Destination, message: str) -> tuple[str, list[str]]:
    """Push the files of `folder` as one commit. Return the URL of the commit and the names of all files in the branch.

    The repository and the branch are created if they do not exist. A new repository is private unless `to` is public; a
    private one is made public after the upload. Other files in the repository are kept.

    Raises:
        RequestError: the token has no write access, or the repository is public and `to` is not.
        BigsError: the hub cannot be reached, the connection is lost, or the hub rejects the content.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    set_timeouts()
    with _push_errors(to, _manual_push_hint(folder, to)):
        api.create_repo(to.repo, private=not to.public, exist_ok=True)
        private = bool(api.repo_info(to.repo).private)
        _check_public(to, private)
        if to.branch is not None:
            api.create_branch(to.repo, branch=to.branch, exist_ok=True)
        commit = api.upload_folder(repo_id=to.repo, folder_path=folder, revision=to.branch, commit_message=message)
        if to.public and private:
            api.update_repo_settings(to.repo, private=False)
        return str(commit.commit_url), api.list_repo_files(to.repo, revision=to.branch)


def _check_public(to: Destination, private: bool) -> None:
    if not private and not to.public:
        raise RequestError(
            f"{to.repo} is public, so everyone could see the export. Add --public to allow that, or choose another "
            "name. Nothing was pushed."
        )


@contextlib.contextmanager
def _push_errors(to: Destination, then: str) -> Iterator[None]:
    """Convert exceptions of the client while pushing; `then` ends the messages."""
    from huggingface_hub import errors

    try:
        yield
    except errors.BadRequestError as error:
        message = first_line(getattr(error, "server_message", None) or error)
        raise BigsError(f"The hub rejected the upload to {to.repo}: {message}. {then}") from None
    # The client raises RuntimeError for large files and ValueError for invalid cards and responses.
    except (*network_errors(), RuntimeError, ValueError) as error:
        cause, status = error.__cause__ or error, status_of(error)
        if status == 401 and not isinstance(cause, errors.RepositoryNotFoundError):
            raise RequestError(
                f"The hub does not accept your token. Log in again with: hf auth login --force (HF_TOKEN takes "
                f"precedence if it is set). {then}"
            ) from None
        if status in (401, 403, 404):
            raise RequestError(
                f"You have no write access to {to.repo} on the hub (HTTP {status}). Push under your own name, or log "
                f"in with a token that has write access: hf auth login. {then}"
            ) from None
        raise BigsError(f"{to.repo} could not be pushed to {endpoint()} ({reason_of(error)}). {then}") from None


def _manual_push_hint(folder: Path, to: Destination) -> str:
    more = ("" if to.public else " --private") + (f" --revision {to.branch}" if to.branch else "")
    upload = f"hf upload {to.repo} {shlex.quote(str(folder))} .{more}"
    return f"The export is complete in {folder}; push it later with: {upload}"
