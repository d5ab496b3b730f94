"""Data sets on the Hugging Face hub as text sources: streamed, never whole in memory or on disk.

`datasets` says which files a configuration and a split consist of. Parquet, and files of a row a line, are read by
our own readers: so a damaged record is told by its place and costs no other, and a Parquet file is left out unread
(`IterableDataset.skip` fetches all that it skips). Every other kind, such as CSV, archives and JSON arrays, is
streamed by `datasets`. Only data is ever read: a repository that is a program is refused.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from bigs_cli.core.errors import BigsError, RequestError, did_you_mean, listed
from bigs_cli.core.files import parse_json
from bigs_cli.core.hub_client import hub_answers, hush_client, limit_waiting, network_errors, reason_of
from bigs_cli.data.documents import BadRecord, Documents, find_text_column, text_of
from bigs_cli.data.files import TextFile
from bigs_cli.data.hub_repository import NAMED, builder_of, describe
from bigs_cli.data.parquet import count_rows
from bigs_cli.data.readers import ReadOptions, read_file, reader_of

if TYPE_CHECKING:
    from datasets import DatasetBuilder, IterableDataset

TRAIN = "train"

_LINED = (".jsonl", ".ndjson", ".json", ".txt")

# The client tries a request for bytes six times within two minutes. Not so all that finding a data set takes, which is
# therefore begun anew after so many seconds; but not any more once a minute has passed.
_WAITS = (1, 2, 4)
_PATIENCE = 60.0
_STREAM_TRIES = 2  # of `datasets`, each with the client's six. Its own twenty would be half an hour of silence.


@dataclass(frozen=True)
class HubSplit:
    """One split of a data set, as it is at one commit."""

    name: str
    """`owner/name:config:split`."""
    split: str
    commit: str
    files: list[TextFile]
    """What it consists of, in the order of its rows; empty if only `datasets` can make rows of it."""
    builder: DatasetBuilder


class _HubFile(TextFile):
    def unreadable(self, error: Exception) -> BadRecord:
        """Let the errors of the client pass, which `read_hub_split` words; the rest as of any file."""
        if hasattr(error, "response"):
            raise error
        return super().unreadable(error)


def read_hub_split(found: HubSplit, text_column: str | None, skip: int = 0) -> Documents:
    """Yield the text of each row of a split but the first `skip`, or what is wrong with the row.

    Of Parquet, what is left out costs one or two requests a file; of anything else, it is fetched and dropped.

    Raises:
        RequestError: there is no such column, or the data set cannot be read.
        BigsError: the hub broke off.
    """
    try:
        if found.files:
            yield from _read_files(found.files, ReadOptions(text_column, text_documents="line"), skip)
        else:
            yield from _read_rows(found, text_column, skip)
    except network_errors() as error:
        from huggingface_hub import constants

        raise BigsError(
            f"Reading {found.name} from {constants.ENDPOINT} broke off ({reason_of(error)}). "
            "Check the network and try again."
        ) from error


def find_hub_split(repo: str, config: str | None, split: str | None, revision: str | None = None) -> HubSplit:
    """Find out what a split ("train" if None) consists of; none of its rows is read.

    The hub is the one `HF_ENDPOINT` names. Without a `revision`, it is the newest one.

    Raises:
        RequestError: there is no such data set, revision, configuration or split, or no access to it.
        BigsError: the hub cannot be reached.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise BigsError(
            f"{repo} is no file or folder here, and HF_HUB_OFFLINE is set. Unset it to stream a data set from the hub."
        )
    if not hub_answers():
        raise BigsError(
            f"{repo} is no file or folder here, and the hub ({constants.ENDPOINT}) cannot be reached to look for "
            "it there. Check the network and try again, or name text that is on this machine."
        )
    hush_client()
    started = time.monotonic()
    waits = iter(_WAITS)
    while True:
        limit_waiting()
        try:
            return _find(repo, config, split or TRAIN, revision)
        except network_errors() as error:
            wait = next(waits, None)
            if wait is None or time.monotonic() - started > _PATIENCE:
                raise BigsError(
                    f"The hub ({constants.ENDPOINT}) does not say what {repo} consists of ({reason_of(error)}). "
                    "Check the network and try again."
                ) from error
            time.sleep(wait)


def _find(repo: str, config: str | None, split: str, revision: str | None) -> HubSplit:
    import fsspec

    about = describe(repo, revision)
    builder = builder_of(repo, config, about)
    name = f"{repo}:{builder.config.name}"
    addresses = {str(known): found for known, found in (builder.config.data_files or {}).items()}
    if split not in addresses:
        raise RequestError(
            f"The hub's data set {name} has no split '{split}'.{did_you_mean(split, addresses)} "
            f"It has {listed(addresses, NAMED)}; name one: {name}:{next(iter(addresses), TRAIN)}"
        )
    files: list[TextFile] = []
    for address in addresses[split]:
        system, path = fsspec.url_to_fs(address)
        files.append(_HubFile(system, path, address.replace(f"@{about.sha}", "")))
    ours = _readable(files, builder)
    return HubSplit(f"{name}:{split}", split, about.sha or "", files if ours else [], builder)


def _readable(files: Sequence[TextFile], builder: DatasetBuilder) -> bool:
    """Whether our readers make the rows of it that the hub shows."""
    if all(file.suffix == ".parquet" and reader_of(file) for file in files):
        return True
    options = (getattr(builder.config, "field", None), getattr(builder.config, "sample_by", "line"))
    if options != (None, "line") or not all(file.suffix in _LINED for file in files):
        return False
    if files[0].suffix != ".json":
        return True
    first = next((line for _, line in files[0].lines() if isinstance(line, BadRecord) or line.strip()), "{}")
    try:  # `.json` is one array or object over many lines, or one object a line
        return isinstance(first, str) and isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _read_files(files: Sequence[TextFile], how: ReadOptions, skip: int) -> Documents:
    for file in files:
        limit_waiting()
        if skip and file.suffix == ".parquet":
            rows = count_rows(file)
            if rows > skip:
                yield from read_file(file, how, skip)
            skip = max(0, skip - rows)
        else:
            for document in read_file(file, how):
                if skip:
                    skip -= 1
                else:
                    yield document


def _read_rows(found: HubSplit, text_column: str | None, skip: int) -> Documents:
    from datasets import config

    config.STREAMING_OPEN_MAX_RETRIES = config.STREAMING_READ_MAX_RETRIES = _STREAM_TRIES
    column: str | None = None
    try:
        rows = cast("IterableDataset", found.builder.as_streaming_dataset(found.split))
        for number, row in enumerate(rows.skip(skip), start=skip + 1):
            if column is None:
                strings = [name for name, value in row.items() if isinstance(value, str)]
                column = find_text_column(list(row), strings, text_column, found.name)
            yield text_of(row[column], column, f"{found.name}, row {number}")
    except (BigsError, *network_errors()):
        raise
    except Exception as error:  # each kind of file has a library with errors of its own
        raise RequestError(f"The hub's data set {found.name} cannot be read ({reason_of(error)}).") from error
