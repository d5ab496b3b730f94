"""Sentences cut into words, as a model reads them: which token begins which word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.data.encode import Encoded, add_special_tokens, joined

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class EncodedWords(Encoded):
    """One sentence a row; `words` `[all tokens]` int32 is the word that a token begins, or −1 for all other tokens."""

    words: Array


def encode_words(
    tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], tags: Sequence[Sequence[int]] | None, length: int
) -> EncodedWords:
    """Encode [CLS] words [SEP], cut to `length`; labels by token are a word's tag at its first piece, elsewhere −1."""
    own = add_special_tokens(tokenizer)
    own.enable_truncation(length)
    encodings = own.encode_batch([list(words) for words in sentences], is_pretokenized=True)
    ids, starts = joined([encoding.ids for encoding in encodings])
    words = np.full(len(ids), -1, np.int32)
    labels = None if tags is None else np.full(len(ids), -1, np.int32)
    for row, encoding in enumerate(encodings):
        # The first place of each word; those that normalization left nothing of, or that were cut off, have none.
        places = {word: place for place, word in reversed(list(enumerate(encoding.word_ids))) if word is not None}
        for word, place in places.items():
            words[starts[row] + place] = word
            if labels is not None and tags is not None:
                labels[starts[row] + place] = tags[row][word]
    cut = sum(bool(encoding.overflowing) for encoding in encodings)
    return EncodedWords(ids, starts, np.diff(starts), length, labels, by_token=True, cut=cut, words=words)
