"""Encoding questions about texts: a long text is split into several overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.encode import Encoded, add_special_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
DOC_STRIDE = 128
"""Tokens that a window shares with the next (`doc_stride` in common scripts); at most half of a short window."""
LONGEST_QUESTION = 64
SHORTEST = 8


@dataclass(frozen=True, kw_only=True)
class Windows(Encoded):
    """One window per row: [CLS] question [SEP] window [SEP].

    `examples` `[n]` is the index of each window's question, ascending. `places` `[all tokens, 2]` are the start and end
    of each token in characters of the text, −1 for tokens outside the text. Labels `[n, 2]` are the positions in the
    row of the first and the last token of the answer; 0, the position of [CLS], if the window does not contain the
    answer.
    """

    examples: Array
    places: Array

    def batch(self, rows: Array, size: int, trim: bool = False) -> dict[str, Array]:
        """Return the batch of `Encoded.batch` with weights `[size, L]`: 1 for the tokens of a window, 0 for padding."""
        made = super().batch(rows, size, trim)
        return {**made, "weights": made["attention_mask"].astype(np.float32)}


def encode_questions(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    contexts: Sequence[str],
    answers: Sequence[Sequence[tuple[str, int]]] | None,
    length: int,
) -> Windows:
    """Encode questions, truncated to 64 tokens or half of `length`, each with every window of its context.

    Labels are those of the first answer (text, index of its first character) whose index is not −1; without such an
    answer, they are the position of [CLS].

    Raises:
        RequestError: `length` is too short.
    """
    if length < SHORTEST:
        raise RequestError(f"Length {length} is too short for questions about a text. Use at least {SHORTEST} tokens.")
    own = add_special_tokens(tokenizer)
    cls, sep = own.encode("").ids
    distinct = list(dict.fromkeys(contexts))
    read = own.encode_batch(distinct, add_special_tokens=False)
    texts = {
        text: (np.array(one.ids, np.int32), np.array(one.offsets, np.int32).reshape(-1, 2))
        for text, one in zip(distinct, read, strict=True)
    }
    ids: list[Array] = []
    places: list[Array] = []
    examples: list[int] = []
    firsts: list[int] = []
    labels: list[tuple[int, int]] = []
    longest, cut = min(LONGEST_QUESTION, (length - 3) // 2), 0
    for row, question in enumerate(own.encode_batch(list(questions), add_special_tokens=False)):
        cut += len(question.ids) > longest
        head = np.array([cls, *question.ids[:longest], sep], np.int32)
        tokens, spans = texts[contexts[row]]
        learned = next((answer for answer in answers[row] if answer[1] >= 0), None) if answers else None
        first, last = _tokens_of(learned, spans) if learned else (-1, -1)
        room = length - len(head) - 1
        for start in window_starts(len(tokens), room):
            end = min(start + room, len(tokens))
            ids.append(np.concatenate([head, tokens[start:end], head[-1:]]))
            outside = np.full((len(head), 2), -1, np.int32)
            places.append(np.concatenate([outside, spans[start:end], outside[:1]]))
            examples.append(row)
            firsts.append(len(head))
            held = start <= first <= last < end
            labels.append((len(head) + first - start, len(head) + last - start) if held else (0, 0))
    starts = np.concatenate([[0], np.cumsum([len(window) for window in ids])]).astype(np.int64)
    return Windows(
        np.concatenate(ids),
        starts,
        np.array(firsts),
        length,
        None if answers is None else np.array(labels, np.int32),
        cut=cut,
        examples=np.array(examples),
        places=np.concatenate(places),
    )


def window_starts(tokens: int, room: int) -> range:
    """Return the starts of windows of `room` tokens that cover a text of `tokens`.

    Consecutive windows share `DOC_STRIDE` tokens, or half of `room` if that is less.
    """
    step = room - min(DOC_STRIDE, room // 2)
    return range(0, max(tokens - room, 0) + step, step)


def _tokens_of(answer: tuple[str, int], spans: Array) -> tuple[int, int]:
    """Return the first and the last token (`spans` `[n, 2]`, in characters) that overlap the answer."""
    text, at = answer
    first = int(np.searchsorted(spans[:, 1], at, side="right"))
    last = int(np.searchsorted(spans[:, 0], at + len(text), side="left")) - 1
    return (first, last) if first <= last else (-1, -1)
