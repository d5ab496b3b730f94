"""An exported folder to a repository on the Hugging Face hub: who may is asked first, what is pushed was checked."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bigs_cli.checkpoints.weights import INDEX, WEIGHTS
from bigs_cli.core.errors import BigsError, RequestError, listed
from bigs_cli.core.hub_client import limit_waiting, network_errors, reason_of, status_of


@dataclass(frozen=True)
class Destination:
    """Where to push: the repository "owner/name", a branch of it (None: its main one), and who is to see it."""

    repo: str
    branch: str | None = None
    public: bool = False


@dataclass(frozen=True)
class Pushed:
    """What the hub has now: the page of the commit, and what its owner should know."""

    page: str
    notes: tuple[str, ...] = ()


def destination(repo: str | None, branch: str | None, public: bool) -> Destination | None:
    """Return where the options of a command say to push to, None for nowhere.

    Raises:
        RequestError: a branch or `public` is given, and no repository.
    """
    if repo is not None:
        return Destination(repo, branch, public)
    if branch is not None or public:
        raise RequestError(f"{'--public' if public else '--revision'} says how to push: add --push owner/name.")
    return None


def check_destination(to: Destination) -> None:
    """Ask the hub, before any work is done, whether we can push there. Nothing is changed.

    Raises:
        RequestError: the name is none, there is no login, or the repository is public and `to` is not.
        BigsError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants, errors, get_token
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(to.repo)
        whole = "/" in to.repo
    except errors.HFValidationError:
        whole = False
    if not whole:
        raise RequestError(f"'{to.repo}' is no name of a repository on the hub: --push takes owner/name.")
    if constants.HF_HUB_OFFLINE:
        raise RequestError("HF_HUB_OFFLINE is set, so nothing can be pushed. Unset it, or leave out --push.")
    if get_token() is None:
        raise RequestError(
            "You are not logged in to the hub. Log in with: hf auth login (or set HF_TOKEN to a token that may write)."
        )
    limit_waiting()
    with _told(to, "Nothing was pushed."):
        api = HfApi()
        api.whoami()
        with contextlib.suppress(errors.RepositoryNotFoundError):  # It is made when there is something to push.
            _refuse_onlookers(to, private=bool(api.repo_info(to.repo).private))


def push(folder: Path, to: Destination, message: str) -> Pushed:
    """Push the files of `folder` as one commit with this `message`; the repository and the branch are made if need be.

    A new repository is private unless `to` is public; one that was private becomes public after all is there. Files
    that the repository held under other names stay.

    Raises:
        RequestError: the token does not allow it, or the repository is public and `to` is not.
        BigsError: the hub cannot be reached, breaks off, or refuses the content.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    limit_waiting()
    with _told(to, _by_hand(folder, to)):
        api.create_repo(to.repo, private=not to.public, exist_ok=True)
        private = bool(api.repo_info(to.repo).private)
        _refuse_onlookers(to, private)
        if to.branch is not None:
            api.create_branch(to.repo, branch=to.branch, exist_ok=True)
        commit = api.upload_folder(repo_id=to.repo, folder_path=folder, revision=to.branch, commit_message=message)
        if to.public and private:
            api.update_repo_settings(to.repo, private=False)
        ours = {path.name for path in folder.iterdir()}
        there = api.list_repo_files(to.repo, revision=to.branch)
    others = [name for name in there if name.removesuffix(INDEX) in WEIGHTS and name not in ours]
    branch = f" --revision {to.branch}" if to.branch else ""
    note = (
        f"{to.repo} also holds {listed(others)} from before, which a reader may prefer. If it is of another model: "
        f"hf repos delete-files {to.repo} {' '.join(others)}{branch}"
    )
    return Pushed(str(commit.commit_url), (note,) if others else ())


def _refuse_onlookers(to: Destination, private: bool) -> None:
    if not private and not to.public:
        raise RequestError(
            f"{to.repo} is public: everyone will see what is pushed there. If they may, add --public; if not, choose "
            "another name. Nothing was pushed."
        )


@contextlib.contextmanager
def _told(to: Destination, then: str) -> Iterator[None]:
    """Turn the client's errors into sentences that end with what to do `then`."""
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.BadRequestError as error:
        raise BigsError(f"The hub refuses this for {to.repo}: {_said(error)}. {then}") from None
    # RuntimeError: the parts of the client that move large files; ValueError: a card that is not valid, and answers
    # that make no sense.
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
        raise BigsError(f"{to.repo} could not be pushed to {constants.ENDPOINT} ({reason_of(error)}). {then}") from None


def _said(error: Exception) -> str:
    server = getattr(error, "server_message", None)
    return str(server or error).strip().splitlines()[0].rstrip(".")


def _by_hand(folder: Path, to: Destination) -> str:
    more = ("" if to.public else " --private") + (f" --revision {to.branch}" if to.branch else "")
    upload = f"hf upload {to.repo} {shlex.quote(str(folder))} .{more}"
    return f"The export itself is whole, in {folder}; to push it later: {upload}"
