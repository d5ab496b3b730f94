"""Model repositories on the Hugging Face hub: files fetched into its cache, folders pushed, errors as sentences.

The endpoint, cache folder, token and timeouts are huggingface_hub's (HF_ENDPOINT, HF_HOME, HF_TOKEN, …). Data sets are
in `data/hub.py`, which uses the helpers here.
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

from bigs_cli.core.error_messages import AGAIN, of_disk
from bigs_cli.core.errors import BigsError, RequestError

_Answer = TypeVar("_Answer")

_PROBE_SECONDS = 5.0
_WRITE_SECONDS = 600.0
_RETRY_DELAYS = (1, 2, 4)  # seconds
_COMMIT = re.compile("[0-9a-f]{40}")
_BUSY = (429, 500, 502, 503, 504)


# --- the client -------------------------------------------------------------------------------------------------


def endpoint() -> str:
    """Return the address of the hub."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids every request."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_logged_in() -> bool:
    """Return whether there is a token."""
    from huggingface_hub import get_token

    return get_token() is not None


def hub_answers() -> bool:
    """Return whether anything answers at the hub's address within a few seconds; offline, it is not asked."""
    if is_offline():
        return False
    try:
        request = urllib.request.Request(endpoint(), method="HEAD")
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):  # ValueError: no address at all
        return False


def network_errors() -> tuple[type[Exception], ...]:
    """Return what the client raises when the network or the hub fails, after its own retries."""
    from huggingface_hub import errors

    return OSError, errors.HTTPError  # pyright: ignore[reportPrivateImportUsage] - its HTTP library's; no OSError


