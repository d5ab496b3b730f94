"""Agreement: a model should prefer the correct form of a masked word, such as a plural verb, to the wrong form.

One word of a sentence is masked, and p(correct form) is compared with p(wrong form) there: Goldberg 2019
(https://arxiv.org/abs/1901.05287) on the sentences of Linzen et al. 2016 (https://arxiv.org/abs/1611.01368) and of
Marvin & Linzen 2018 (https://arxiv.org/abs/1808.09031).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigs_cli.core.errors import RequestError
from bigs_cli.data.files import local_file
from bigs_cli.evaluation.pairs import BAD, GOOD, Array, Pairs, groups_of, pairs_of
from bigs_cli.evaluation.pll import MaskedPositions, Sentences, encode_sentences
from bigs_cli.tasks.reading import Table, read_table

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GOLDBERG = ("attractors", "tag", "sentence", "good", "bad")
"""The columns of Goldberg's lgd_dataset.tsv, which has no header line; "good" and "bad" are the forms."""
GROUPED_BY = ("attractors", "condition", "UID")
"""Items are grouped by the first of these columns that a file has, unless other columns are given."""

_MASKED = re.compile(r"\*\*\*mask\*\*\*|\[MASK\]", re.IGNORECASE)


@dataclass(frozen=True)
class Items:
    """Masked words, each with two candidates: the correct form, then the wrong form.

    `kept` `[n]` are the indices of their pairs. Pairs whose forms are not one token each are left out.
    """

    kept: Array
    sentences: Sentences  # with the correct form filled in
    positions: MaskedPositions  # [n], K = 2


@dataclass(frozen=True)
class FormColumns:
    """The columns with the masked sentence, the correct form and the wrong form.

    `header` names all columns of a tab-separated file without a header line.
    """

    sentence: str = "sentence"
    good: str = "good"
    bad: str = "bad"
    header: Sequence[str] | None = None


def read_agreement(
    path: Path, by: Sequence[str] = (), columns: FormColumns = FormColumns(), limit: int | None = None
) -> Pairs:
    """Read a table of masked sentences with a correct and a wrong form, as pairs of the two completed sentences.

    The masked word is written ***mask*** or [MASK]. A table without the sentence column but with `sentence_good` and
    `sentence_bad`, such as BLiMP's, is read as pairs of sentences. A file in Goldberg's layout, without a header line,
    is recognized. Items are grouped by the columns `by`, by default by the first of `GROUPED_BY` that exists.

    Raises:
        RequestError: the file cannot be read, lacks a column, or a sentence does not have exactly one masked word.
    """
    table = _read(path, columns.header or ()).first_rows(limit)
    levels = {name: name for name in by or [name for name in GROUPED_BY if name in table.names][:1]}
    if columns.sentence not in table.names and {GOOD, BAD} <= {*table.names}:
        return pairs_of(table, levels)
    sides: list[list[str]] = [[], []]
    texts, *forms = (table.texts(name) for name in (columns.sentence, columns.good, columns.bad))
    for text, place, *both in zip(texts, table.places, *forms, strict=True):
        parts = _MASKED.split(text)
        if len(parts) != 2:
            raise RequestError(
                f"{place}: column '{columns.sentence}' has {len(parts) - 1} masked words; it needs exactly one, "
                f"written ***mask*** or [MASK]: {text[:100]}"
            )
        for side, form in zip(sides, both, strict=True):
            side.append(form.strip().join(parts))
    return Pairs(table.name, sides[0], sides[1], [*table.places], groups_of(table, levels))


def masked_forms(tokenizer: Tokenizer, pairs: Pairs) -> Items:
    """Return the items of the pairs whose sentences differ in one word that is a single known token in both."""
    correct, wrong = (encode_sentences(tokenizer, texts) for texts in (pairs.good, pairs.bad))
    unknown = tokenizer.token_to_id("[UNK]")
    rows: list[tuple[int, int, int, int]] = []
    for i, (a, b) in enumerate(zip(correct.sequence_of, wrong.sequence_of, strict=True)):
        ids_a, ids_b = correct.ids[a], wrong.ids[b]
        if len(ids_a) != len(ids_b) or (ids_a != ids_b).sum() != 1:
            continue
        position = int(np.flatnonzero(ids_a != ids_b)[0])
        forms = int(ids_a[position]), int(ids_b[position])
        whole_word = all((words == words[position]).sum() == 1 for words in (correct.words[a], wrong.words[b]))
        if whole_word and unknown not in forms:
            rows.append((i, position, *forms))
    table = np.array(rows, np.int64).reshape(-1, 4)
    kept = table[:, 0]
    return Items(kept, correct, MaskedPositions(correct.sequence_of[kept], table[:, 1], table[:, 2:]))


def _read(path: Path, columns: Sequence[str]) -> Table:
    if not columns and path.is_file() and local_file(path).suffix == ".tsv":
        _, first = next(local_file(path).lines(), (1, ""))
        if isinstance(first, str) and _MASKED.search(first):
            columns = GOLDBERG
    return read_table(path, columns)
