"""Errors and notes that users see. Each error message states what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Collection, Iterable

from bigs_cli.core.places import in_words

_MAX_LENGTH = 8_000
"""Maximum length of a message in characters, about a hundred lines of a terminal."""
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class BigsError(Exception):
    """The run failed (exit code 1), although the request was valid.

    Messages name the URL of a copy, not its path. They may quote untrusted files, so control characters are escaped and
    long messages shortened.
    """

    exit_code = 1

    def __init__(self, sentence: str) -> None:
        if len(sentence) > _MAX_LENGTH:
            sentence = f"{sentence[: _MAX_LENGTH // 2]} […] {sentence[-_MAX_LENGTH // 2 :]}"
        super().__init__(in_words(sentence).translate(_CONTROL))


class RequestError(BigsError):
    """The request was invalid (exit code 2): a wrong argument, recipe, file or name. Nothing was changed."""

    exit_code = 2


@functools.cache
def notice(sentence: str) -> None:
    """Print `sentence` on stderr, once per process, from code that does not use the console."""
    print(BigsError(sentence), file=sys.stderr)  # BigsError escapes terminal control characters.


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` with the known name most similar to `name`, or ``""`` if none is similar."""
    near = difflib.get_close_matches(name, [other for other in known if other != name], n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def not_utf8(text: str) -> str | None:
    """Return None if `text`, an argument or a file name, was valid UTF-8, else `text` with the invalid bytes escaped.

    Python represents each invalid byte as a lone surrogate.
    """
    shown = text.encode("utf-8", "backslashreplace").decode()
    return None if shown == text else shown


def check_unicode(text: str, place: str) -> None:
    """Check that `text` contains no lone surrogate, which tokenizers cannot read and UTF-8 cannot encode.

    JSON escapes (`"\\ud83d"`) and arguments in another encoding can contain one.

    Raises:
        RequestError: it contains one; `place` begins the message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = ascii(text[max(error.start - 20, 0) : error.end + 20])
        raise RequestError(
            f"{place} is not valid Unicode: {near} has half of a surrogate pair, {text[error.start]!a}. "
            "Convert it to UTF-8, or remove that half."
        ) from None


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error without its period, or the name of its type if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def listed(names: Collection[str], most: int = 6) -> str:
    """Return the first `most` of `names` as ``"a, b, c and 12 more"``."""
    ordered = list(names)
    shown = ", ".join(ordered[:most])
    return f"{shown} and {len(ordered) - most} more" if len(ordered) > most else shown
