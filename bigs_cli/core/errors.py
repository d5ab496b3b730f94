"""Errors a user meets. Each is a sentence: what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

_LONGEST = 8_000
"""Characters of a sentence that are shown; chosen here, for about a hundred lines of a terminal."""
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class BigsError(Exception):
    """The run failed (exit code 1): the request was sound, carrying it out was not possible.

    What the sentence quotes may come from anybody's file: it cannot steer a terminal, and it has an end.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        if len(sentence) > _LONGEST:
            sentence = f"{sentence[: _LONGEST // 2]} […] {sentence[-_LONGEST // 2 :]}"
        super().__init__(sentence.translate(_CONTROL))


class RequestError(BigsError):
    """The request was wrong (exit code 2): a bad argument, recipe, file or name. Nothing was changed."""

    exit_code = 2


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name nearest to `name`, or ``""`` when no other name is near."""
    near = difflib.get_close_matches(name, [other for other in known if other != name], n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def not_utf8(text: str) -> str | None:
    """Return `text`, an argument or a file's name, with escapes to be shown if it came as other than UTF-8; else None.

    Python has a lone surrogate for each byte that was not UTF-8.
    """
    shown = text.encode("utf-8", "backslashreplace").decode()
    return None if shown == text else shown


def check_unicode(text: str, place: str) -> None:
    """Refuse a text that no tokenizer reads: half of a surrogate pair is no character, and UTF-8 cannot write it.

    JSON's escapes can hold one (`"\\ud83d"`), and so can an argument that came in another encoding.

    Raises:
        RequestError: it has such a half; `place` opens the sentence.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = ascii(text[max(error.start - 20, 0) : error.end + 20])
        raise RequestError(
            f"{place} is not Unicode: {near} has half of a surrogate pair, {text[error.start]!a}. "
            "Convert it to UTF-8, or remove that half."
        ) from None


def listed(names: Collection[str], most: int = 6) -> str:
    """Return the first `most` of `names` as ``"a, b, c and 12 more"``."""
    ordered = list(names)
    shown = ", ".join(ordered[:most])
    return f"{shown} and {len(ordered) - most} more" if len(ordered) > most else shown
