"""Data sets on the Hugging Face hub as text sources: streamed, never whole in memory or on disk."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.corpus import checked_text, find_text_column

_PROBE_SECONDS = 5.0


def read_hub_documents(repo: str, config: str | None, text_column: str | None) -> Iterator[str]:
    """Yield the texts of the train split of a data set. The hub is the one `HF_ENDPOINT` names.

    Raises:
        RequestError: there is no such data set or configuration, or no such column.
        BigsError: the hub cannot be reached, or breaks off.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import constants

    name = f"{repo}:{config}" if config else repo
    if not hub_answers():  # `datasets` would go on trying for half a minute
        raise BigsError(
            f"{name} is no file or folder here, and the hub ({constants.ENDPOINT}) cannot be reached to look for "
            "it there. Check the network and try again, or name text that is on this machine."
        )
    try:
        table = datasets.load_dataset(repo, config, split="train", streaming=True)
    except (DatasetNotFoundError, FileNotFoundError):
        raise RequestError(
            f"{repo} is no file or folder here, and the hub has no data set of that name that you may see."
        ) from None
    except ValueError as error:
        raise RequestError(f"The hub's data set {name} cannot be used: {error}") from None
    found: str | None = None
    try:
        for number, row in enumerate(table, start=1):
            if found is None:
                strings = [column for column, value in row.items() if isinstance(value, str)]
                found = find_text_column(list(row), strings, text_column, name)
            yield checked_text(row[found], found, f"{name}, row {number}")
    except OSError as error:
        raise BigsError(f"Reading {name} from {constants.ENDPOINT} broke off ({error}). Try again.") from None


def hub_answers() -> bool:
    """Say whether anything answers at the hub's address, within a few seconds."""
    from huggingface_hub import constants

    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):  # ValueError: no address at all
        return False
