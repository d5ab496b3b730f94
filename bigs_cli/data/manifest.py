"""The manifest of a folder of token shards, `manifest.json`, checked when it is read."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST = "manifest.json"
UNFINISHED = ".partial"
"""The folder of unfinished shards inside an output folder."""

MAKE_AGAIN = "Make the shards again with: bigs tokenize … --overwrite"
"""The remedy for corrupt shards."""

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")

ValidationUnit = Literal["documents", "paragraphs", "sentences"]
"""The unit of held-out text."""

_CLOSED = ConfigDict(frozen=True, extra="forbid")
Count = Annotated[int, Field(ge=1)]
Tally = Annotated[int, Field(ge=0)]


class Shard(BaseModel):
    """One file of rows."""

    model_config = _CLOSED

    file: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$")
    rows: Count
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Packing(BaseModel):
    """How documents are packed into rows; see `data/packing.py`."""

    model_config = _CLOSED

    split: Literal["sentences", "paragraphs", "tokens"] = "sentences"
    """Rows end at the end of such a unit; with "tokens", every row is full and the text is split anywhere."""
    cross_documents: bool = False
    """Whether a row may contain text of several documents."""
    min_tokens: Count = 2
    """Documents with fewer tokens are skipped."""


class Report(BaseModel):
    """Counts of the text that was read."""

    model_config = _CLOSED

    documents: Tally
    heldout_documents: Tally
    """The number of documents, paragraphs or sentences (`heldout_unit`) that were held out."""
    heldout_unit: ValidationUnit = "documents"
    short_documents: Tally
    """The number of skipped documents with fewer tokens than the minimum."""
    duplicate_documents: Tally = 0
    """The number of skipped duplicates."""
    bad_records: Tally = 0
    """The number of lines, cells and files that could not be read and were skipped (--skip-bad)."""
    sentences: Tally
    """The number of sentences or paragraphs (`Packing.split`) in the rows; 0 for "tokens"."""
    tokens: Tally
    """The number of tokens without [CLS], [SEP] and padding."""
    sequences: Tally
    unknown_rate: float
    """The fraction of tokens that are [UNK]."""
    fill_rate: float
    """The fraction of tokens in the rows that are not padding."""
    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class Counts:
    """Counts of the text and rows so far."""

    records: int = 0
    """The number of texts read from the sources; a text that is used several times counts once."""
    documents: int = 0
    heldout: int = 0
    """The number of units (documents, paragraphs or sentences) that were held out."""
    short: int = 0
    duplicates: int = 0
    bad: int = 0
    sentences: int = 0
    tokens: int = 0
    unknown: int = 0
    rows: int = 0
    filled: int = 0
    """The number of tokens in the rows that are not padding."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def report(self, sequence_length: int, seconds: float, unit: ValidationUnit = "documents") -> Report:
        """Return the report on shards with rows of `sequence_length` tokens that were made in `seconds`."""
        return Report(
            documents=self.documents,
            heldout_documents=self.heldout,
            heldout_unit=unit,
            short_documents=self.short,
            duplicate_documents=self.duplicates,
            bad_records=self.bad,
            sentences=self.sentences,
            tokens=self.tokens,
            sequences=self.rows,
            unknown_rate=self.unknown / max(self.tokens, 1),
            fill_rate=self.filled / max(self.rows * sequence_length, 1),
            seconds=round(seconds, 3),
            tokens_per_second=round(self.tokens / max(seconds, 1e-9), 1),
        )


class CorpusManifest(BaseModel):
    """The description of a corpus, which is available without reading its rows."""

    model_config = _CLOSED

    sequence_length: Count
    vocab_size: Count
    special_ids: dict[str, Tally]
    """The id of each special token by its name."""
    tokenizer: str
    """The fingerprint of the tokenizer."""


class Manifest(CorpusManifest):
    """The manifest of token shards."""

    format: Literal["bigs-shards"] = "bigs-shards"
    version: Literal[2] = 2
    sources: tuple[str, ...]
    dtype: Literal["uint16", "uint32"]
    packing: Packing | None
    """Null for rows that were converted from HDF5 files."""
    request: str = ""
    """The digest of the request (`staging.Request`) from which the rows were made."""
    splits: dict[Split, tuple[Shard, ...]]
    report: Report

    def rows(self, split: Split) -> int:
        """Return the number of rows in a split."""
        return sum(shard.rows for shard in self.splits.get(split, ()))

    @property
    def row_bytes(self) -> int:
        """The size of a row on disk."""
        return self.sequence_length * {"uint16": 2, "uint32": 4}[self.dtype]


def dtype_for(vocab_size: int) -> Literal["uint16", "uint32"]:
    """Return the data type of the stored token ids of a vocabulary."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"