def reason_of(error: Exception) -> str:
    """Return an error of the client, or its cause, in a few words."""
    cause, status = error.__cause__ or error, status_of(error)
    return f"HTTP {status}" if status else (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")


def status_of(error: Exception) -> int | None:
    """Return the HTTP status behind an error of the client, None if the hub did not answer."""
    return getattr(getattr(error.__cause__ or error, "response", None), "status_code", None)


def hush_client() -> None:
    """Keep the libraries' warnings and progress bars off the terminal; our messages say what matters of them."""
    import datasets
    from huggingface_hub.utils import disable_progress_bars

    for name in ("datasets", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    disable_progress_bars()


def limit_waiting() -> None:
    """Give every request of the client a time limit: its listings have none, unlike its downloads.

    Reading has the limit of downloads, HF_HUB_DOWNLOAD_TIMEOUT (10 seconds); writing has ten minutes, for the hub
    answers a commit of large files late. The client may be replaced after a failed connection, so call this before
    each use.
    """
    from huggingface_hub import get_session

    hooks = get_session().event_hooks["request"]
    if _limit not in hooks:
        hooks.append(_limit)


def _limit(request: Any) -> None:
    from huggingface_hub import constants

    reads = request.method in ("GET", "HEAD") or "/paths-info/" in request.url.path
    longest = constants.HF_HUB_DOWNLOAD_TIMEOUT if reads else _WRITE_SECONDS
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {kind: limits.get(kind) or longest for kind in ("connect", "read", "write", "pool")}


def retry(ask: Callable[[], _Answer], patience: float = 15.0, after_any_error: bool = False) -> _Answer:
    """Return what `ask` gives, asked again up to three times while the hub is busy or a file arrives cut.

    With `after_any_error`, after every error of the network. The client itself retries some requests; once `patience`
    seconds have passed, nothing is asked again.
    """
    started = time.monotonic()
    for delay in _RETRY_DELAYS:
        limit_waiting()
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
    """Return the folder in the cache with the files of `repo` that match `patterns`; a `kind` is "model" or "dataset".

    Only files that the cache lacks are fetched. Without a network, the cached copy is used.

    Raises:
        RequestError: there is no such repository or revision, or no access to it.
        BigsError: the hub cannot be reached, and the cache does not hold it.
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
    """Return the first of the files called `names` that the model's repository has, fetched; None if it has none.

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
            except errors.LocalEntryNotFoundError as error:  # not in the cache, and the hub does not answer or refuses
                unreached = unreached or error
            except errors.EntryNotFoundError:
                continue
        if unreached is not None:
            raise unreached
    return None


def _or_cached(ask: Callable[..., Path]) -> Path:
    """Return what `ask` gives; if what answers is no hub, the copy in the cache."""
    try:
        return retry(ask)
    except (TypeError, LookupError, AttributeError, json.JSONDecodeError):
        with contextlib.suppress(*network_errors()):
            return ask(True)
        raise


@contextlib.contextmanager
def read_errors(repo: str, revision: str | None, noun: str) -> Iterator[None]:
    """Turn what the client raises while it reads a repository, a `noun`, into sentences.

    Raises:
        RequestError, BigsError: as `fetch_files`.
    """
    from huggingface_hub import constants, errors

    at = f"{repo}@{revision}" if revision and not _COMMIT.fullmatch(revision) else repo
    try:
        yield
    except errors.HFValidationError:
        raise RequestError(f"'{repo}' is neither a file or folder here nor a hub id such as owner/name.") from None
    except errors.GatedRepoError:
        raise gated(at, noun) from None
    except errors.RepositoryNotFoundError:
        raise RequestError(
            f"{repo} is no file or folder here, and the hub has no {noun} of that name that you may see. "
            "Check the name; if it is private: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise RequestError(
            f"The hub's {noun} {repo} has no revision '{revision}'. Name a branch, a tag or a commit of it."
        ) from None
    except network_errors() as error:
        if (sentence := of_disk(error, Path(constants.HF_HUB_CACHE), AGAIN)) is not None:
            raise BigsError(sentence) from None
        if status_of(error) in (401, 403):
            raise RequestError(
                f"The hub does not let you read {at} ({reason_of(error)}). Log in with an account that may: "
                "hf auth login (HF_TOKEN, where it is set, comes first)."
            ) from None
        if is_offline():
            raise BigsError(
                f"{at} is not in the hub's cache, and HF_HUB_OFFLINE is set. Unset it and run this once online."
            ) from None
        raise BigsError(
            f"{at} could not be fetched from {endpoint()}, and the cache does not hold it ({reason_of(error)}). Check "
            "the network and try again, or name files that are on this machine."
        ) from None
    except (BigsError, FileNotFoundError):
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # as the client reads an answer
        raise BigsError(
            f"What answers at {endpoint()} is no hub ({reason_of(error)}), and the cache does not hold {at}. A "
            "login page or a proxy may stand in the way: open that address in a browser, check HF_ENDPOINT, and try "
            "again."
        ) from None


def gated(repo: str, noun: str) -> RequestError:
    """Return the error for a repository that must be asked for."""
    return RequestError(
        f"The hub's {noun} {repo} is gated: ask for access on its page, then log in with: hf auth login"
    )


# --- pushing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Destination:
    """Where to push: the repository "owner/name", a branch of it (None: its main one), and who is to see it."""

    repo: str
    branch: str | None = None
    public: bool = False


def check_destination(to: Destination) -> None:
    """Ask the hub, before any work is done, whether we can push there. Nothing is changed.

    Raises:
        RequestError: the name is invalid, there is no login, or the repository is public and `to` is not.
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
        raise RequestError(f"'{to.repo}' is no name of a repository on the hub: --push takes owner/name.")
    if is_offline():
        raise RequestError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it, or leave out --push.")
    if not is_logged_in():
        raise RequestError(
            "You are not logged in to the hub. Log in with: hf auth login (or set HF_TOKEN to a token that may write)."
        )
    limit_waiting()
    with _push_errors(to, "Nothing was pushed."):
        api = HfApi()
        api.whoami()
        with contextlib.suppress(errors.RepositoryNotFoundError):  # It is made when there is something to push.
            _refuse_public(to, private=bool(api.repo_info(to.repo).private))


def push(folder: Path, to: Destination, message: str) -> tuple[str, list[str]]:
    """Push the files of `folder` as one commit. Return the commit's address and the names of all files there.

    The repository and the branch are created if need be. A new repository is private unless `to` is public; a private
    one becomes public once everything is there. Files that the repository held under other names stay.

    Raises:
        RequestError: the token does not allow it, or the repository is public and `to` is not.
        BigsError: the hub cannot be reached, breaks off, or refuses the content.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    limit_waiting()
    with _push_errors(to, _by_hand(folder, to)):
        api.create_repo(to.repo, private=not to.public, exist_ok=True)
        private = bool(api.repo_info(to.repo).private)
        _refuse_public(to, private)
        if to.branch is not None:
            api.create_branch(to.repo, branch=to.branch, exist_ok=True)
        commit = api.upload_folder(repo_id=to.repo, folder_path=folder, revision=to.branch, commit_message=message)
        if to.public and private:
            api.update_repo_settings(to.repo, private=False)
        return str(commit.commit_url), api.list_repo_files(to.repo, revision=to.branch)


def _refuse_public(to: Destination, private: bool) -> None:
    if not private and not to.public:
        raise RequestError(
            f"{to.repo} is public: everyone will see what is pushed there. If they may, add --public; if not, choose "
            "another name. Nothing was pushed."
        )


@contextlib.contextmanager
def _push_errors(to: Destination, then: str) -> Iterator[None]:
    """Turn the client's errors into sentences that end with what to do `then`."""
    from huggingface_hub import errors

    try:
        yield
    except errors.BadRequestError as error:
        message = str(getattr(error, "server_message", None) or error).strip().splitlines()[0].rstrip(".")
        raise BigsError(f"The hub refuses this for {to.repo}: {message}. {then}") from None
    # RuntimeError: the parts of the client that move large files; ValueError: an invalid card, and answers that make
    # no sense.
    except (*network_errors(), RuntimeError, ValueError) as error:
        cause, status = error.__cause__ or error, status_of(error)
        if status == 401 and not isinstance(cause, errors.RepositoryNotFoundError):
            raise RequestError(
                f"The hub does not know your token. Log in again with: hf auth login --force (HF_TOKEN, where it is "
                f"set, comes first). {then}"
            ) from None
        if status in (401, 403, 404):
            raise RequestError(
                f"You may not write to {to.repo} on the hub (HTTP {status}). Push under your own name, or log in with "
                f"a token that may write there: hf auth login. {then}"
            ) from None
        raise BigsError(f"{to.repo} could not be pushed to {endpoint()} ({reason_of(error)}). {then}") from None


def _by_hand(folder: Path, to: Destination) -> str:
    more = ("" if to.public else " --private") + (f" --revision {to.branch}" if to.branch else "")
    upload = f"hf upload {to.repo} {shlex.quote(str(folder))} .{more}"
    return f"The export itself is whole, in {folder}; to push it later: {upload}"
