"""Agreement: of two forms of one word, such as a singular and a plural verb, the model should expect the right one.

One word of a sentence is masked, and p(right form) is compared with p(wrong form) there: Goldberg 2019
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
from bigs_cli.evaluation.pll import Places, Sentences, encode_sentences
from bigs_cli.tasks.reading import Table, read_table

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GOLDBERG = ("attractors", "tag", "sentence", "good", "bad")
"""The columns of Goldberg's lgd_dataset.tsv, which has no header line; "good" and "bad" are forms."""
GROUPED_BY = ("attractors", "condition", "UID")
"""The first of these columns that a file has groups its items, unless other columns are named."""

_MASKED = re.compile(r"\*\*\*mask\*\*\*|\[MASK\]", re.IGNORECASE)


@dataclass(frozen=True)
class Items:
    """Masked words, each with two forms to choose from: the right one, then the wrong one.

    `kept` `[n]` are the pairs these are of; the others have forms that are not one token each.
    """

    kept: Array
    sentences: Sentences  # with the right form in its place
    places: Places  # [n], K = 2


def read_agreement(
    path: Path,
    by: Sequence[str] = (),
    sentence: str = "sentence",
    good: str = "good",
    bad: str = "bad",
    columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Pairs:
    """Read a table of masked sentences with a right and a wrong form, as the two sentences that the forms make.

    The place of the form is written ***mask*** or [MASK]. A table without the column `sentence` but with
    `sentence_good` and `sentence_bad`, such as BLiMP's, is taken as it is. `columns` names the columns of a file
    separated by tabs that has no header line; Goldberg's is known by itself. Items are grouped `by` columns, by
    default by the first of `GROUPED_BY` there is.

    Raises:
        RequestError: the file cannot be read, lacks a column, or a sentence has not exactly one place for the form.
    """
    table = _read(path, columns or ()).first_rows(limit)
    names = by or [name for name in GROUPED_BY if name in table.names][:1]
    levels = {name: name for name in names}
    if sentence not in table.names and {GOOD, BAD} <= {*table.names}:
        return pairs_of(table, levels)
    sides: list[list[str]] = [[], []]
    texts, *forms = (table.texts(name) for name in (sentence, good, bad))
    for text, place, *two in zip(texts, table.places, *forms, strict=True):
        parts = _MASKED.split(text)
        if len(parts) != 2:
            raise RequestError(
                f"{place}: column '{sentence}' has {len(parts) - 1} places for a form; write one, as ***mask*** or "
                f"[MASK]: {text[:100]}"
            )
        for side, form in zip(sides, two, strict=True):
            side.append(form.strip().join(parts))
    return Pairs(table.name, sides[0], sides[1], [*table.places], groups_of(table, levels))


def masked_forms(tokenizer: Tokenizer, pairs: Pairs) -> Items:
    """Return the items of pairs whose sentences differ in one word that is one known token in both; mask it."""
    right, wrong = (encode_sentences(tokenizer, texts) for texts in (pairs.good, pairs.bad))
    unknown = tokenizer.token_to_id("[UNK]")
    found: list[tuple[int, int, int, int]] = []
    for i, (one, other) in enumerate(zip(right.which, wrong.which, strict=True)):
        ours, theirs = right.ids[one], wrong.ids[other]
        if len(ours) != len(theirs) or (ours != theirs).sum() != 1:
            continue
        place = int(np.flatnonzero(ours != theirs)[0])
        forms = int(ours[place]), int(theirs[place])
        whole = all((words == words[place]).sum() == 1 for words in (right.words[one], wrong.words[other]))
        if whole and unknown not in forms:
            found.append((i, place, *forms))
    table = np.array(found, np.int64).reshape(-1, 4)
    kept = table[:, 0]
    return Items(kept, right, Places(right.which[kept], table[:, 1], table[:, 2:]))


def _read(path: Path, columns: Sequence[str]) -> Table:
    if not columns and path.is_file() and local_file(path).suffix == ".tsv":
        _, first = next(local_file(path).lines(), (1, ""))
        if isinstance(first, str) and _MASKED.search(first):
            columns = GOLDBERG
    return read_table(path, columns)
