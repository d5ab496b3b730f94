"""Token shards: a folder of flat arrays `[n, L]` and a manifest that says what they are.

`train-00000.bin`, `heldout-00000.bin`, … hold token ids row by row, little-endian, without a header; they are mapped
into memory, not read. `manifest.json` is written last: a folder without one is no set of shards.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bigs_cli.core.errors import BigsError, RequestError, did_you_mean
from bigs_cli.core.files import sha256
from bigs_cli.data.tokenizer import fingerprint, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MANIFEST = "manifest.json"
SPLITS = ("train", "heldout")
SHARD_ROWS = 1 << 16

_CLOSED = ConfigDict(frozen=True, extra="forbid")
Count = Annotated[int, Field(ge=0)]


class Shard(BaseModel):
    """One file of rows."""

    model_config = _CLOSED

    file: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    rows: Annotated[int, Field(ge=1)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Report(BaseModel):
    """What was read, and what became of it."""

    model_config = _CLOSED

    documents: Count
    heldout_documents: Count
    short_documents: Count
    """Documents with fewer tokens than the minimum; they are in no row."""
    tokens: Count
    """Tokens of text, [CLS], [SEP] and padding not counted."""
    sequences: Count
    unknown_rate: float
    """Part of the tokens that is [UNK]."""
    fill_rate: float
    """Part of the slots that is not padding."""
    seconds: float
    tokens_per_second: float


class Manifest(BaseModel):
    """What a folder of shards holds."""

    model_config = _CLOSED

    format: Literal["bigs-shards"] = "bigs-shards"
    version: Literal[1] = 1
    sources: tuple[str, ...]
    sequence_length: Annotated[int, Field(ge=1)]
    dtype: Literal["uint16", "uint32"]
    vocab_size: Annotated[int, Field(ge=1)]
    special_ids: dict[str, Count]
    """The id of each special token by its name."""
    tokenizer: str
    """Fingerprint of the tokenizer that lies beside."""
    splits: dict[Literal["train", "heldout"], tuple[Shard, ...]]
    report: Report

    def rows(self, split: Literal["train", "heldout"]) -> int:
        """Return the number of rows in a split."""
        return sum(shard.rows for shard in self.splits.get(split, ()))


class Rows:
    """The rows of one split, as a random-access source: `len(rows)`, `rows[i]` → `[L]`."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self._arrays = arrays
        self._ends = list(itertools.accumulate(len(array) for array in arrays))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect.bisect_right(self._ends, index)
        array = self._arrays[shard]
        return array[index - self._ends[shard] + len(array)]

    def __repr__(self) -> str:
        return f"Rows({len(self)})"


class Shards:
    """An opened folder of shards; see `open_shards`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    def split(self, name: str) -> Rows:
        """Return the rows of "train" or "heldout", mapped into memory; a split without rows is an error."""
        if name not in SPLITS:
            raise RequestError(f"Shards have no split '{name}'.{did_you_mean(name, SPLITS)}")
        shards = self.manifest.splits.get(name, ())
        if not shards:
            raise RequestError(
                f"{self.folder} has no {name} rows. Make the shards again with another --heldout fraction."
            )
        length = self.manifest.sequence_length
        dtype = np.dtype(self.manifest.dtype).newbyteorder("<")
        return Rows([np.memmap(self.folder / s.file, dtype, mode="r", shape=(s.rows, length)) for s in shards])

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer the rows were made with; raise RequestError if it was exchanged."""
        tokenizer = load_tokenizer(self.folder)
        if fingerprint(tokenizer) != self.manifest.tokenizer:
            raise RequestError(f"The tokenizer in {self.folder} is not the one its shards were made with. {_AGAIN}")
        return tokenizer

    @property
    def digest(self) -> str:
        """The SHA-256 of what the rows are: the same for equal shards, wherever they lie."""
        parts = [self.manifest.tokenizer, *(s.sha256 for shards in self.manifest.splits.values() for s in shards)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def verify(self) -> None:
        """Read every shard and compare its SHA-256; raise BigsError naming the first that differs."""
        for shard in itertools.chain.from_iterable(self.manifest.splits.values()):
            if sha256(self.folder / shard.file) != shard.sha256:
                raise BigsError(f"{self.folder / shard.file} was altered: its SHA-256 differs. {_AGAIN}")


_AGAIN = "Make the shards again with: bigs tokenize … --overwrite"


def open_shards(folder: str | Path) -> Shards:
    """Return the shards in `folder`, their manifest and every file's size checked (no file is read).

    Raises:
        RequestError: there are none, the manifest is malformed, or a file is missing or of the wrong size.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise RequestError(
            f"There are no token shards in {folder} (no {MANIFEST}). "
            f"Make them with: bigs tokenize --input PATH --length L --vocab FILE --output {folder}"
        )
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise RequestError(f"{path} is no manifest of token shards: {where}: {first['msg']}. {_AGAIN}") from None
    width = manifest.sequence_length * np.dtype(manifest.dtype).itemsize
    for shard in itertools.chain.from_iterable(manifest.splits.values()):
        file = folder / shard.file
        if not file.is_file():
            raise RequestError(f"{file} is missing, though {MANIFEST} names it. {_AGAIN}")
        if file.stat().st_size != shard.rows * width:
            raise RequestError(
                f"{file} is truncated or altered: it has {file.stat().st_size} bytes, "
                f"{shard.rows} rows take {shard.rows * width}. {_AGAIN}"
            )
    return Shards(folder, manifest)


class ShardWriter:
    """Writes the rows of one split into `folder` as files of at most `shard_rows` rows."""

    def __init__(self, folder: Path, split: str, dtype: str, shard_rows: int = SHARD_ROWS) -> None:
        self._folder = folder
        self._split = split
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._shard_rows = shard_rows
        self._finished: list[Shard] = []
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._rows = 0

    def write(self, rows: np.ndarray) -> None:
        """Append rows `[n, L]`."""
        while len(rows):
            if self._file is None:
                self._file = (self._folder / self._name()).open("wb")
            part, rows = np.split(rows, [self._shard_rows - self._rows])
            data = part.astype(self._dtype).tobytes()
            self._file.write(data)
            self._digest.update(data)
            self._rows += len(part)
            if self._rows == self._shard_rows:
                self._finish()

    def close(self) -> tuple[Shard, ...]:
        """Finish the last file and return all of them in order."""
        self._finish()
        return tuple(self._finished)

    def _name(self) -> str:
        return f"{self._split}-{len(self._finished):05d}.bin"

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._finished.append(Shard(file=self._name(), rows=self._rows, sha256=self._digest.hexdigest()))
        self._file, self._digest, self._rows = None, hashlib.sha256(), 0
