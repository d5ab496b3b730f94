"""Multi-label classification: labels in lists or in cells with delimiters, metrics, and every command for models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.class_weight import compute_class_weight

from bigs_cli.checkpoints.config_json import read_config
from bigs_cli.core.errors import RequestError
from bigs_cli.models.losses import multi_label_sums
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.tasks.custom import custom_task, infer_labels
from bigs_cli.tasks.metrics import MULTI_LABEL
from bigs_cli.tasks.splits import load_examples
from bigs_cli.tasks.types import type_of
from tests.tasks.test_custom import write
from tests.tiny import DOCUMENTS, bigs

TOPICS = {"water": ("river", "sea", "lake", "harbour"), "stone": ("stone", "rock"), "town": ("town", "village")}


def rows(count: int) -> list[dict[str, Any]]:
    """Return sentences with the topics whose words they contain."""
    sentences = [part.strip() for text in DOCUMENTS for part in text.split(".") if part.strip()]
    texts = [f"{sentences[i % len(sentences)]} {sentences[i * 7 % len(sentences)]}" for i in range(count)]
    return [
        {"text": text, "topics": [name for name, of in TOPICS.items() if any(w in text for w in of)]} for text in texts
    ]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("topics")
    for split, of in (("train", rows(40)), ("dev", rows(20))):
        write(folder / f"{split}.jsonl", of)
        write(folder / f"{split}.parquet", of)
        write(folder / f"{split}.csv", [row | {"topics": " ; ".join([*row["topics"], ""])} for row in of])
    return folder


def files(folder: Path, form: str, **more: Any) -> TaskFiles:
    delimiter = {"delimiter": ";"} if form == "csv" else {}
    named = {split: str(folder / f"{split}.{form}") for split in ("train", "dev")}
    return TaskFiles(**named, **delimiter, label="topics", **more)


@pytest.fixture(scope="module")
def run(tables: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the table with lists. Do not modify it."""
    folder = tmp_path_factory.mktemp("runs") / "topics"
    words = ["--train", tables / "train.jsonl", "--dev", tables / "dev.jsonl", "--label", "topics"]
    sets = ["epochs=2", "batch_size=8", "sequence_length=24", "loss.class_weights=balanced", "loss.label_smoothing=0.1"]
    sets.append("files.threshold=0.48")
    done = bigs("finetune", *words, "--from", pretrained, "--run", folder, *(w for s in sets for w in ("--set", s)))
    assert "3 labels, 1.6 per text (stone 22, town 19, water 21): multi-label classification." in done.fine().err
    assert "micro F1" in done.err
    return folder


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_every_format_gives_the_same_labels(tables: Path, form: str) -> None:
    found, _ = infer_labels(files(tables, form))
    assert (found.task_type, found.labels) == ("multi-label", ("stone", "town", "water"))
    examples = load_examples(custom_task(found), "dev", None)
    assert [record["label"] for record in examples.records()] == [
        [("stone", "town", "water").index(name) for name in sorted(row["topics"])] for row in rows(20)
    ]


labels = st.lists(st.tuples(*[st.tuples(st.booleans(), st.booleans())] * 3), min_size=1, max_size=12)


@given(labels)
def test_metrics_match_scikit_learn(pairs: list[tuple[tuple[bool, bool], ...]]) -> None:
    both = np.array(pairs, bool)
    truth, found = both[..., 0], both[..., 1]
    for name, average in (("micro_f1", "micro"), ("macro_f1", "macro")):
        assert MULTI_LABEL[name](truth, found) == pytest.approx(
            f1_score(truth, found, average=average, zero_division=0)
        )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_balanced_weights_are_those_of_scikit_learn_for_each_label(pairs: list[tuple[bool, bool]]) -> None:
    sets = np.array(pairs, np.int32)
    kind = type_of(custom_task(TaskFiles(train="a", dev="a", task_type="multi-label", labels=("x", "y"))))
    for column, weights in zip(sets.T, kind.class_weights(sets), strict=True):
        present = np.unique(column)
        expected = compute_class_weight("balanced", classes=present, y=column) * len(present) / 2
        np.testing.assert_allclose(weights[present], expected)


