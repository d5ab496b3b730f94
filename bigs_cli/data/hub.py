"""Data sets on the Hugging Face hub as text sources. They are streamed, and never stored as a whole.

`datasets` determines the files of a configuration and a split. Our own readers read Parquet and files with one row per
line. They report the position of a corrupt record and continue after it, and they can skip a Parquet file without
reading it (`IterableDataset.skip` downloads all that it skips). Other formats, such as CSV, archives and JSON arrays,
are streamed by `datasets`. Only data is read: a data set with a loading script is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bigs_cli.core.error_messages import translate_error
from bigs_cli.core.errors import BigsError, RequestError, did_you_mean, first_line, listed
from bigs_cli.core.files import parse_json
from bigs_cli.core.hub import (
    endpoint,
    gated_error,
    hub_answers,
    is_offline,
    network_errors,
    read_errors,
    reason_of,
    retry,
    set_timeouts,
    silence_client,
)
from bigs_cli.core.paths import plain_path
from bigs_cli.data.documents import BadRecord, Documents, find_text_column, text_of
from bigs_cli.data.files import TextFile
from bigs_cli.data.parquet import count_rows
from bigs_cli.data.readers import ReadOptions, read_file, reader_of

if TYPE_CHECKING:
    from datasets import Dataset, DatasetBuilder, IterableDataset
    from huggingface_hub.hf_api import DatasetInfo

TRAIN = "train"

_CARDS = ("README.md", ".huggingface.yaml")  # the files in which a data set declares its configurations
NAMED = 20
"""Maximum number of configurations or splits of a data set that a message lists."""
_LINED = (".jsonl", ".ndjson", ".json", ".txt")

_PATIENCE = 60.0  # seconds
_STREAM_TRIES = 2  # tries of `datasets`, each with six of the client; the default of 20 would take half an hour


@dataclass(frozen=True)
class HubSplit:
    """One split of a data set at a commit."""

    name: str
    """`owner/name:config:split`."""
    split: str
    commit: str
    files: list[TextFile]
    """The files of the split, in the order of its rows; empty if only `datasets` can read them."""
    builder: DatasetBuilder


class _HubFile(TextFile):
    def read_error(self, error: Exception) -> BadRecord:
        """Re-raise exceptions of the client, which `read_hub_split` converts; treat others as for any file."""
        if hasattr(error, "response"):
            raise error
        return super().read_error(error)


def read_hub_split(found: HubSplit, text_column: str | None, skip: int = 0) -> Documents:
    """Yield the text of each row of a split after the first `skip`, or a bad record.

    Skipping takes one or two requests per Parquet file; in other formats, skipped rows are downloaded and dropped.

    Raises:
        RequestError: there is no such column, or the data set cannot be read.
        BigsError: the connection to the hub was lost.
    """
    try:
        if found.files:
            yield from _read_files(found.files, ReadOptions(text_column, text_documents="line"), skip)
        else:
            yield from _read_rows(found, text_column, skip)
    except network_errors() as error:
        raise BigsError(
            f"The connection to {endpoint()} was lost while reading {found.name} ({reason_of(error)}). Check the "
            "network and try again."
        ) from error


def find_hub_split(repo: str, config: str | None, split: str | None, revision: str | None = None) -> HubSplit:
    """Find the files of a split ("train" if None); no row is read.

    The hub is that of `HF_ENDPOINT`. Without a `revision`, the newest one is used.

    Raises:
        RequestError: the data set, revision, configuration or split does not exist or is not accessible.
        BigsError: the hub cannot be reached.
    """
    if is_offline():
        raise BigsError(
            f"{repo} is not a local file or folder, and HF_HUB_OFFLINE is set. Unset it to stream a data set from the "
            "hub."
        )
    if not hub_answers():
        raise BigsError(
            f"{repo} is not a local file or folder, and the hub ({endpoint()}) cannot be reached. Check the network "
            "and try again, or name local text."
        )
    silence_client()
    with read_errors(repo, revision, "data set"):
        # The client retries downloads, but not all requests for finding a data set.
        return retry(lambda: _find(repo, config, split or TRAIN, revision), _PATIENCE, after_any_error=True)


def _find(repo: str, config: str | None, split: str, revision: str | None) -> HubSplit:
    import fsspec

    info = _describe(repo, revision)
    builder = _builder_of(repo, config, info)
    name = f"{repo}:{builder.config.name}"
    addresses = {str(known): found for known, found in (builder.config.data_files or {}).items()}
    if split not in addresses:
        raise RequestError(
            f"The data set {name} on the hub has no split '{split}'.{did_you_mean(split, addresses)} "
            f"It has {listed(addresses, NAMED)}; name one: {name}:{next(iter(addresses), TRAIN)}"
        )
    files: list[TextFile] = []
    for address in addresses[split]:
        system, path = fsspec.url_to_fs(address)
        files.append(_HubFile(system, path, address.replace(f"@{info.sha}", "")))
    ours = _readable(files, builder)
    return HubSplit(f"{name}:{split}", split, info.sha or "", files if ours else [], builder)


def _readable(files: Sequence[TextFile], builder: DatasetBuilder) -> bool:
    """Return whether our readers yield the same rows from `files` as `datasets` does."""
    if all(file.suffix == ".parquet" and reader_of(file) for file in files):
        return True
    options = (getattr(builder.config, "field", None), getattr(builder.config, "sample_by", "line"))
    if options != (None, "line") or not all(file.suffix in _LINED for file in files):
        return False
    if files[0].suffix != ".json":
        return True
    first = next((line for _, line in files[0].lines() if isinstance(line, BadRecord) or line.strip()), "{}")
    try:  # `.json` is one array or object over many lines, or one object per line
        return isinstance(first, str) and isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _read_files(files: Sequence[TextFile], options: ReadOptions, skip: int) -> Documents:
    for file in files:
        set_timeouts()
        if skip and file.suffix == ".parquet":
            rows = count_rows(file)
            if rows > skip:
                yield from read_file(file, options, skip)
            skip = max(0, skip - rows)
        else:
            for document in read_file(file, options):
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
    except Exception as error:  # each file format has a library with its own exceptions
        raise RequestError(f"The data set {found.name} on the hub cannot be read ({reason_of(error)}).") from error


def _describe(repo: str, revision: str | None) -> DatasetInfo:
    """Return the hub's description of a data set, and download its cards to the cache.

    Raises:
        RequestError: it has a loading script.
    """
    from huggingface_hub import HfApi, constants, hf_hub_download

    info = HfApi().dataset_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    names = {file.rfilename for file in info.siblings or ()}
    program = f"{repo.rpartition('/')[2]}.py"
    if program in names:
        raise RequestError(
            f"The data set {repo} on the hub has a loading script ({program}), and code from the hub is never run. "
            "Name a copy of it in Parquet or JSONL."
        )
    for name in _CARDS:
        if name in names:  # `datasets` treats a card that it cannot download as missing
            hf_hub_download(repo, name, repo_type="dataset", revision=info.sha)
    return info


def _builder_of(repo: str, config: str | None, info: DatasetInfo) -> DatasetBuilder:
    """Return the builder of a configuration; None: the only configuration, or the default one.

    Raises:
        RequestError: there is no such configuration, the choice is ambiguous, or it contains no data.
        OSError, or another of `network_errors`: the hub failed.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    try:
        return datasets.load_dataset_builder(repo, config, revision=info.sha)
    except DatasetNotFoundError:  # Its existence was checked before.
        raise gated_error(repo, "data set") from None
    except FileNotFoundError as error:
        _raise_if_unfetched(error)
        raise RequestError(
            f"The data set {repo} on the hub contains no data files in a known format"
            f"{f' for {config}' if config else ''}. "
            f"Name its files, as in hf://datasets/{repo}/…"
        ) from None
    except network_errors():
        raise
    except Exception as error:  # including errors of YAML
        known = _configs(repo, info)
        if config in known or (config is None and len(known) < 2) or not known:
            raise RequestError(
                f"The data set {repo} on the hub cannot be used ({reason_of(error)}). Name its files, as in "
                f"hf://datasets/{repo}/…"
            ) from error
        problem = f"has no configuration '{config}'" if config else "has several configurations"
        raise RequestError(
            f"The data set {repo} on the hub {problem}.{did_you_mean(config or '', known)} "
            f"It has {listed(known, NAMED)}; name one: {repo}:{known[0]}"
        ) from None


