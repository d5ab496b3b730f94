"""Accuracies on pairs as Markdown, CSV and JSON: percent for a person, fractions for a program."""

from __future__ import annotations

import csv
import json

from rich.console import Console

from bigs_cli.evaluation.pairs import Accuracy, accuracy_table, accuracy_text

LINES = [Accuracy("all", "all", 2000, 1500), Accuracy("field", "syntax", 4, 4)]


def test_every_format_has_the_same_values() -> None:
    markdown = accuracy_text(LINES, "markdown", {})
    assert markdown.splitlines() == [
        "| by | group | n | accuracy (%) | 95% interval |",
        "| --- | --- | ---: | ---: | ---: |",
        "| all | all | 2,000 | 75.0 | 73.1 to 76.8 |",
        "| field | syntax | 4 | 100.0 | 51.0 to 100.0 |",
    ]
    rows = list(csv.DictReader(accuracy_text(LINES, "csv", {}).splitlines()))
    assert [row["group"] for row in rows] == ["all", "syntax"]
    assert (float(rows[0]["accuracy"]), int(rows[0]["right"])) == (0.75, 1500)
    read = json.loads(accuracy_text(LINES, "json", {"task": "blimp"}))
    assert (read["task"], read["metrics"]) == ("blimp", {"accuracy": 0.75, "n": 2000})
    assert [float(row["low"]) for row in rows] == [row["low"] for row in read["groups"]]
    console = Console(width=100)
    with console.capture() as caught:
        console.print(accuracy_table(LINES, "BLiMP"))
    assert "73.1 to 76.8" in caught.get()
