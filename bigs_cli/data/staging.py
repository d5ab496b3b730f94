"""Unfinished shards: a hidden folder inside the output folder, from which an interrupted tokenization is resumed.

`.partial/` contains the shards so far, the tokenizer and `progress.json`. `progress.json` is written every few seconds
and records the request, the position in the text, and the number of rows in each file. If the process is killed, only
the work since the last save is lost. When everything is written, the files move into place, the manifest last.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bigs_cli.core.error_messages import write_error
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.files import locked, write_json
from bigs_cli.core.interrupts import defer_signals
from bigs_cli.core.paths import check_local
from bigs_cli.data.manifest import MANIFEST, SPLITS, UNFINISHED, Counts, Manifest, Packing, Split
from bigs_cli.data.readers import ReadOptions
from bigs_cli.data.shard_writer import CorruptTemporaryFilesError, Written
from bigs_cli.data.shards import open_shards
from bigs_cli.data.sources import Cursor
from bigs_cli.data.validation import ValidationRule

_PROGRESS = "progress.json"
_LOCK = "lock"
_CLOSED = ConfigDict(frozen=True, extra="forbid")


class Request(BaseModel):
    """The settings that determine the rows: equal requests on equal text give equal bytes."""

    model_config = _CLOSED

    sources: tuple[str, ...]
    weights: tuple[float, ...]
    vocabulary: str
    """The fingerprint of the given tokenizer, or the size of the vocabulary to train."""
    sequence_length: int
    packing: Packing
    heldout: float
    how: ReadOptions = Field(default_factory=ReadOptions)
    drop_duplicates: bool = False
    limit_documents: int | None = None

    def digest(self) -> str:
        """Return a SHA-256 of all fields."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def differences(self, other: Request) -> list[str]:
        """Return the names of the fields that differ."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]


class Progress(BaseModel):
    """The saved progress of a tokenization."""

    model_config = _CLOSED

    request: Request
    corpus: str
    """A digest of the names and sizes of the parts of the sources."""
    directory: str = ""
    """The directory to which relative sources refer; empty: the working directory of the process."""
    skip_bad: bool = False
    """Whether records that cannot be read are skipped."""
    place: Cursor = Cursor()
    portion: str = ""
    """The portion of the text, such as 3/64; empty: all of it."""
    validation: ValidationRule | None = None
    """None, in files of older versions, means whole documents."""
    counts: Counts = Counts()
    written: dict[Split, Written] = Field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rule(self) -> ValidationRule:
        """The rule that selects held-out text."""
        return self.validation or ValidationRule(fraction=self.request.heldout)


class Staging:
    """The hidden folder inside an output folder; see `staging`."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / UNFINISHED

    def progress(self) -> Progress | None:
        """Return the last saved progress, or None.

        Raises:
            CorruptTemporaryFilesError: its file is corrupt.
        """
        path = self.folder / _PROGRESS
        if not path.is_file():
            return None
        try:
            return Progress.model_validate_json(path.read_bytes())
        except ValidationError:
            raise CorruptTemporaryFilesError(path) from None

    def save(self, progress: Progress) -> None:
        """Save `progress`. The rows that it counts must already be on disk."""
        write_json(self.folder / _PROGRESS, progress.model_dump(mode="json"))

    def publish(self, manifest: Manifest | None = None) -> Manifest:
        """Remove the replaced shards, and move the new files into place, the manifest last.

        Without `manifest`, that in the staging folder, written by an earlier process, is used.
        """
        staged = self.folder / MANIFEST
        if manifest is None:
            manifest = Manifest.model_validate_json(staged.read_bytes())
        else:
            write_json(staged, manifest.model_dump(mode="json"))
        (self.output / MANIFEST).unlink(missing_ok=True)
        new = {shard.file for shards in manifest.splits.values() for shard in shards}
        for split in SPLITS:
            for file in self.output.glob(f"{split}-*.bin"):
                if file.name not in new and re.fullmatch(rf"{split}-\d{{5,}}\.bin", file.name):
                    file.unlink()
        for file in sorted(self.folder.iterdir()):
            if file.name in new or (file.suffix in (".json", ".txt") and file.name not in (_PROGRESS, MANIFEST)):
                file.replace(self.output / file.name)
        staged.replace(self.output / MANIFEST)
        shutil.rmtree(self.folder)
        return open_shards(self.output).manifest

    @property
    def finished(self) -> bool:
        """Whether all files are written and only need to be moved into place."""
        return (self.folder / MANIFEST).is_file()


def resume_command(output: Path) -> str:
    """Return the shell command that continues the tokenization into `output`."""
    return shlex.join(["bigs", "tokenize", "--resume", "--output", str(output)])


def check_output(output: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Check that shards may be written into the output folder.

    Raises:
        RequestError: it is a URL or a file, or contains other files, or contains shards and neither `resume` nor
            `overwrite` is given.
    """
    check_local(output)
    if output.exists() and not output.is_dir():
        raise RequestError(f"{output} is a file. --output must be a folder.")
    begun = output / UNFINISHED
    if begun.is_symlink() or (begun.exists() and not begun.is_dir()) or (_names(begun) and not _is_ours(begun)):
        raise RequestError(f"{begun} was not made by bigs. Move it away, or name another --output.")
    strange = [name for name in _names(output) if not name.startswith(".")]
    if strange and not begun.exists() and not (output / MANIFEST).exists():
        raise RequestError(
            f"{output} contains other files ({listed(strange, 3)}), and shards require a separate folder. Name another "
            "--output."
        )
    if resume or overwrite:
        return
    if (output / MANIFEST).exists():
        raise RequestError(
            f"{output} already contains token shards. Name another --output, or replace them with --overwrite."
        )
    if (output / UNFINISHED / _PROGRESS).exists():
        raise RequestError(
            f"{output} contains an unfinished tokenization. Continue with `{resume_command(output)}`, or repeat this "
            "command with --overwrite to start over."
        )


@contextlib.contextmanager
def staging(output: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[Staging]:
    """Lock and yield the staging folder of `output`, which is emptied unless `resume`.

    After an error, the folder stays if progress was saved in it; otherwise it is removed, and so is `output` if it is
    new.

    Raises:
        RequestError: the output is in use, or cannot be written.
    """
    check_output(output, resume=resume, overwrite=overwrite)
    new = next((path for path in reversed([output, *output.parents]) if not path.exists()), None)
    place = Staging(output)
    with contextlib.ExitStack() as claim:
        try:
            with defer_signals():
                _make(place)
                claim.enter_context(locked(place.folder / _LOCK))
            if not resume:
                _clear(place.folder)
            yield place
        except BlockingIOError:
            raise RequestError(f"Another process is writing {output}. Wait for it, or name another --output.") from None
        except BaseException:
            if not (place.folder / _PROGRESS).is_file() and not place.finished:
                shutil.rmtree(place.folder, ignore_errors=True)
                if new is not None:
                    _remove_empty(output, new)
            raise


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove `folder` and its parents up to `top`, except those with other files: other parts may be in them."""
    with contextlib.suppress(OSError):
        for path in (folder, *folder.parents):
            path.rmdir()
            if path == top:
                return


def _make(place: Staging) -> None:
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(f"--output {place.output}", error, "Name another one.") from None


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _is_ours(folder: Path) -> bool:
    return (folder / _LOCK).is_file()


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()
