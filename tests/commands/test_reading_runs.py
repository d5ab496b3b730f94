"""Reading results: comparisons of fine-tuning runs by example, plots, and reports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import yaml

from bigs_cli import load_model
from bigs_cli.tasks import get_task
from tests.tiny import HANG, bigs, finetune, snapshot

VOID = {"meta", "br", "img", "link"}
HOSTILE = """<script>document.title = "run"</script><img src=x onerror="document.title = 'run'">"""


@pytest.fixture(scope="module")
def made(pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: base, mrpc, other (mrpc with another seed in its recipe), stsb. Do not modify it."""
    root = tmp_path_factory.mktemp("made")
    shutil.copytree(pretrained, root / "base")
    bigs(*finetune("mrpc", pretrained, glue, root / "mrpc")).fine()
    shutil.copytree(root / "mrpc", root / "other")
    recipe = root / "other" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 42", "seed: 1"))
    bigs(*finetune("stsb", pretrained, glue, root / "stsb")).fine()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` as $BIGS_RUNS; the working folder is empty."""
    shutil.copytree(made, tmp_path / "all")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path / "all"))
    return tmp_path / "all"


def predictions(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def write_predictions(run: Path, lines: list[dict[str, Any]]) -> None:
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def answer_alternately(run: Path) -> list[dict[str, Any]]:
    """Make the predictions of a run alternately wrong and right; return its lines."""
    lines = predictions(run)
    names = get_task("mrpc").labels
    assert names is not None
    for i, line in enumerate(lines):
        line["prediction"] = line["label"] if i % 2 else names[names[0] == line["label"]]
    write_predictions(run, lines)
    return lines


# --- compare ------------------------------------------------------------------------------------------------


def test_compare_tests_two_fine_tuning_runs_and_shows_differing_examples(root: Path) -> None:
    mine, other = predictions(root / "mrpc"), answer_alternately(root / "other")
    done = bigs("runs", "compare", "mrpc", "other", "--examples", 3).fine()
    assert done.err == ""
    right = [(a["label"] == a["prediction"], b["label"] == b["prediction"]) for a, b in zip(mine, other, strict=True)]
    counts = {
        "both correct": right.count((True, True)),
        "only mrpc correct": right.count((True, False)),
        "only other correct": right.count((False, True)),
        "both wrong": right.count((False, False)),
    }
    for name, count in counts.items():
        assert re.search(rf"^{name} +{count} +{100 * count / len(right):.1f}%$", done.out, re.M), done.out
    assert re.search(r"^accuracy  McNemar, exact  ", done.out, re.M)
    differing = [(a, b) for a, b in zip(mine, other, strict=True) if a["prediction"] != b["prediction"]]
    assert f"different predictions, 3 of {len(differing)}" in done.out
    shown = done.out[done.out.index("different predictions") :].splitlines()[2:]
    assert [line.split()[0] for line in shown] == [str(a["id"]) for a, _ in differing[:3]]
    for line, (a, b) in zip(shown, differing, strict=False):
        assert line.split()[-3:] == [a["label"], a["prediction"], b["prediction"]]
        assert a["text"][:20] in line
        assert a["pair"][:20] in line
    assert "different predictions" not in bigs("runs", "compare", "mrpc", "other", "--examples", 0).fine().out


def test_compare_of_regression_runs_is_a_paired_bootstrap(root: Path) -> None:
    shutil.copytree(root / "stsb", root / "stsb-2")
    lines = predictions(root / "stsb-2")
    write_predictions(root / "stsb-2", [{**line, "prediction": line["label"] + 0.01} for line in lines])
    shown = bigs("runs", "compare", "stsb", "stsb-2").fine().out
    assert re.search(r"^Spearman correlation  paired bootstrap  +\S+ +100\.00 ", shown, re.M)
    assert re.search(rf"^stsb-2 closer +{len(lines)} +100\.0%$", shown, re.M)


def test_compare_says_why_there_is_no_paired_test(root: Path) -> None:
    lines = predictions(root / "other")
    write_predictions(root / "other", lines[1:])
    done = bigs("runs", "compare", "mrpc", "other").fine()
    assert "mrpc and other were not evaluated on the same dev examples (13 and 12): no paired test." in done.err
    assert "dev accuracy" in done.out
    assert "McNemar" not in done.out
    (root / "other" / "predictions.jsonl").write_text("{")
    assert "predictions.jsonl is not JSON lines" in bigs("runs", "compare", "mrpc", "other").fine().err
    (root / "other" / "predictions.jsonl").unlink()
    assert "has no predictions.jsonl" in bigs("runs", "compare", "other", "mrpc").fine().err
    for names in (("base", "mrpc"), ("mrpc", "stsb"), ("base", root / "base")):
        done = bigs("runs", "compare", *names).fine()
        assert done.err == ""
        assert "paired" not in done.out


def test_compare_of_a_run_with_itself_and_of_several(root: Path) -> None:
    shown = bigs("runs", "compare", "mrpc", root / "mrpc").fine().out
    assert "+0.00 to +0.00  1.0000" in shown
    assert "different predictions" not in shown
    assert bigs("runs", "compare", "mrpc", "other", "base", "mrpc").fine().out.count("paired tests") == 2


def test_texts_are_truncated_and_control_characters_escaped(root: Path) -> None:
    for run in ("mrpc", "other"):
        lines = answer_alternately(root / run)
        lines[0] |= {"text": "\x1b[31m" + "long " * 100, "label": "equivalent", "prediction": "equivalent"}
        write_predictions(root / run, lines)
    lines = predictions(root / "other")
    write_predictions(root / "other", [{**lines[0], "prediction": "not_equivalent"}, *lines[1:]])
    shown = bigs("runs", "compare", "mrpc", "other").fine().out
    assert "\x1b" not in shown
    assert "\\x1b[31mlong" in shown
    assert max(map(len, shown[shown.index("different predictions") :].splitlines())) < 160


# --- plot ---------------------------------------------------------------------------------------------------


def drawn(path: Path) -> np.ndarray[Any, Any]:
    """Return the pixels of a PNG, and check that it has a readable size and is not blank."""
    assert path.read_bytes().startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(path)[..., :3]
    height, width, _ = pixels.shape
    assert 300 < width < 4000
    assert 300 < height < 4000
    inked = (pixels < 0.9).any(-1).mean()
    assert 0.005 < inked < 0.9
    return pixels


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (("--validation-curve", "mrpc"), "validation-curve.png"),
        (("--validation-curve", "mrpc", "other"), "validation-curve.png"),
        (("--confusion", "mrpc"), "confusion.png"),
        (("--confusion", "stsb"), "confusion.png"),
        (("--kernels", "base"), "kernels.png"),
        (("--kernels", "mrpc", "--length", 5), "kernels.png"),
    ],
)
def test_plots_are_written(root: Path, arguments: tuple[str, ...], file: str) -> None:
    before = snapshot(root)
    assert bigs("runs", "plot", *arguments).fine().out == f"{file}\n"
    drawn(Path(file))
    assert bigs("runs", "plot", *arguments, "-o", "new/it.svg").fine().out == "new/it.svg\n"
    assert Path("new/it.svg").read_text().startswith("<?xml")
    assert snapshot(root) == before


def test_a_confusion_matrix_counts_the_predictions_of_the_run(root: Path) -> None:
    lines = answer_alternately(root / "mrpc")
    bigs("runs", "plot", "--confusion", "mrpc", "-o", "it.svg").fine()
    text = Path("it.svg").read_text()
    right = sum(line["label"] == line["prediction"] for line in lines)
    most, count = Counter(line["label"] for line in lines).most_common(1)[0]
    assert f">mrpc: MRPC, dev, {len(lines)} examples<" in text
    baseline = f"majority baseline, always “{most}”: {100 * count / len(lines):.1f}%"
    assert f">{100 * right / len(lines):.1f}% correct; {baseline}<" in text
    for label in ("equivalent", "not_equivalent"):
        assert f">{sum(line['label'] == label for line in lines)} in total<" in text


def test_kernels_of_any_model_are_plotted_up_to_its_maximum_length(root: Path) -> None:
    load_model(root / "base").save_pretrained("folder")
    for model in ("folder", "base"):
        bigs("runs", "plot", "--kernels", model, "-o", f"{model}.svg").fine()
        assert all(f">{text}<" in Path(f"{model}.svg").read_text() for text in ("layer 0", "layer 1", "31"))
    bigs("runs", "plot", "--kernels", "base", "--length", 9, "-o", "it.svg").fine()
    assert ">8<" in Path("it.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--confusion", "base"), "base is a pretraining run, which has no labels"),
        (("--confusion", "mrpc", "other"), "--confusion plots a single run; 2 were named"),
        (("--kernels", "base", "mrpc"), "--kernels plots a single run; 2 were named"),
        (("--kernels", "nothing"), "There is no model 'nothing'"),
        (("--kernels", "--confusion", "mrpc"), "Use only one of --confusion and --kernels"),
        (
            ("--validation-curve", "mrpc", "stsb"),
            "--validation-curve applies only to fine-tuning runs of the same task",
        ),
        (("--validation-curve", "base"), "--validation-curve applies only to fine-tuning runs of the same task"),
        (("mrpc", "--length", 8), "--length applies only to --kernels"),
        (("--kernels", "base", "-o", "it.jpg"), "it.jpg ends in neither .png nor .svg"),
    ],
)
def test_invalid_plot_requests_are_refused(root: Path, arguments: tuple[str, ...], message: str) -> None:
    done = bigs("runs", "plot", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not list(Path().iterdir())


def test_a_run_without_predictions_has_no_confusion_matrix(root: Path) -> None:
    lines = predictions(root / "mrpc")
    write_predictions(root / "mrpc", [{**line, "split": "test"} for line in lines])
    assert "contains no predictions of the dev set" in bigs("runs", "plot", "--confusion", "mrpc").err
    write_predictions(root / "mrpc", [{**line, "label": "maybe"} for line in lines])
    assert "'maybe' is not one of its labels" in bigs("runs", "plot", "--confusion", "mrpc").err
    (root / "mrpc" / "predictions.jsonl").unlink()
    assert "has no predictions.jsonl: it was not evaluated" in bigs("runs", "plot", "--confusion", "mrpc").err


# --- report -------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """A parsed HTML page: the elements in order and their texts; all elements must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[str]:
        """Return the texts directly in elements with this tag."""
        return [text for inside, text in self.texts if inside == tag]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def report(*arguments: object) -> Page:
    """Write a report, check that it loads nothing and runs no script, and parse it."""
    assert bigs("runs", "report", *arguments, "-o", "new/it.html").fine().out == "new/it.html\n"
    page = Page(Path("new/it.html").read_text(encoding="utf-8"))
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "img", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png"))
    style = "".join(page.all("style"))
    assert "@import" not in style
    assert "url(" not in style
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    places = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert places <= {f"#{place}" for place in ids}
    return page


def test_report_on_one_fine_tuning_run(root: Path) -> None:
    before = snapshot(root)
    page = report("mrpc")
    assert page.all("h1") == ["Run mrpc"]
    assert page.all("h3") == ["Results", "Training curves", "Predictions on the dev set", "Convolution kernels"]
    assert page.count("figure") == page.count("svg") == 3
    assert page.all("summary") == ["Training curves as a table", "Environment", "Full recipe"]
    cells = page.all("td")
    result = json.loads((root / "mrpc" / "results.json").read_text())["metrics"]
    assert {f"{100 * result['accuracy']:.2f}", "83.3", "finished", "fine-tuning on MRPC"} <= set(cells)
    recipe = yaml.safe_load((root / "mrpc" / "recipe.yaml").read_text())
    assert yaml.safe_load(page.all("pre")[-1]) == {**recipe, "from": "base"}
    assert not [text for _, text in page.texts if str(root) in text or str(root.parent) in text]
    assert any(
        text.startswith("These are the scores of the best") and "majority baseline" in text for text in page.all("p")
    )
    assert any("jaxlib" in text for text in page.all("pre"))
    wrong = [line for line in predictions(root / "mrpc") if line["label"] != line["prediction"]]
    assert sum(f"{line['text']} │ {line['pair']}" in cells for line in wrong) == min(10, len(wrong)) > 0
    assert snapshot(root) == before


def test_report_on_several_runs_compares_those_of_one_task(root: Path) -> None:
    answer_alternately(root / "other")
    page = report("mrpc", "other", "stsb", "base", "--examples", 2)
    assert page.all("h1") == ["Runs mrpc, other, stsb, base"]
    assert page.all("h2") == ["mrpc", "other", "stsb", "base", "MRPC, compared"]
    assert page.all("a") == ["mrpc", "other", "stsb", "base", "MRPC, compared"]
    assert "mrpc and other on the same examples" in page.all("h3")
    assert "McNemar, exact" in page.all("td")
    assert "only other correct" in page.all("td")
    assert page.count("svg") == 3 + 3 + 3 + 2 + 1
    assert sum("Wrong with the highest probability: 2 of" in text for text in page.all("caption")) == 2
    twice = report("base", root / "base")
    assert twice.all("h1") == ["Run base"]


def test_report_on_unfinished_runs(root: Path) -> None:
    for run in ("base", "mrpc"):
        (root / run / "results.json").unlink()
        shutil.rmtree(root / run / "checkpoints")
    shutil.rmtree(root / "mrpc" / "best")
    (root / "mrpc" / "predictions.jsonl").unlink()
    (root / "mrpc" / "metrics.jsonl").unlink()
    page = report("base", "mrpc", "other")
    assert "not finished, before its first step" in page.all("td")
    assert page.count("svg") == 1 + 0 + 3 + 1
    assert any("has no predictions.jsonl" in text for text in page.all("p"))
    assert "data: not known before a run is finished" not in page.all("caption")
    (root / "other" / "results.json").unlink()
    assert "data: not known before a run is finished" in report("mrpc", "other").all("caption")


def hostile_runs(root: Path) -> list[Path]:
    """Two runs with markup wherever data can contain it."""
    runs = [root / "<script>x&amp;", root / "other"]
    (root / "mrpc").rename(runs[0])
    for run in runs:
        lines = answer_alternately(run)
        write_predictions(run, [{**line, "text": HOSTILE, "id": HOSTILE} for line in lines])
        environment = json.loads((run / "environment.json").read_text())
        (run / "environment.json").write_text(json.dumps(environment | {"command": [HOSTILE], HOSTILE: run.name}))
        with (run / "recipe.yaml").open("a") as file:
            file.write(f"# {HOSTILE}\n")
    lines = predictions(runs[1])
    write_predictions(runs[1], [{**line, "prediction": "equivalent"} for line in lines])
    return runs


def test_report_escapes_text_from_data(root: Path) -> None:
    page = report(*hostile_runs(root))
    assert any(HOSTILE in text for text in page.all("td"))
    assert sum(json.dumps(HOSTILE) in text for text in page.all("pre")) == 2
    assert "<script>x&amp;" in page.all("h2")
    written = Path("new/it.html").read_text()
    assert "<script" not in written
    assert "<img" not in written
    assert "default-src 'none'" in written.split("<title>")[0]


def test_a_browser_shows_the_report_and_runs_no_script(root: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine's PATH")
    report(*hostile_runs(root))
    page = Path("new/it.html").resolve().as_uri()
    headless = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,3000"]
    shown = subprocess.run([*headless, "--dump-dom", page], capture_output=True, text=True, check=True, timeout=HANG)
    assert "<title>Runs &lt;script&gt;x&amp;amp;, other</title>" in shown.stdout
    assert shown.stdout.count("<svg") == 7
    subprocess.run([*headless, "--screenshot=it.png", page], capture_output=True, check=True, timeout=HANG)
    drawn(Path("it.png"))


def test_a_report_that_cannot_be_written_is_refused(root: Path) -> None:
    for output, message in (
        ("it.pdf", "it.pdf is not an .html file"),
        ("file/it.html", "file/it.html cannot be written"),
    ):
        Path("file").touch()
        done = bigs("runs", "report", "mrpc", "-o", output)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    assert "There is no run 'nothing'" in bigs("runs", "report", "nothing").err
