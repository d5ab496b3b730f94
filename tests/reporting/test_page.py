"""HTML pages on a narrow screen: tables scroll separately, and no word is broken."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bigs_cli.evaluation.paired import example_table
from bigs_cli.reporting.page import CSS, details, element, html_table, page
from bigs_cli.reporting.scores import Baseline, Scores, scores_table
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from tests.tiny import HANG

TEXT = "Responsibilities of internationalization committees were redistributed unceremoniously among shareholders"
MEASURE = """
const broken = [], nodes = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
while (nodes.nextNode()) {
  for (const word of nodes.currentNode.data.matchAll(/[^\\s]+/g)) {
    const range = document.createRange();
    range.setStart(nodes.currentNode, word.index);
    range.setEnd(nodes.currentNode, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map(box => Math.round(box.top))).size > 1) broken.push(word[0]);
  }
}
const found = document.createElement("output");
found.textContent = JSON.stringify({broken, widest: document.documentElement.scrollWidth});
document.body.append(found);
"""


def narrow() -> str:
    """A page with the tables of a report: scores, long texts, tagged words, a recipe."""
    scores = Scores({"dev": {"accuracy": 0.5, "f1": 0.25}}, {"dev": Baseline("equivalent", {"accuracy": 0.6})})
    line = {"id": 1234, "text": TEXT, "label": "not_equivalent", "prediction": "equivalent"}
    tagged = {"words": TEXT.split(), "label": ["B-ORG"] * 9, "prediction": ["I-ORG"] * 9}
    return page(
        "Run mrpc",
        element("h1", "Run mrpc"),
        html_table(scores_table(get_task("mrpc"), scores)),
        html_table(
            example_table(
                type_of(get_task("mrpc")), "Wrong", [[line]], ["prediction"], further={"probability": ["97.6%"]}
            )
        ),
        html_table(
            example_table(
                type_of(get_task("wikiann")),
                "Most wrong tags",
                [[tagged]],
                ["prediction"],
                further={"wrong tags": ["9"]},
            )
        ),
        details("Recipe", element("pre", f"from: {'x' * 200}")),
    )


def test_lines_of_adjacent_cells_are_aligned() -> None:
    assert f'<td class="text">{TEXT}</td>' in narrow()
    assert '<td class="lines">Responsibilities\nof\n' in narrow()
    assert '<td class="lines">B-ORG\nB-ORG\n' in narrow()


def test_columns_are_at_least_as_wide_as_their_words() -> None:
    rules = {selector.strip(): body for selector, body in re.findall(r"([^{}]+){([^{}]*)}", CSS)}
    assert "overflow-x: auto" in rules[".wide"]
    assert "white-space: pre" in rules[".lines"]
    assert "overflow-wrap: break-word" in rules["td"]  # "anywhere" would let a column be narrower than its words.
    assert "word-break" not in CSS


def test_a_narrow_screen_breaks_no_words_and_does_not_overflow(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine's PATH")
    text = re.sub("<meta http-equiv[^>]*>", "", narrow()).replace("<details>", "<details open>")
    file = tmp_path / "measured.html"
    file.write_text(text.replace("</body>", f"<script>{MEASURE}</script></body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,2000", "--dump-dom"]
    options += [f"--user-data-dir={tmp_path / 'browser'}", "--no-first-run", "--disable-background-networking"]
    shown = subprocess.run([browser, *options, file.as_uri()], capture_output=True, text=True, check=True, timeout=HANG)
    measured = json.loads(re.findall(r"<output>(.*?)</output>", shown.stdout, re.S)[0])
    assert measured["widest"] <= 500
    assert measured["broken"] == []
