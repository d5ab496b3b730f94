"""CSV and TSV as every command reads them: quotes, delimiters, and messages about malformed rows."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bigs_cli.core.errors import did_you_mean
from bigs_cli.data import delimited
from bigs_cli.data.delimited import parse_number, read_cells, unique_names
from bigs_cli.data.documents import BadRecord
from bigs_cli.data.files import local_file
from tests.tiny import bigs

UNCLOSED = 'label,text\n1,a fine film\n0,a dull slog\n1,"great cast\n0,boring\n1,loved\n0,a waste\n'


def read(folder: Path, text: str, name: str = "t.csv") -> list[list[str] | str]:
    """Return the cells of each row, or the message about a bad row without the file's name."""
    (folder / name).write_bytes(text.encode())
    rows = (row for _, row in read_cells(local_file(folder / name)))
    return [row.message.removeprefix(f"{folder / name}:") if isinstance(row, BadRecord) else row for row in rows]


def test_quotes_of_rfc_4180(tmp_path: Path) -> None:
    rows = [["a", "b"], ['say "hi"', "two\nlines, and a comma"], ["", 'half an inch: 1/2"'], ["x\r\ny", ""]]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert read(tmp_path, (tmp_path / "t.csv").read_bytes().decode()) == rows
    assert read(tmp_path, 'a,b\n5" nails,x\n') == [["a", "b"], ['5" nails', "x"]]


@pytest.mark.parametrize(
    ("text", "good", "message"),
    [
        (UNCLOSED, 3, "4 opens a quote that is never closed"),
        ('a,b\n"two\nlines","open\n1,2\n3,4', 1, "3 opens a quote that is never closed"),
        ('a,"b\n1,2\n', 0, "1 opens a quote that is never closed"),
        ('a,b\n1,"""', 1, "2 opens a quote that is never closed"),
        (
            'a,b\n1,"open\n2,x\n3,"y" z\n4,w\n',
            2,
            "4 has text after the closing quote of the cell that starts on line 2",
        ),
        (
            'a,b\n1,"he said "no" twice"\n2,x\n',
            2,
            "2 has text after the closing quote of the cell that starts on line 2",
        ),
        ('"a" x,b\n1,2\n', 0, "1 has text after the closing quote of the cell that starts on line 1"),
        ("a,b\r1,2\r", 0, "1 is not a table row (a carriage return without a newline)"),
        ("a,b\n1\n2,x\n", 2, "2 has 1 cells; the first line names 2 columns. Cells are separated by commas"),
    ],
)
def test_malformed_rows_are_reported_and_the_others_read(tmp_path: Path, text: str, good: int, message: str) -> None:
    rows = read(tmp_path, text)
    assert sum(isinstance(row, list) for row in rows) == good
    (bad,) = (row for row in rows if isinstance(row, str))
    assert bad.startswith(message)


def test_an_unclosed_quote_is_reported_before_the_whole_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "LONGEST_PIECE", 100)
    rows = read(tmp_path, 'a,b\n1,"open\n' + "2,x\n" * 1000)
    assert rows[0] == ["a", "b"]
    assert str(rows[1]).startswith("2 opens a quote")
    assert len(rows) == 2


@pytest.mark.parametrize("command", ["tokenize", "finetune", "predict"])
def test_every_command_refuses_an_unclosed_quote(models: Path, tmp_path: Path, command: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(UNCLOSED)
    model = models / "sequence-classification"
    output = tmp_path / "out"
    done = {
        "tokenize": lambda: bigs(
            "tokenize", "--input", table, "--train-vocab", 200, "--length", 16, "--output", output
        ),
        "finetune": lambda: bigs("finetune", "--train", table, "--dev", table, "--from", model, "--run", output),
        "predict": lambda: bigs("predict", "--input", table, "--model", model, "--output", output / "a.csv"),
    }[command]()
    assert (done.code, output.exists()) == (2, False)
    assert f"{table}:4 opens a quote that is never closed" in done.err


@pytest.mark.parametrize(
    ("name", "text", "rows", "message"),
    [
        ("t.csv", "text;label\na, b;1\n", [["text", "label"], ["a, b", "1"]], "by semicolons, not commas"),
        ("t.csv", '"text, raw";label\n"a;b";1\n', [["text, raw", "label"], ["a;b", "1"]], "by semicolons, not commas"),
        ("t.csv", 'text\tlabel\n"a\tb"\t1\n', [["text", "label"], ["a\tb", "1"]], "by tabs, not commas"),
        ("t.csv", "\ufeff\ntext|label\na|1\n", [["text", "label"], ["a", "1"]], "by pipes, not commas"),
        ("t.tsv", 'text,label\n"a,b",1\n', [["text", "label"], ["a,b", "1"]], "by commas, not tabs"),
        ("t.csv", "text,a|b|c\nx,y\n", [["text", "a|b|c"], ["x", "y"]], ""),
        ("t.tsv", 'text, raw\tlabel\n"a\tb"\n', [["text, raw", "label"], ['"a', 'b"']], ""),
        ("t.csv", "text\na\n", [["text"], ["a"]], ""),
    ],
)
def test_other_delimiters_are_detected_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, rows: list[list[str]], message: str
) -> None:
    assert read(tmp_path, text, name) == rows
    assert read(tmp_path, text, name) == rows
    assert capsys.readouterr().err == (f"{tmp_path / name}: the columns are separated {message}.\n" if message else "")


def test_duplicate_column_names_are_numbered() -> None:
    assert unique_names(["id", "text"]) == ["id", "text"]
    assert unique_names(["id", "text", "id", "id.1", "", ""]) == [
        "id.2", "text", "id.3", "id.1", "unnamed.1", "unnamed.2",
    ]  # fmt: skip


def test_many_columns_take_linear_time(tmp_path: Path) -> None:
    """With quadratic time, this would not end."""
    names = [f"c{i}" for i in range(300_000)]
    rows = read(tmp_path, f"{','.join(names)}\n{','.join('1' * len(names))}\n")
    assert rows == [names, ["1"] * len(names)]
    assert len(set(unique_names(names * 2))) == 600_000


def test_numbers_are_parsed() -> None:
    written = {"1": 1, "1.0": 1, "+1": 1, "-0.5": -0.5, ".5": 0.5, "5.": 5, "1e3": 1000, "1E-2": 0.01}
    assert {text: parse_number(text) for text in written} == written
    for text in ("2020_01", "3_5", "nan", "inf", "0x10", "007", "\u0663", "\uff11", "1,5", "", "-", ".", "1 2", "true"):
        assert parse_number(text) is None


def test_did_you_mean_suggests_only_other_names() -> None:
    assert did_you_mean("run::2024.jsonl", ["run::2024.jsonl", "else"]) == ""
    assert did_you_mean("reviw", ["reviw", "review"]) == " Did you mean 'review'?"
