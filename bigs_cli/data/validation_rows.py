"""What a masked language model is validated on: held-out rows of its own corpus, or rows of another one."""

from __future__ import annotations

from dataclasses import dataclass

from bigs_cli.core.errors import RequestError
from bigs_cli.data.hdf5 import Corpus
from bigs_cli.data.manifest import Split


@dataclass(frozen=True)
class Validation:
    """The rows of one split of a corpus."""

    corpus: Corpus
    split: Split

    @classmethod
    def of(cls, corpus: Corpus) -> Validation:
        """Return the held-out rows of `corpus` or, if none were held out, all of its rows."""
        return cls(corpus, "heldout" if corpus.has_split("heldout") else "train")

    def __len__(self) -> int:
        return len(self.corpus.split(self.split))

    def __str__(self) -> str:
        which = "the held-out" if self.split == "heldout" else "all"
        return f"{which} {len(self):,} rows of {self.corpus.folder}"


def find_validation(corpus: Corpus, other: Corpus | None) -> Validation | None:
    """Return what to validate a model on that is trained on `corpus`: rows of `other`, or else its held-out rows.

    None: there is no other corpus, and no row of `corpus` was held out.

    Raises:
        RequestError: `other` does not go with `corpus`, or is what is trained on.
    """
    if other is None:
        return Validation(corpus, "heldout") if corpus.has_split("heldout") else None
    for name in ("sequence_length", "vocab_size", "tokenizer"):
        one, two = getattr(corpus.manifest, name), getattr(other.manifest, name)
        if one != two:
            values = "" if name == "tokenizer" else f" ({two} instead of {one})"
            raise RequestError(
                f"The shards to validate on, {other.folder}, differ in {name}{values} from those to train on, "
                f"{corpus.folder}. Make them alike: bigs tokenize … --length {corpus.manifest.sequence_length} --vocab "
                f"{corpus.folder}"
            )
    validation = Validation.of(other)
    if validation.split == "train" and other.digest == corpus.digest:
        raise RequestError(
            f"{other.folder} holds the rows that are trained on, and none is held out. Name other shards with "
            "--validation, or leave it out to train without validation."
        )
    return validation
