"""`Corpus`: the interface of the data for pretraining and masked-LM evaluation.

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
"""Arrays of B rows each. `input_ids` `[B, L]` are token ids.

Rows with static masks are already masked: they have all fields of `masking.MaskedBatch`, and `token_type_ids`.
"""


class Rows(Protocol):
    """The rows of one split."""

    def __len__(self) -> int: ...

    def take(self, indices: Array, /) -> Batch:
        """Return copies of the rows at `indices` (int64 `[B]`, in any order, with or without repetitions).

        Several threads may call it at once.
        """
        ...

    def order(self, seed: int, /) -> Callable[[Array], Array]:
        """Return the training order: a function from positions `[n]` in an endless stream to row numbers `[n]`.

        Every epoch contains every row once.
        """
        ...


class Corpus(Protocol):
    """An opened folder of rows for training or evaluation."""

    @property
    def folder(self) -> Path:
        """The path of the folder."""
        ...

    @property
    def manifest(self) -> CorpusManifest:
        """The manifest, which is available without reading the rows."""
        ...

    @property
    def static_masks(self) -> bool:
        """Whether the rows are already masked. `masking` in the recipe is then ignored."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256 of the rows, which does not depend on their location.

        A resumed run compares it with the recorded one.
        """
        ...

    @property
    def nbytes(self) -> int:
        """The number of bytes that `verify` reads."""
        ...

    @property
    def size(self) -> str:
        """The amount of training data as text for messages, such as "1.2M tokens"."""
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
        """Return the tokenizer with which the rows were made.

        Raises:
            RequestError: it was replaced, is malformed, or is missing.
        """
        ...

    def verify(
        self, advance: Callable[[int], None], process: int = 0, processes: int = 1, resumed: bool = False
    ) -> None:
        """Check the content of all files. With several `processes`, each may read only a part of the files.

        `advance` is called with the number of bytes of each part. With `resumed`, the rows were verified when the run
        started, and only `digest` is compared.

        Raises:
            RequestError: files were modified or are corrupt.
        """
        ...


def unmask(batch: Batch) -> Array:
    """Return the tokens `[B, L]` of a batch, with static masks undone."""
    tokens = batch["input_ids"].copy()
    if "positions" in batch:
        row, slot = np.nonzero(batch["positions"])
        tokens[row, batch["positions"][row, slot]] = batch["labels"][row, slot]
    return tokens


def holds_corpus(folder: Path) -> bool:
    """Return whether `folder` contains token shards, finished or not, or HDF5 files."""
    from bigs_cli.data.hdf5 import is_hdf5_folder

    return any((folder / name).exists() for name in (MANIFEST, UNFINISHED)) or is_hdf5_folder(folder)


def open_corpus(folder: Path, tokenizer: str | Path | Tokenizer, say: Callable[[str], None]) -> Corpus:
    """Return the token shards or HDF5 files in `folder`.

    `tokenizer` is used for HDF5 files whose folder contains no tokenizer. `say` is called with a note on each skipped
    file.

    Raises:
        RequestError: there are none, they cannot be used, or the tokenizer does not exist.
        BigsError: the tokenizer is on the hub, which cannot be reached.
    """
    from bigs_cli.data.hdf5 import hdf5_tokenizer, is_hdf5_folder, open_hdf5
    from bigs_cli.data.shards import open_shards

    if is_hdf5_folder(folder):
        return open_hdf5(folder, hdf5_tokenizer(folder, tokenizer), say)
    return open_shards(folder)


@dataclass(frozen=True)
class Validation:
    """The validation rows: one split of a corpus."""

    corpus: Corpus
    split: Split

    @classmethod
    def of(cls, corpus: Corpus) -> Validation:
        """Return the held-out rows of `corpus` or, if it has none, all of its rows."""
        return cls(corpus, "heldout" if corpus.has_split("heldout") else "train")

    @property
    def rows(self) -> Rows:
        """The rows, opened anew at each access."""
        return self.corpus.split(self.split)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        which = "the held-out" if self.split == "heldout" else "all"
        return f"{which} {len(self):,} rows of {self.corpus.folder}"


def find_validation(corpus: Corpus, other: Corpus | None) -> Validation | None:
    """Return the validation rows for training on `corpus`: rows of `other` if given, else its own held-out rows.

    None if there is no other corpus and `corpus` has no held-out rows.

    Raises:
        RequestError: `other` does not match `corpus`, or contains the training rows.
    """
    if other is None:
        return Validation(corpus, "heldout") if corpus.has_split("heldout") else None
    for name in ("sequence_length", "vocab_size", "tokenizer"):
        one, two = getattr(corpus.manifest, name), getattr(other.manifest, name)
        if one != two:
            values = "" if name == "tokenizer" else f" ({two} instead of {one})"
            raise RequestError(
                f"The validation shards, {other.folder}, differ in {name}{values} from the training shards, "
                f"{corpus.folder}. Tokenize both with the same settings: bigs tokenize … --length "
                f"{corpus.manifest.sequence_length} --vocab {corpus.folder}"
            )
    validation = Validation.of(other)
    if validation.split == "train" and other.digest == corpus.digest:
        raise RequestError(
            f"{other.folder} contains the training rows, and has no held-out rows. Name other shards with "
            "--validation, or leave it out to train without validation."
        )
    return validation
