"""`Corpus`: the one type of data behind pretraining and masked-LM evaluation.

Token shards (`shards.py`) and the BiGS authors' HDF5 files (`hdf5.py`) both open as a `Corpus`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.manifest import MANIFEST, UNFINISHED, CorpusManifest, Split

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
Batch = dict[str, Array]
"""Arrays of B rows each. `input_ids` is `[B, L]` token ids.

Rows with static masks are masked already: they have every field of `masking.MaskedBatch`, and `token_type_ids`.
"""


class Rows(Protocol):
    """The rows of one split."""

    def __len__(self) -> int: ...

    def take(self, indices: Array, /) -> Batch:
        """Return copies of the rows at `indices` (int64 `[B]`, in any order, repeated or not).

        Several threads may call it at once.
        """
        ...

    def order(self, seed: int, /) -> Callable[[Array], Array]:
        """Return the order to train in: a function from places in an endless stream `[n]` to row numbers `[n]`.

        Every epoch has every row once.
        """
        ...


class Corpus(Protocol):
    """An opened folder of rows to train on or to measure with."""

    @property
    def folder(self) -> Path:
        """The folder that was named."""
        ...

    @property
    def manifest(self) -> CorpusManifest:
        """What is known without reading the rows."""
        ...

    @property
    def static_masks(self) -> bool:
        """Whether the rows are masked already. The `masking` of a recipe is then not used."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256 of the content of the rows, wherever the files are. A run that is resumed compares it."""
        ...

    @property
    def nbytes(self) -> int:
        """The bytes that `verify` reads."""
        ...

    @property
    def size(self) -> str:
        """The amount of training data in words, such as "1.2M tokens"."""
        ...

    def has_split(self, name: Split) -> bool:
        """Return whether the split has any rows."""
        ...

    def split(self, name: Split) -> Rows:
        """Return the rows of "train" or "heldout".

        Raises:
            RequestError: there are none.
        """
        ...

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that the rows were made with.

        Raises:
            RequestError: it was replaced, is malformed, or is missing.
        """
        ...

    def verify(
        self, advance: Callable[[int], None], process: int = 0, processes: int = 1, resumed: bool = False
    ) -> None:
        """Check the content of all files, of which process `process` of `processes` may read a part.

        `advance` receives the bytes of each part. `resumed`: these rows were verified before, and `digest` is compared.

        Raises:
            RequestError: files were altered or are damaged.
        """
        ...


def unmask(batch: Batch) -> Array:
    """Return the tokens `[B, L]` of a batch of a corpus as they were before any static masks."""
    tokens = batch["input_ids"].copy()
    if "positions" in batch:
        row, slot = np.nonzero(batch["positions"])
        tokens[row, batch["positions"][row, slot]] = batch["labels"][row, slot]
    return tokens


def holds_corpus(folder: Path) -> bool:
    """Return whether `folder` holds token shards, finished or not, or HDF5 files."""
    from bigs_cli.data.hdf5 import is_hdf5_folder

    return any((folder / name).exists() for name in (MANIFEST, UNFINISHED)) or is_hdf5_folder(folder)


def open_corpus(folder: Path, tokenizer: str | Path | Tokenizer, say: Callable[[str], None]) -> Corpus:
    """Return the token shards or HDF5 files in `folder`.

    HDF5 files without a tokenizer beside them get `tokenizer`. `say` receives a sentence about each skipped file.

    Raises:
        RequestError: there are none, they cannot be used, or there is no such tokenizer.
        BigsError: the hub has to be asked for the tokenizer and cannot be reached.
    """
    from bigs_cli.data.hdf5 import hdf5_tokenizer, is_hdf5_folder, open_hdf5
    from bigs_cli.data.shards import open_shards

    if is_hdf5_folder(folder):
        return open_hdf5(folder, hdf5_tokenizer(folder, tokenizer), say)
    return open_shards(folder)


@dataclass(frozen=True)
class Validation:
    """The rows that a model is validated on: those of one split of a corpus."""

    corpus: Corpus
    split: Split

    @classmethod
    def of(cls, corpus: Corpus) -> Validation:
        """Return the held-out rows of `corpus` or, if it has none, all of its rows."""
        return cls(corpus, "heldout" if corpus.has_split("heldout") else "train")

    @property
    def rows(self) -> Rows:
        """The rows, which each use opens again."""
        return self.corpus.split(self.split)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        which = "the held-out" if self.split == "heldout" else "all"
        return f"{which} {len(self):,} rows of {self.corpus.folder}"


def find_validation(corpus: Corpus, other: Corpus | None) -> Validation | None:
    """Return the rows to validate on while training on `corpus`: rows of `other`, or else its own held-out rows.

    None if there is no other corpus and `corpus` has no held-out rows.

    Raises:
        RequestError: `other` does not match `corpus`, or has the rows that are trained on.
    """
    if other is None:
        return Validation(corpus, "heldout") if corpus.has_split("heldout") else None
    for name in ("sequence_length", "vocab_size", "tokenizer"):
        one, two = getattr(corpus.manifest, name), getattr(other.manifest, name)
        if one != two:
            values = "" if name == "tokenizer" else f" ({two} instead of {one})"
            raise RequestError(
                f"The validation shards, {other.folder}, differ in {name}{values} from the training shards, "
                f"{corpus.folder}. Make them alike: bigs tokenize … --length {corpus.manifest.sequence_length} --vocab "
                f"{corpus.folder}"
            )
    validation = Validation.of(other)
    if validation.split == "train" and other.digest == corpus.digest:
        raise RequestError(
            f"{other.folder} holds the rows that are trained on, and none of them is held out. Name other shards with "
            "--validation, or leave it out to train without validation."
        )
    return validation
