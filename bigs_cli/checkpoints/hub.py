"""Models on the Hugging Face hub: fetched into its cache, only the files that are read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from bigs_cli.checkpoints.folder import CONFIG, TOKENIZER_CONFIG, TOKENIZER_FILES
from bigs_cli.checkpoints.weights import candidates, missing_parts, needed, parts
from bigs_cli.core.error_messages import AGAIN, of_disk
from bigs_cli.core.errors import BigsError, RequestError, listed
from bigs_cli.core.hub_client import arriving, limit_waiting, network_errors, patiently, reason_of, status_of

PUBLISHED_TOKENIZER = "google-bert/bert-large-uncased"
"""The tokenizer of the published models, for their repositories that hold none."""


def fetch_model(repo_id: str, revision: str | None = None, form: str | None = None) -> Path:
    """Return the folder in the hub's cache with the config, the tokenizer and the weights of `repo_id`.

    The weights are one file, or an index and the shards it names: of the format named `form` if given, else of the
    preferred one there. What the cache holds is not fetched again. Without a network, or with HF_HUB_OFFLINE=1, the
    cached copy is used. The endpoint, cache folder, token and timeouts are huggingface_hub's (HF_ENDPOINT, HF_HOME,
    HF_TOKEN, …).

    Raises:
        RequestError: there is no such model, revision or format, no access to it, or a shard is not there.
        BigsError: the hub cannot be reached, or breaks off.
    """
    from huggingface_hub import constants, errors

    at = f"{repo_id}@{revision}" if revision else repo_id
    wanted = candidates(form)
    limit_waiting()
    try:
        folder = _fetched(repo_id, revision, wanted)
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
    except network_errors() as error:
        if (sentence := of_disk(error, Path(constants.HF_HUB_CACHE), AGAIN)) is not None:
            raise BigsError(sentence) from None
        if status_of(error) in (401, 403):
            raise RequestError(
                f"The hub does not let you read {at} ({reason_of(error)}). Log in with an account that may: "
                "hf auth login (HF_TOKEN, where it is set, comes first)."
            ) from None
        raise _unreachable(at, error) from None
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # as the client reads an answer
        raise BigsError(
            f"What answers at {constants.ENDPOINT} is no hub ({reason_of(error)}), and the cache does not hold {at}. A "
            "login page or a proxy may stand in the way: open that address in a browser, check HF_ENDPOINT, and try "
            "again."
        ) from None
    if folder is None:
        raise RequestError(
            f"{at} on the hub holds no weights{f' in the format {form}' if form else ''}. {needed(form)}"
        )
    return folder


def _fetched(repo_id: str, revision: str | None, wanted: list[str]) -> Path | None:
    """Return what `_fetch` does, the hub's moods borne with; if it talks nonsense, the copy in the cache, if any."""

    def ask() -> Path | None:
        with arriving(repo_id):
            return _fetch(repo_id, revision, wanted)

    try:
        return patiently(ask)
    except (TypeError, LookupError, AttributeError, json.JSONDecodeError):
        with contextlib.suppress(*network_errors()):
            return _fetch(repo_id, revision, wanted, here_only=True)
        raise


def _fetch(repo_id: str, revision: str | None, wanted: list[str], here_only: bool = False) -> Path | None:
    """Return the folder with the files of the model, None if it has none of the `wanted`; the client's errors pass."""
    from huggingface_hub import errors, hf_hub_download, snapshot_download

    small = [CONFIG, *TOKENIZER_FILES, TOKENIZER_CONFIG]
    folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=small, local_files_only=here_only))
    if any((folder / name).is_file() and not missing_parts(folder / name) for name in wanted):
        return folder
    unreached: Exception | None = errors.LocalEntryNotFoundError("it was not asked for") if here_only else None
    for name in wanted:
        try:
            hf_hub_download(repo_id, name, revision=folder.name, local_files_only=unreached is not None)
        except errors.LocalEntryNotFoundError as error:  # not in the cache, and the hub gives no answer or a refusal
            unreached = unreached or error
        except errors.EntryNotFoundError:
            continue
        else:
            _fetch_parts(repo_id, folder / name)
            return folder
    if unreached is not None:
        raise unreached
    return None


def _fetch_parts(repo_id: str, source: Path) -> None:
    """Fetch the shards that the index at `source` names, several at a time; a whole file has none."""
    from huggingface_hub import snapshot_download

    if missing_parts(source):
        snapshot_download(repo_id, revision=source.parent.name, allow_patterns=parts(source))
    if missing := missing_parts(source):
        raise RequestError(
            f"{repo_id} on the hub lacks shards that its {source.name} names: {listed(missing)}. "
            "Tell its owner, or choose another format with --from-format."
        )


def _unreachable(at: str, error: Exception) -> BigsError:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return BigsError(
            f"{at} is not in the hub's cache, and HF_HUB_OFFLINE is set. Unset it and run this once online."
        )
    return BigsError(
        f"{at} could not be fetched from {constants.ENDPOINT}, and the cache does not hold it ({reason_of(error)}). "
        "Check the network and try again, or give a folder with its files."
    )
