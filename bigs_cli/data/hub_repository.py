"""A data set's repository on the Hugging Face hub: whether it may be read, and which configurations it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.hub_client import network_errors, reason_of

if TYPE_CHECKING:
    from datasets import DatasetBuilder
    from huggingface_hub.hf_api import DatasetInfo

_CARDS = ("README.md", ".huggingface.yaml")  # where a data set says what its configurations are
NAMED = 20
"""Configurations, or splits, that a sentence names of those that a data set has."""


def describe(repo: str, revision: str | None) -> DatasetInfo:
    """Return what the hub says of a data set that may be read; its cards are in the cache then.

    Raises:
        RequestError: there is no such data set or revision, no access to it, or it is a program.
        OSError, or another of `network_errors`: the hub failed.
    """
    from huggingface_hub import HfApi, constants, errors, hf_hub_download

    try:
        about = HfApi().dataset_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        names = {file.rfilename for file in about.siblings or ()}
        program = f"{repo.rpartition('/')[2]}.py"
        if program in names:
            raise RequestError(
                f"The hub's data set {repo} is a program ({program}), and programs from the hub are never run. "
                "Name a copy of it in Parquet or JSONL."
            )
        for name in _CARDS:
            if name in names:  # `datasets` would take a card that it cannot fetch for none
                hf_hub_download(repo, name, repo_type="dataset", revision=about.sha)
    except errors.HFValidationError:
        raise RequestError(f"'{repo}' is neither a file or folder here nor a hub id such as owner/name.") from None
    except errors.GatedRepoError:
        raise _gated(repo) from None
    except errors.RepositoryNotFoundError:
        raise RequestError(
            f"{repo} is no file or folder here, and the hub has no data set of that name that you may see. "
            "Check the name; if it is private: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise RequestError(
            f"The hub's data set {repo} has no revision '{revision}'. Name a branch, a tag or a commit of it."
        ) from None
    return about


def builder_of(repo: str, config: str | None, about: DatasetInfo) -> DatasetBuilder:
    """Return what `datasets` makes of a configuration of it; None: the only one, or the one it names as default.

    Raises:
        RequestError: there is no such configuration, several could be meant, or it holds no data.
        OSError, or another of `network_errors`: the hub failed.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    try:
        return datasets.load_dataset_builder(repo, config, revision=about.sha)
    except DatasetNotFoundError:  # It is there, as we know by now.
        raise _gated(repo) from None
    except FileNotFoundError as error:
        _raise_if_unfetched(error)
        raise RequestError(
            f"The hub's data set {repo} holds no data files of a known kind{f' for {config}' if config else ''}. "
            f"Name files of it: hf://datasets/{repo}/…"
        ) from None
    except network_errors():
        raise
    except Exception as error:  # those of YAML among them
        known = _configs(repo, about)
        if config in known or (config is None and len(known) < 2) or not known:
            raise RequestError(
                f"The hub's data set {repo} cannot be used ({reason_of(error)}). Name files of it: "
                f"hf://datasets/{repo}/…"
            ) from error
        problem = f"has no configuration '{config}'" if config else "has several configurations"
        raise RequestError(
            f"The hub's data set {repo} {problem}.{did_you_mean(config or '', known)} "
            f"It has {listed(known, NAMED)}; name one: {repo}:{known[0]}"
        ) from None


def _raise_if_unfetched(error: FileNotFoundError) -> None:
    """Raise what kept the client from a file if that, and not that there is none, became a FileNotFoundError."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, LocalEntryNotFoundError):
            raise behind
        behind = behind.__context__


def _configs(repo: str, about: DatasetInfo) -> list[str]:
    import datasets

    try:
        return datasets.get_dataset_config_names(repo, revision=about.sha)
    except network_errors():
        raise
    except Exception:
        return []


def _gated(repo: str) -> RequestError:
    return RequestError(
        f"The hub's data set {repo} is gated: ask for access on its page, then log in with: hf auth login"
    )