def test_the_loss_is_the_mean_binary_cross_entropy() -> None:
    logits, targets = np.random.default_rng(0).normal(size=(2, 5, 3))
    labels = (targets > 0).astype(np.int32)
    total, sums = multi_label_sums(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray([1.0, 1, 1, 1, 0]))
    p = 1 / (1 + np.exp(-logits))
    expected = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))[:4].mean()
    assert float(total / sums["weight"]) == pytest.approx(expected, rel=1e-5)
    assert float(sums["accuracy"] / sums["weight"]) == pytest.approx(((logits > 0) == labels)[:4].mean(), rel=1e-5)
    smooth = jax.grad(lambda x: multi_label_sums(x, jnp.asarray(labels), jnp.ones(5), 0.2)[0])(jnp.asarray(logits))
    np.testing.assert_allclose(smooth, (p - (0.8 * labels + 0.1)) / 3, atol=1e-6)


def test_results_and_predictions_agree(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [line["label"] for line in lines] == [sorted(row["topics"]) for row in rows(20)]
    names = ("stone", "town", "water")
    for line in lines:
        assert line["prediction"] == [name for name in names if line["scores"][name] >= 0.48]
    truth, found = (np.array([[n in line[key] for n in names] for line in lines]) for key in ("label", "prediction"))
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert metrics == pytest.approx(
        {
            "micro_f1": f1_score(truth, found, average="micro", zero_division=0),
            "macro_f1": f1_score(truth, found, average="macro", zero_division=0),
            "accuracy": accuracy_score(truth, found),
        }
    )


def test_every_command_knows_the_labels(run: Path, tmp_path: Path) -> None:
    assert read_config(run / "config.json").multi_label
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    again = json.loads(bigs("eval", "--model", run, "--json").fine().out)
    assert again["metrics"] == pytest.approx(metrics)
    line = json.loads((run / "predictions.jsonl").read_text().splitlines()[0])
    answer = json.loads(bigs("predict", line["text"], "--model", run, "--format", "jsonl").fine().out)
    assert answer["prediction"] == line["prediction"]
    assert answer["scores"] == pytest.approx(line["scores"], abs=1e-5)
    assert "%" in bigs("predict", line["text"], "--model", run).fine().out
    bigs("runs", "report", run, "--output", tmp_path / "report.html").fine()
    assert "Most wrong labels" in (tmp_path / "report.html").read_text()
    assert "micro F1" in bigs("runs", "show", run).fine().out
    exported = tmp_path / "exported"
    bigs("export", "--model", run, "--format", "transformers", "--output", exported).fine()
    assert json.loads((exported / "config.json").read_text())["problem_type"] == "multi_label_classification"
    from_export = json.loads(
        bigs("predict", line["text"], "--model", exported, "--length", 24, "--format", "jsonl").fine().out
    )
    assert from_export["prediction"] == line["prediction"]
    assert from_export["scores"] == pytest.approx(line["scores"], abs=1e-5)
    further = tmp_path / "further"
    bigs("finetune", "--resume", "--run", run).fine()
    words = ["--train", run.parent / "none.jsonl", "--dev", run.parent / "none.jsonl"]
    assert bigs("finetune", *words, "--from", run, "--run", further).code == 2


def test_errors_name_the_cell(tables: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", [{"text": "a", "topics": ["x"]}, {"text": "b", "topics": []}])
    with pytest.raises(RequestError, match=r"needs at least two labels, but the only label in .* is 'x'"):
        infer_labels(TaskFiles(train=str(one), dev=str(one), label="topics"))
    none = write(tmp_path / "none.jsonl", [{"text": "a", "topics": []}])
    with pytest.raises(RequestError, match=r"at least two labels, but .* has no labels"):
        infer_labels(TaskFiles(train=str(none), dev=str(none), label="topics"))
    found, _ = infer_labels(files(tables, "jsonl"))
    odd = write(tmp_path / "odd.jsonl", [{"text": "a", "topics": ["stone", "sand"]}])
    with pytest.raises(RequestError, match=r"odd.jsonl.*'sand' is not a label"):
        load_examples(custom_task(found.model_copy(update={"dev": str(odd)})), "dev", None)
