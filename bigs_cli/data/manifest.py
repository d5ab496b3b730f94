"""What a folder of token shards says about itself: `manifest.json`, checked when it is read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST = "manifest.json"
UNFINISHED = ".partial"
"""Folder of shards that are still being made."""

MAKE_AGAIN = "Make the shards again with: bigs tokenize … --overwrite"
"""What to do about shards that are damaged."""

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")

ValidationUnit = Literal["documents", "paragraphs", "sentences"]
"""What is held out as a whole."""

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
    """How documents became rows; see `data/packing.py`."""

    model_config = _CLOSED

    split: Literal["sentences", "paragraphs", "tokens"] = "sentences"
    """What rows are made of; a row ends where one of these does. Tokens: every row is full, wherever that cuts."""
    cross_documents: bool = False
    """Whether a row may hold the end of a document and the beginning of the next."""
    min_tokens: Count = 2
    """Documents with fewer tokens are left out."""


class Report(BaseModel):
    """What was read, and what became of it."""

    model_config = _CLOSED

    documents: Tally
    heldout_documents: Tally
    """How many of `heldout_unit` were held out."""
    heldout_unit: ValidationUnit = "documents"
    short_documents: Tally
    """Documents with fewer tokens than the minimum; they are in no row."""
    duplicate_documents: Tally = 0
    """Documents left out because the same text came before."""
    bad_records: Tally = 0
    """Lines, cells and files that could not be read and were passed over, as was asked."""
    sentences: Tally
    """Sentences (or paragraphs, if they were split into these) in the rows; 0 if they were not split."""
    tokens: Tally
    """Tokens of text, [CLS], [SEP] and padding not counted."""
    sequences: Tally
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
    version: Literal[2] = 2
    sources: tuple[str, ...]
    sequence_length: Count
    dtype: Literal["uint16", "uint32"]
    vocab_size: Count
    special_ids: dict[str, Annotated[int, Field(ge=0)]]
    """The id of each special token by its name."""
    tokenizer: str
    """Fingerprint of the tokenizer that lies beside."""
    packing: Packing | None
    """Null: the rows were made elsewhere and converted."""
    request: str = ""
    """A digest of all that was asked for: another one, other rows."""
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
    """Return the type that token ids of a vocabulary are stored in."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"
