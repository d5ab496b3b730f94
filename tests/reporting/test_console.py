"""Tables and progress bars: full width on a pipe, bars only on a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
import threading

from bigs_cli.reporting import console
from bigs_cli.reporting.scores import Baseline, Scores, scores_table
from bigs_cli.tasks import get_task

BARS = """
from bigs_cli.reporting.console import err, progress
with progress("outer", 4, "step") as advance:
    advance(1)
    with progress("inner", 2, "example") as more:
        more(2)
    err.print("a line")
    advance(3)
"""


def printed(value: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        console.out.print(value)
    return out.getvalue()


def test_piped_output_is_not_wrapped_or_formatted() -> None:
    path = "/".join(["a-long-folder"] * 20)
    table = console.table("", "run", "result", right=("result",))
    table.add_row(path, "[bold]1[/bold] :smile:")
    assert f"{path}  [bold]1[/bold] :smile:" in printed(table)


def test_scores_table_includes_published_scores() -> None:
    metrics, always = {"accuracy": 0.5, "f1": 0.25}, Baseline("equivalent", {"accuracy": 0.6, "f1": 0.75})
    scores = Scores({"dev": metrics}, {"dev": always})
    title, header, *rows = printed(scores_table(get_task("mrpc"), scores)).splitlines()
    assert title.strip() == "MRPC, dev, in percent"
    assert [word for word in header.split() if word.isdigit()] == ["512", "512", "128"]
    assert [row.split() for row in rows] == [
        ["accuracy", "50.00", "60.00", "83.3", "80.4", "82.4"],
        ["F1", "25.00", "75.00", "88.3", "86.3", "87.5"],
    ]


def test_scores_of_a_test_set_have_no_published_scores() -> None:
    scores = Scores({"test": {"accuracy": 0.5, "f1": None}}, {})
    assert [line.split() for line in printed(scores_table(get_task("mrpc"), scores)).splitlines()] == [
        ["MRPC,", "test,", "in", "percent"],
        ["metric", "this", "model"],
        ["accuracy", "50.00"],
        ["F1", "–"],
    ]


def test_output_to_a_terminal_with_zero_columns() -> None:
    run = [sys.executable, "-c", "from bigs_cli.reporting.console import out; out.print('a line')"]
    done = subprocess.run(run, env=os.environ | {"COLUMNS": "0"}, capture_output=True, text=True, check=True)
    assert done.stdout == "a line\n"


def test_nested_progress_bars_are_drawn_on_a_terminal() -> None:
    reader, writer = pty.openpty()
    text: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while block := os.read(reader, 4096):
                text.append(block)

    thread = threading.Thread(target=read)
    thread.start()
    done = subprocess.run([sys.executable, "-c", BARS], stderr=writer, stdout=subprocess.PIPE, check=False)
    os.close(writer)
    thread.join()
    os.close(reader)
    shown = b"".join(text).decode()
    assert (done.returncode, done.stdout) == (0, b""), shown
    assert "outer" in shown
    assert "step/s" in shown
    assert "a line" in shown


def test_no_progress_bars_without_a_terminal() -> None:
    done = subprocess.run([sys.executable, "-c", BARS], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "a line\n")


def test_sparkline_scales_from_lowest_to_highest() -> None:
    assert console.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert console.sparkline([7, 0]) == "█▁"
    assert console.sparkline([7, 6], low=0) == "█▇"


def test_sparkline_averages_many_values() -> None:
    assert console.sparkline([0, 0, 7, 7, 0, 7], width=3) == "▁█▅"
    assert len(console.sparkline(list(range(1001)), width=28)) == 28


def test_sparkline_of_few_or_equal_values() -> None:
    assert console.sparkline([]) == ""
    assert console.sparkline([3]) == "▅"
    assert console.sparkline([2, 2, 2]) == "▅▅▅"


def test_sparkline_marks_nonfinite_values() -> None:
    assert console.sparkline([0, float("nan"), 7, float("inf"), float("-inf")]) == "▁×█××"
    assert console.sparkline([float("nan")] * 2) == "××"