def _raise_if_unfetched(error: FileNotFoundError) -> None:
    """Raise the network error behind a FileNotFoundError; do nothing if the file does not exist."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, LocalEntryNotFoundError):
            raise behind
        behind = behind.__context__


def _configs(repo: str, info: DatasetInfo) -> list[str]:
    import datasets

    try:
        return datasets.get_dataset_config_names(repo, revision=info.sha)
    except network_errors():
        raise
    except Exception:
        return []


def load_hub_table(repo: str, config: str, split: str) -> Dataset:
    """Return a split of a data set on the hub, or of its copy in the cache of `datasets`.

    Raises:
        RequestError: there is no such split, or the hub cannot be reached and there is no cached copy.
        BigsError: the disk of the cache failed.
    """
    import datasets
    from datasets import config as settings
    from huggingface_hub import constants

    kept, offline = Path(settings.HF_DATASETS_CACHE), settings.HF_HUB_OFFLINE
    problem = "HF_HUB_OFFLINE is set" if offline else ""
    if not offline and not hub_answers():
        problem = f"the hub ({endpoint()}) cannot be reached"
    settings.HF_HUB_OFFLINE = bool(problem)  # otherwise `datasets` retries for half a minute before it uses its cache
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with plain_path(kept) as cache:  # `datasets` searches its cache with glob patterns.
            table = datasets.load_dataset(repo, config, split=split, cache_dir=str(cache))
    except Exception as error:  # each file format has a library with its own exceptions
        if (fault := translate_error(error, Path(constants.HF_HOME))) is not None:
            raise fault from error
        raise RequestError(problem or f"it cannot be downloaded from the hub ({datasets_reason(error)})") from error
    finally:
        settings.HF_HUB_OFFLINE = offline
    assert isinstance(table, datasets.Dataset)
    return table


def datasets_reason(error: Exception) -> str:
    """Return the first line of an error of `datasets`, or, if that states no reason, that of its cause."""
    while type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return first_line(error)
