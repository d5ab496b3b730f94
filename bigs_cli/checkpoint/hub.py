"""Models on the Hugging Face hub: fetched into its cache, only the files that are read."""

from __future__ import annotations

from pathlib import Path

from bigs_cli.checkpoint.folder import CONFIG, TOKENIZER_FILES, WEIGHTS
from bigs_cli.core.errors import BigsError, RequestError

PUBLISHED_TOKENIZER = "google-bert/bert-large-uncased"
"""The tokenizer of the published models, for their repositories that hold none."""


def fetch_model(repo_id: str, revision: str | None = None) -> Path:
    """Return the folder in the hub's cache with the config, the tokenizer and one weights file of `repo_id`.

    What the cache holds is not fetched again. Without a network, or with HF_HUB_OFFLINE=1, the cached copy is
    used. The endpoint, cache folder, token and timeouts are huggingface_hub's (HF_ENDPOINT, HF_HOME,
    HF_TOKEN, …). Raises RequestError when there is no such model, or access to it, and BigsError when the hub
    cannot be reached.
    """
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    at = f"{repo_id}@{revision}" if revision else repo_id
    unreached: Exception | None = None
    try:
        small_files = [CONFIG, *TOKENIZER_FILES]
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=small_files))
        if any((folder / name).is_file() for name in WEIGHTS):
            return folder
        for name in WEIGHTS:
            try:
                hf_hub_download(repo_id, name, revision=folder.name)
            except errors.LocalEntryNotFoundError as error:  # not in the cache, and the hub does not answer
                unreached = error
            except errors.EntryNotFoundError:
                continue
            else:
                return folder
    except errors.HFValidationError:
        raise RequestError(f"'{repo_id}' is neither a folder here nor a hub id such as 'user/name'.") from None
    except errors.GatedRepoError:
        raise RequestError(
            f"{at} is gated: ask for access on its page on the hub, then log in with: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise RequestError(
            f"The hub has no model {repo_id} you may see. Check the name; if it is private: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise RequestError(f"{repo_id} has no revision '{revision}'. Name a branch, a tag or a commit of it.") from None
    except (OSError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage] - its HTTP library's
        unreached = error
    if unreached is not None:
        raise _unreachable(at, unreached) from None
    raise RequestError(f"{at} on the hub holds no weights. One of these is needed: {', '.join(WEIGHTS)}.")


def _unreachable(at: str, error: Exception) -> BigsError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return BigsError(
            f"{at} is not in the hub's cache, and HF_HUB_OFFLINE is set. Unset it and run this once online."
        )
    why = str(error.__cause__ or error).strip().split("\n")[0] or type(error).__name__
    return BigsError(
        f"{at} could not be fetched from {constants.ENDPOINT}, and the cache does not hold it ({why}). "
        "Check the network and try again, or give a folder with its files."
    )
