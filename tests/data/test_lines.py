"""Lines in UTF-8, UTF-16 and UTF-32, recognized by their byte order marks; long lines are split or refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.data import lines as module
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.lines import read_lines
from tests.tiny import bigs

TEXT = "first text, ünï 中文\nsecond\u2028line\n\nтекст\r\nlast \U0001f600"
MARKED = {
    "utf-8-sig": b"",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "utf-32-le": b"\xff\xfe\0\0",
    "utf-32-be": b"\0\0\xfe\xff",
}


def read(data: bytes, pieces: bool = False) -> list[tuple[int, str | BadRecord]]:
    return list(read_lines(io.BytesIO(data), "f.txt", pieces))


@pytest.mark.parametrize("encoding", MARKED)
def test_text_with_a_byte_order_mark_is_decoded(encoding: str) -> None:
    wanted = ["first text, ünï 中文\n", "second\u2028line\n", "\n", "текст\r\n", "last \U0001f600"]
    assert read(MARKED[encoding] + TEXT.encode(encoding)) == list(enumerate(wanted, start=1))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.text(), st.sampled_from([name for name, mark in MARKED.items() if mark]))
def test_any_text_with_a_byte_order_mark_is_decoded(text: str, encoding: str) -> None:
    assert "".join(str(line) for _, line in read(MARKED[encoding] + text.encode(encoding))) == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        (encoding, text)
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        for text in ("first text\nb\n", "\nтекст и ещё\n", "w\n")
    ],
)
def test_wide_text_without_a_byte_order_mark_is_refused(encoding: str, text: str) -> None:
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    messages = [line.message for _, line in read(text.encode(encoding)) if isinstance(line, BadRecord)]
    assert len(messages) == 1, "what follows is not read"
    assert f"it looks like {name}). Convert the file: iconv -f {name} -t UTF-8 f.txt > fixed.txt" in messages[0]


@pytest.mark.parametrize("text", ["a\0b and more words\nc\n", "plain\nwith \0 one\n", "ünï\0\n" * 3])
def test_a_nul_in_utf8_is_accepted(text: str) -> None:
    assert "".join(str(line) for _, line in read(text.encode())) == text


def test_corrupt_wide_text_is_reported_with_its_line() -> None:
    lines = read(b"\xff\xfe" + "ok\nbad \ud83d x\nfine\n".encode("utf-16-le", "surrogatepass"))
    assert [
        line if isinstance(line, str) else "f.txt:2 is corrupt UTF-16 text" in line.message for _, line in lines
    ] == ["ok\n", True, "fine\n"]
    (_, last) = read(b"\xff\xfe" + "cut".encode("utf-16-le")[:-1])[-1]
    assert isinstance(last, BadRecord)


def test_long_lines_are_split_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PIECE", 8)
    text = "ab cdefghij klm\nxy\nüüüüüüüüüü中文字\U0001f600\U0001f600\nlast one here"
    pieces = read(text.encode(), pieces=True)
    assert "".join(str(piece) for _, piece in pieces) == text
    assert [number for number, _ in pieces[:5]] == [1, 1, 1, 2, 3]
    assert [piece for number, piece in pieces if number == 1] == ["ab ", "cdefghij", " klm\n"]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.text())
def test_joined_pieces_equal_the_text(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LONGEST_PIECE", 9)
        assert "".join(str(piece) for _, piece in read(b"\xef\xbb\xbf" + text.encode(), pieces=True)) == text


def test_a_line_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 8)
    lines = read(b"one\n" + b"x" * 100 + b"\nlast\n")
    assert [line if isinstance(line, str) else "f.txt:2 is longer than" in line.message for _, line in lines] == [
        "one\n",
        True,
        "last\n",
    ]


def test_a_line_of_any_length_is_tokenized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PIECE", 64)
    (tmp_path / "a.txt").write_text("the old stone bridge crosses the river " * 200)
    common = ("--length", 32, "--train-vocab", 180, "--output", tmp_path / "out")
    assert "held out instead" in bigs("tokenize", "--input", tmp_path / "a.txt", *common).fine().err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_predict_and_tokenize_read_wide_text(encoding: str, tmp_path: Path, pretrained: Path) -> None:
    texts = tmp_path / "a.csv"
    texts.write_bytes("id,text\n1,The river [MASK] south.\n".encode(encoding))
    done = bigs("predict", "--input", texts, "--model", pretrained).fine()
    assert '"text": "The river [MASK] south."' in done.out
    rows = ("--length", 32, "--train-vocab", 180, "--heldout", 0, "--output", tmp_path / "out")
    bigs("tokenize", "--input", texts, *rows).fine()
