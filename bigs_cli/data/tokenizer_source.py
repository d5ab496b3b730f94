"""Where a tokenizer lies: in a file, a folder, or a model's repository on the Hugging Face hub."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from bigs_cli.core.error_messages import AGAIN, of_disk
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.core.folders import check_link
from bigs_cli.core.hub_client import arriving, hub_answers, patiently, reason_of, status_of
from bigs_cli.core.paths import refuse_address
from bigs_cli.data.tokenizer_config import TOKENIZER_CONFIG

TOKENIZER_JSON = "tokenizer.json"
VOCAB_TXT = "vocab.txt"


def find_tokenizer(source: str | Path) -> Path:
    """Return the `tokenizer.json` or `vocab.txt` that `source` means: that file, one in that folder, or at that hub id.

    What the hub has is fetched into its cache; what that holds is used without a network too.

    Raises:
        RequestError: there is none, or `source` is an address.
        BigsError: the hub cannot be reached, or the disk of its cache failed.
    """
    refuse_address(source)
    path = Path(source)
    check_link(path)
    if path.is_dir():
        for name in (TOKENIZER_JSON, VOCAB_TXT):
            if (path / name).is_file():
                return path / name
        raise RequestError(f"The folder {path} holds no tokenizer: neither {TOKENIZER_JSON} nor {VOCAB_TXT}.")
    if path.is_file():
        return path
    if path.is_absolute() or path.suffix in (".json", ".txt") or str(source).count("/") > 1:
        raise RequestError(f"There is no vocabulary {path}. Name a {VOCAB_TXT}, a {TOKENIZER_JSON} or a hub id.")
    return _fetch(str(source))


def _fetch_config(ask: Callable[[], Path], unreached: bool) -> None:
    """Fetch the settings of a vocab.txt, if there are some: in the repository, or, `unreached`, in the cache."""
    from huggingface_hub import errors

    try:
        patiently(ask)
    except errors.LocalEntryNotFoundError:
        if not unreached:
            raise
    except errors.EntryNotFoundError:
        return


def _fetch(repo_id: str) -> Path:
    from huggingface_hub import constants, errors, hf_hub_download

    offline = not hub_answers()  # else the library goes on trying for half a minute
    missing: errors.EntryNotFoundError | None = None

    def ask(name: str) -> Path:
        here_only = offline or isinstance(missing, errors.LocalEntryNotFoundError)
        with arriving(repo_id):
            return Path(hf_hub_download(repo_id, name, local_files_only=here_only))

    try:
        for name in (TOKENIZER_JSON, VOCAB_TXT):
            try:
                found = patiently(functools.partial(ask, name))
                if name == VOCAB_TXT:
                    unreached = offline or isinstance(missing, errors.LocalEntryNotFoundError)
                    _fetch_config(functools.partial(ask, TOKENIZER_CONFIG), unreached)
            except errors.EntryNotFoundError as error:
                missing = missing if isinstance(missing, errors.LocalEntryNotFoundError) else error
            else:
                return found
        assert missing is not None
        raise missing
    except (errors.HFValidationError, errors.RepositoryNotFoundError):
        raise RequestError(
            f"'{repo_id}' is no file or folder here, and the hub has no model of that name that you may see. "
            f"Name a {VOCAB_TXT}, a {TOKENIZER_JSON}, a folder, or a hub id such as google-bert/bert-base-uncased."
        ) from None
    except errors.LocalEntryNotFoundError as error:
        why = f" (HTTP {status})" if (status := status_of(error)) else ""
        hindrance, remedy = f"{constants.ENDPOINT} cannot be reached{why}", "Check the network and try again"
        if constants.HF_HUB_OFFLINE:
            hindrance, remedy = "HF_HUB_OFFLINE is set", "Unset it"
        raise BigsError(
            f"The tokenizer of {repo_id} is not in the hub's cache, and {hindrance}. "
            f"{remedy}, or pass a {VOCAB_TXT} or {TOKENIZER_JSON} that is here."
        ) from None
    except errors.EntryNotFoundError:
        raise RequestError(f"{repo_id} on the hub has neither {TOKENIZER_JSON} nor {VOCAB_TXT}.") from None
    except (OSError, errors.HfHubHTTPError) as error:
        if (sentence := of_disk(error, None, AGAIN)) is not None:
            raise BigsError(sentence) from None
        raise BigsError(
            f"The tokenizer of {repo_id} could not be fetched from {constants.ENDPOINT} ({reason_of(error)}). Check "
            f"the network and try again, or pass a {VOCAB_TXT} or {TOKENIZER_JSON} that is here."
        ) from None
