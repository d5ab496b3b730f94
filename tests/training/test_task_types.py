"""Every other task type through the real entry point: a tiny model beats any constant prediction."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import bigs, finetune

FILLERS = ["the", "and", "of", "in", "to", "on", "for", "with", "house", "trees", "stone", "old", "people", "water"]
PLACES = ("river", "sea", "lake", "island", "harbour")
PEOPLE = ("teacher", "baker", "children")


def write_tagged(folder: Path) -> None:
    """Write sentences with places and persons, some of two words, whose tags do not depend on position."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 96), ("dev", 24), ("test", 24)):
        lines = []
        for _ in range(count):
            for _ in range(random.integers(3, 9)):
                draw = random.random()
                if draw < 0.25:
                    lines += [f"en:{random.choice(PLACES)}\tB-LOC", "en:north\tI-LOC"][: random.integers(1, 3)]
                elif draw < 0.5:
                    lines.append(f"en:{random.choice(PEOPLE)}\tB-PER")
                else:
                    lines.append(f"en:{random.choice(FILLERS)}\tO")
            lines.append("")
        (folder / split).write_text("\n".join(lines))


def write_questions(folder: Path, name: str, none: float) -> None:
    """Write questions whose answer is the only place in the text; a fraction `none` of the texts has no place."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 96), ("dev", 24)):
        paragraphs = []
        for number in range(count):
            words = [str(random.choice(FILLERS)) for _ in range(random.integers(6, 26))]
            answers: list[dict[str, Any]] = []
            if random.random() >= none:
                at = int(random.integers(0, len(words)))
                words[at] = str(random.choice(PLACES))
                answers = [{"text": words[at], "answer_start": len(" ".join([*words[:at], ""]))}]
            question = {
                "id": f"{split}-{number}",
                "question": "in water",
                "answers": answers,
                "is_impossible": not answers,
            }
            paragraphs.append({"context": " ".join(words), "qas": [question]})
        file = {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}
        (folder / f"{split}-{name}.json").write_text(json.dumps(file))


def write_choices(folder: Path) -> None:
    """Write examples whose correct ending is the one with a place."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for split, count in (("train", 96), ("dev", 24)):
        rows = []
        for _ in range(count):
            endings = [" ".join(random.choice(FILLERS, 4)) for _ in range(4)]
            right = int(random.integers(0, 4))
            endings[right] = f"{endings[right]} {random.choice(PLACES)}"
            rows.append("\t".join(["o", "the train", *endings, str(right)]))
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n")


