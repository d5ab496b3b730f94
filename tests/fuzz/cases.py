"""Corrupt files: a valid file with random edits of its bytes or, if it is JSON, of its values."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

ODD_BYTES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\n", b"\r", b"\t", b'"', b"'", b"{", b"[", b"]", b":", b",", b"\\")
ODD_TEXTS = (
    b"\x1b[31m",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xc3\xa9\xe2\x80\xa8",
    b"../../outside",
    b"/etc/passwd",
    b"http://127.0.0.1:9/x",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"9" * 40,
    b"9" * 5000,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"!!python/object/apply:os.system [true]",
    b"&a [*a, *a]",
    b"null",
    b"true",
    b"<doc id='1'>",
    b"</doc>",
)
ODD_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    0.5,
    -1e308,
    1e-320,
    float("nan"),
    float("inf"),
    "",
    " ",
    "0",
    "nan",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "../../outside",
    "/etc/passwd",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"": {}},
    {"0": 1},
    ["a", 1],
)


def corrupt_files(seeds: Sequence[bytes], tokens: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Return a strategy for corrupt versions of `seeds`, which must not be empty; `tokens` are parts of the format."""
    made = [_edited(seeds, (*ODD_BYTES, *ODD_TEXTS, *tokens))]
    if trees := [seed for seed in seeds if _is_json(seed)]:
        made.append(_changed(trees))
    return st.one_of(*made)


@st.composite
def _edited(draw: st.DrawFn, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Draw a seed with one to six edits."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from((1, 2, 4, 8, 16, 100)))
        match draw(st.sampled_from(("flip", "insert", "replace", "number", "cut", "repeat", "end", "splice"))):
            case "flip" if data:
                flipped = data[place] ^ (1 << draw(st.integers(0, 7)))
                data = data[:place] + bytes([flipped]) + data[place + 1 :]
            case "insert":
                data = data[:place] + draw(st.sampled_from(tokens)) + data[place:]
            case "replace":
                data = data[:place] + draw(st.sampled_from(tokens)) + data[place + length :]
            case "number":
                form = draw(st.sampled_from(("<B", "<H", "<I", "<Q", ">H", ">I", ">Q")))
                number = draw(st.sampled_from(ODD_NUMBERS)) & (2 ** (8 * struct.calcsize(form)) - 1)
                data = data[:place] + struct.pack(form, number) + data[place + struct.calcsize(form) :]
            case "cut":
                data = data[:place] + data[place + length :]
            case "repeat":
                data = data[:place] + data[place : place + length] * draw(st.sampled_from((2, 3, 200))) + data[place:]
            case "end":
                data = data[:place]
            case "splice":
                other = draw(st.sampled_from(seeds))
                data = data[:place] + other[draw(st.integers(0, len(other))) :]
    return data


@st.composite
def _changed(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """Draw a JSON or JSON Lines seed, and change, drop, rename, nest or exchange one to four of its values."""
    lines = draw(st.sampled_from(seeds)).splitlines() if draw(st.booleans()) else [draw(st.sampled_from(seeds))]
    number = draw(st.integers(0, len(lines) - 1))
    try:
        tree = [json.loads(lines[number])]
    except ValueError:  # one line of a value that spans several lines
        lines = [b"\n".join(lines)]
        number, tree = 0, [json.loads(lines[0])] if _is_json_value(lines[0]) else [{}]
    for _ in range(draw(st.integers(1, 4))):
        holder, key = draw(st.sampled_from(_places(tree)))
        match draw(st.sampled_from(("value", "value", "value", "drop", "rename", "wrap", "exchange"))):
            case "value":
                holder[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
            case "drop" if holder is not tree:
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.sampled_from(("", "x", "0", "-1", "../x", "\ud800", "__class__")))] = holder.pop(key)
            case "wrap":
                holder[key] = draw(st.sampled_from(([holder[key]], {"0": holder[key]}, [holder[key]] * 8)))
            case "exchange":
                other, place = draw(st.sampled_from(_places(tree)))
                holder[key] = copy.deepcopy(other[place])
    lines[number] = json.dumps(tree[0]).encode()
    return b"\n".join(lines)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Return every (list or object, index or key) in `tree`."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        holder = left.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            found.append((holder, key))
            if isinstance(value, list | dict):
                left.append(value)
    return found


def _is_json(data: bytes) -> bool:
    return _is_json_value(data) or ((lines := data.splitlines()) != [] and all(map(_is_json_value, lines)))


def _is_json_value(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
