"""Selection of held-out text: whole documents or, if there are too few, whole paragraphs or sentences.

A hash of the text decides, so equal texts are always in the same split, in any reading order.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from pydantic import BaseModel, ConfigDict

from bigs_cli.core.errors import RequestError
from bigs_cli.data.manifest import ValidationUnit
from bigs_cli.data.packing import split_text
from bigs_cli.data.sentences import MARK, mark

# In characters, or as a fraction of all characters. Chosen by this project.
_FEWEST = 512  # target for held-out paragraphs or sentences if there is enough text: a few rows of tokens
_MOST = 0.2  # maximum part of a short text to hold out, unless more is requested; also the limit for a single paragraph
_LONGEST_SENTENCE = 512  # longer sentences are split at white space


class ValidationRule(BaseModel):
    """The rule that selects held-out text. `fraction` is the requested fraction.

    Documents are held out if their hash, as a fraction of the maximum, is below `fraction`; paragraphs and
    sentences, if their hash is at most `threshold` and they have at most `longest` characters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: ValidationUnit = "documents"
    fraction: float
    threshold: int = 0
    longest: int = 0

    def split(self, text: str) -> tuple[list[str], list[str]]:
        """Return the units of a document to train on and the held-out units, in order. Concatenated, they are the whole
        text.
        """
        if self.unit == "documents":
            return ([], [text]) if is_heldout(text, self.fraction) else ([text], [])
        kept: list[str] = []
        held: list[str] = []
        for unit in units_of(text, self.unit):
            bare = unit.strip()
            chosen = bool(bare) and len(bare) <= self.longest and _hash(bare) <= self.threshold
            (held if chosen else kept).append(unit)
        return kept, held


def text_digest(text: str) -> bytes:
    """Return the hash of a text (16 bytes) that all random decisions about the text use. It must never change."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_heldout(text: str, fraction: float) -> bool:
    """Return whether a document is held out, depending only on its text; true for about `fraction` of all texts."""
    return int.from_bytes(text_digest(text)[:8]) < fraction * 2.0**64


def choose_validation_rule(texts: Callable[[], Iterable[str]], fraction: float) -> ValidationRule:
    """Return the rule to hold out about `fraction` of a corpus; `texts()` reads its documents from the beginning.

    The unit is the document if both splits then have documents, else the paragraph or the sentence. Reading stops as
    soon as both splits have a document: in a large corpus after about 1 / `fraction` of them.

    Raises:
        RequestError: the whole text is one sentence.
    """
    rule = ValidationRule(fraction=fraction)
    if fraction == 0:
        return rule
    sides: set[bool] = set()
    for text in texts():
        sides.add(is_heldout(text, fraction))
        if len(sides) == 2:
            return rule
    if not sides:
        return rule
    for unit in ("paragraphs", "sentences"):
        found = _finer(itertools.chain.from_iterable(units_of(text, unit) for text in texts()), unit, fraction)
        if found is not None:
            return found
    raise RequestError(
        "The text is a single sentence, so no part of it can be held out. Add text, or hold out nothing: --heldout 0."
    )


def units_of(text: str, unit: ValidationUnit) -> Iterator[str]:
    """Yield the paragraphs or sentences of `text`, each with the white space after it. Concatenated, they are the whole
    text.
    """
    for paragraph in mark(text, "paragraphs").split(MARK):
        if unit == "paragraphs":
            yield paragraph
        else:
            for sentence in mark(paragraph, "sentences").split(MARK):
                yield from split_text(sentence, _LONGEST_SENTENCE)


def _finer(units: Iterable[str], unit: ValidationUnit, fraction: float) -> ValidationRule | None:
    """Return the rule to hold out some of `units`; None if a split would be (almost) empty."""
    bare = (text.strip() for text in units)
    found = np.fromiter(((_hash(text), len(text)) for text in bare if text), np.dtype([("hash", "u8"), ("size", "i8")]))
    hashes, first, same = np.unique(found["hash"], return_index=True, return_inverse=True)
    if len(hashes) < 2:
        return None
    sizes = np.bincount(same, found["size"])  # equal units are held out together
    total = sizes.sum()
    wanted = min(max(fraction * total, _FEWEST), max(fraction, _MOST) * total)
    longest = int(max(fraction, 0.5 if unit == "sentences" else _MOST) * total)
    fit = np.flatnonzero(found["size"][first] <= longest)[: len(hashes) - 1]  # at least one is left to train on
    held = np.cumsum(sizes[fit])
    if not len(fit) or (unit == "paragraphs" and not wanted / 2 <= held[-1]):
        return None
    last = min(int(np.searchsorted(held, wanted)), len(fit) - 1)
    return ValidationRule(unit=unit, fraction=fraction, threshold=int(hashes[fit[last]]), longest=longest)


def _hash(text: str) -> int:
    return int.from_bytes(text_digest(text)[:8])