def learned(task: str, start: Path, data: Path, tmp_path: Path, epochs: int, *more: str) -> tuple[dict[str, Any], Any]:
    """Fine-tune, check that `bigs eval` reproduces the metrics, and return results and predictions."""
    run = tmp_path / "run"
    sets = ("evaluate_every=1000", "optimizer.learning_rate=1e-2", f"epochs={epochs}", *more)
    options = [word for value in sets for word in ("--set", value)]
    bigs(*finetune(task, start, data, run, *options)).fine()
    results = json.loads((run / "results.json").read_text())
    again = json.loads(bigs("eval", task, "--model", run, "--data", data, "--json").fine().out)
    assert again["metrics"] == pytest.approx(results["metrics"])
    return results, [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def read_back(run: Path, confusion: bool) -> None:
    """Check that the report of a run, its comparison and its confusion matrix support this task type."""
    page = run.with_name("page.html")
    bigs("runs", "report", run, "--output", page).fine()
    shown = page.read_text().lower()
    results = json.loads((run / "results.json").read_text())
    assert all(f"{100 * value:.2f}" in shown for value in results["metrics"].values())
    assert "paired" in bigs("runs", "compare", run, run).fine().out
    picture = run.with_name("confusion.png")
    drawn = bigs("runs", "plot", "--confusion", run, "--output", picture)
    assert (drawn.code == 0) == picture.exists() == confusion
    assert confusion or "has no classes or scores" in drawn.err


def test_token_classification_learns(pretrained: Path, tmp_path: Path) -> None:
    write_tagged(tmp_path / "data")
    results, lines = learned("wikiann", pretrained, tmp_path / "data", tmp_path, 8)
    assert set(results["metrics"]) == {"f1", "precision", "recall", "accuracy"}
    assert results["metrics"]["f1"] > 0.9
    assert len(lines) == 24
    for line in lines:
        assert line["split"] == "dev"
        assert len(line["words"]) == len(line["label"]) == len(line["prediction"]) == len(line["scores"])
        assert set(line["prediction"]) <= {"O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"}
    read_back(tmp_path / "run", confusion=True)
    test = ("eval", "--model", tmp_path / "run", "--data", tmp_path / "data", "--split", "test")
    measured = json.loads(bigs(*test, "--json").fine().out)
    assert measured["split"] == "test"
    assert set(measured["metrics"]) == {"f1", "precision", "recall", "accuracy"}
    assert measured["splits"] == {"test": measured["metrics"]}
    words = [line for line in (tmp_path / "data" / "test").read_text().splitlines() if line]
    outside = sum(line.endswith("\tO") for line in words) / len(words)
    assert measured["baselines"] == {
        "test": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": pytest.approx(outside)}
    }
    shown = bigs(*test).fine()
    assert shown.out.startswith("WikiANN, test, in percent")
    assert re.search(
        rf"^accuracy +{100 * measured['metrics']['accuracy']:.2f} +{100 * outside:.2f} *$", shown.out, re.M
    )
    assert "The majority baseline for test always predicts “O”, the most frequent label." in shown.err


@pytest.mark.parametrize(("task", "name", "none"), [("squad", "v1.1", 0.0), ("squad2", "v2.0", 0.4)])
def test_question_answering_learns(pretrained: Path, tmp_path: Path, task: str, name: str, none: float) -> None:
    write_questions(tmp_path / "data", name, none)
    results, lines = learned(task, pretrained, tmp_path / "data", tmp_path, 12)
    assert set(results["metrics"]) == {"f1", "exact"}
    assert results["metrics"]["exact"] > 0.8
    assert len(lines) == 24
    assert np.mean([line["prediction"] in (line["label"] or [""]) for line in lines]) == results["metrics"]["exact"]
    for line in lines:
        assert 1 <= len(line["nbest"]) <= 20
        assert all(found["text"] in line["pair"] for found in line["nbest"])
        best = line["nbest"][0]
        unanswerable = task == "squad2" and line["null_score"] > best["score"]
        assert line["prediction"] == ("" if unanswerable else best["text"])
    assert (task == "squad2") == any(line["prediction"] == "" for line in lines)
    read_back(tmp_path / "run", confusion=False)


def test_multiple_choice_learns(pretrained: Path, tmp_path: Path) -> None:
    write_choices(tmp_path / "data")
    results, lines = learned("codah", pretrained, tmp_path / "data", tmp_path, 6, "head_init=unit")
    assert results["metrics"]["accuracy"] > 0.8
    assert np.mean([line["prediction"] == line["label"] for line in lines]) == results["metrics"]["accuracy"]
    assert all(int(np.argmax(line["scores"])) == line["prediction"] for line in lines)


def test_a_dry_run_shows_what_the_model_reads(pretrained: Path, tmp_path: Path) -> None:
    write_tagged(tmp_path / "tagged")
    write_questions(tmp_path / "questions", "v1.1", 0.0)
    write_choices(tmp_path / "choices")
    output = bigs(*finetune("wikiann", pretrained, tmp_path / "tagged", tmp_path / "run", "--dry-run")).fine().out
    first = next(line for line in (tmp_path / "tagged" / "train").read_text().splitlines())
    assert f"tokens → {first.split()[-1]} " in output
    output = bigs(*finetune("codah", pretrained, tmp_path / "choices", tmp_path / "run", "--dry-run")).fine().out
    assert output.count("[CLS] the train [SEP]") == 4
    assert f"{8 * 4 * 24:,} tokens each" in output
    short = ("--set", "sequence_length=16")
    output = (
        bigs(*finetune("squad", pretrained, tmp_path / "questions", tmp_path / "run", "--dry-run", *short)).fine().out
    )
    assert re.search(f"tokens → ({'|'.join(PLACES)})\n", output)
    steps = int(next(line for line in output.splitlines() if line.strip().startswith("steps")).split()[1])
    assert steps > 2 * 96 // 8  # long texts are split into windows
    assert not (tmp_path / "run").exists()


def test_recipes_for_large_models_are_not_suggested_to_small_ones(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    sets = ("--set", "epochs=0.2", "--set", "sequence_length=24", "--set", "trim_padding=true")
    words = ("finetune", "cola", "--from", pretrained, "--data", glue, *sets)
    large = bigs(*words, "--run", tmp_path / "large").fine()
    assert "The learning rate 2e-05 is for models of the published size" in large.err
    assert "Use: --recipe cola-small" in large.err
    small = bigs(*words, "--recipe", "cola-small", "--run", tmp_path / "small").fine()
    assert "published size" not in small.err
