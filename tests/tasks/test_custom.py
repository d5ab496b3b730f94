"""Custom tasks: training and evaluation on any table with a text and a label, and errors for invalid tables."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from bigs_cli.core.errors import RequestError
from bigs_cli.recipe import FinetuneRecipe, load_recipe
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.recipe.source import read_value
from bigs_cli.tasks.custom import custom_task, infer_labels
from bigs_cli.tasks.splits import load_examples
from bigs_cli.tasks.types.sequence_classification import TextExamples
from tests.tiny import bigs

ROWS = [
    {"review": 'a "good", long\nbook', "title": "one", "stars": 5},
    {"review": "a bad book", "title": "two", "stars": 1},
    {"review": "neither", "title": "three", "stars": 3},
    {"review": "good", "title": "four", "stars": 5},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    import csv

    if path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        text = "\n".join(json.dumps(row) for row in rows) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def files(path: Path, **more: Any) -> TaskFiles:
    return TaskFiles(train=str(path), dev=str(path), text="review", label="stars", **more)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.jsonl.gz", "t.parquet"])
def test_all_table_formats_give_the_same_examples(name: str, tmp_path: Path) -> None:
    found, what = infer_labels(files(write(tmp_path / name, ROWS), pair="title"))
    assert found.labels == ("1", "3", "5")
    assert what.startswith("3 classes (1 1, 3 1, 5 2): classification, since")
    task = custom_task(found)
    examples = load_examples(task, "dev")
    assert list(examples.records()) == [
        {"id": i, "text": row["review"], "pair": row["title"], "label": {5: 2, 1: 0, 3: 1}[row["stars"]]}
        for i, row in enumerate(ROWS)
    ]


def labelled(path: Path, labels: Iterable[Any]) -> Path:
    return write(path, [{"review": "x", "stars": label} for label in labels])


@pytest.mark.parametrize(
    ("labels", "proposed", "classes", "reason"),
    [
        ([0.5 * i for i in range(5)], "regression", None, "since some labels are not whole numbers"),
        (range(60), "regression", None, "since the labels are 60 different whole numbers in 60 rows"),
        ([i % 30 for i in range(60)], "sequence-classification", tuple(map(str, range(30))), "30 different whole"),
        (
            [float(i % 2) for i in range(4)],
            "sequence-classification",
            ("0", "1"),
            "2 different whole numbers in 4 rows",
        ),
        (["no", "yes", "no"], "sequence-classification", ("no", "yes"), "since the labels are not all numbers"),
        (
            ["10", "9", "none", 9],
            "sequence-classification",
            ("9", "10", "none"),
            "since the labels are not all numbers",
        ),
        ([f"intent_{i % 77}" for i in range(400)], "sequence-classification", ..., "77 classes (intent_0 6"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_task_type_is_proposed_and_can_be_chosen(
    tmp_path: Path, labels: Iterable[Any], proposed: str, classes: Any, reason: str, kind: str
) -> None:
    table = labelled(tmp_path / f"t.{kind}", labels)
    found, what = infer_labels(files(table))
    assert found.task_type == proposed
    assert found.labels == classes or classes is ...
    assert reason in what
    numbers = "not all numbers" not in what and "intent" not in what
    other = "classification" if proposed == "regression" else "regression"
    assert (f"pass --task-type {other}" in what) == numbers
    if numbers:
        chosen, what = infer_labels(files(table, task_type=other))
        assert chosen.task_type == {"classification": "sequence-classification"}.get(other, other)
        assert (chosen.labels is None) == (other == "regression")
        assert "since" not in what


def test_classes_with_few_examples_cause_a_warning(tmp_path: Path) -> None:
    assert "few" not in infer_labels(files(labelled(tmp_path / "a.csv", ["a", "b"] * 5)))[1]
    assert (
        "Classes with fewer than 5 examples: 2 (b, c)."
        in infer_labels(files(labelled(tmp_path / "b.csv", ["a"] * 5 + ["b"] * 4), labels=("a", "b", "c")))[1]
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("missing", [None, float("nan"), "", " ", "NaN", "null"])
def test_a_missing_label_is_refused_in_every_format(tmp_path: Path, kind: str, missing: Any) -> None:
    kept = str if isinstance(missing, str) else float  # a Parquet column has a single type
    table = labelled(tmp_path / f"t.{kind}", [kept(0.5), kept(1.5), missing, kept(2.25)])
    place = f"{table}, row 3" if kind == "parquet" else f"{table}:{3 if kind == 'jsonl' else 4}"
    for task_type in (None, "regression", "classification"):
        with pytest.raises(RequestError) as refused:
            infer_labels(files(table, task_type=task_type))
        assert f"{place} has no label" in str(refused.value)
    complete = labelled(tmp_path / f"u.{kind}", [0.5, 1.5])
    found, _ = infer_labels(TaskFiles(train=str(complete), dev=str(table), text="review", label="stars"))
    with pytest.raises(RequestError, match="has no label"):
        load_examples(custom_task(found), "dev")


def test_equal_labels_are_one_class_in_every_format(tmp_path: Path) -> None:
    written = {
        "csv": ["1", "1.0", "+1", "True", "2020_01", "-0", "007", "1e1"],
        "jsonl": [1, 1.0, "1", True, "2020_01", 0, "007", 10],
    }
    classes = ("0", "1", "10", "007", "2020_01", "true")
    ids = [1, 1, 1, 5, 4, 0, 3, 2]
    tables = {kind: labelled(tmp_path / f"t.{kind}", labels) for kind, labels in written.items()}
    tables["float.parquet"] = labelled(tmp_path / "float.parquet", [0.0, 1.0, 10.0])
    tables["integer.parquet"] = labelled(tmp_path / "integer.parquet", [0, 1, 10])
    tables["text.parquet"] = labelled(tmp_path / "text.parquet", ["0", "1.0", "10"])
    for train in ("csv", "jsonl"):
        for dev, table in tables.items():
            named = TaskFiles(train=str(tables[train]), dev=str(table), text="review", label="stars")
            found, _ = infer_labels(named)
            assert found.labels == classes
            examples = load_examples(custom_task(found), "dev")
            assert isinstance(examples, TextExamples)
            assert examples.labels is not None
            assert examples.labels.tolist() == (ids if dev in written else [0, 1, 2])


@pytest.mark.parametrize(
    ("labels", "task_type", "sentence"),
    [
        ([[1], [2]], "sequence-classification", ":1: the label is of type list ([1])"),
        ([{"a": 1}, 2], None, ":1: the label is of type object"),
        ([1.5, float("inf")], None, ":2: the label 'inf' is not a finite number"),
        ([1.5, "-Infinity"], None, ":2: the label '-Infinity' is not a finite number"),
        ([1.5, "2020_01"], "regression", ":2: the t.jsonl score '2020_01' is not a number"),
        ([1.5, "0x10"], "regression", ":2: the t.jsonl score '0x10' is not a number"),
    ],
)
def test_invalid_labels_are_refused(tmp_path: Path, labels: list[Any], task_type: str | None, sentence: str) -> None:
    table = labelled(tmp_path / "t.jsonl", labels)
    with pytest.raises(RequestError) as refused:
        infer_labels(files(table, task_type=task_type))
    assert f"{table}{sentence}" in str(refused.value)


def test_class_names_are_read_from_parquet(tmp_path: Path) -> None:
    features = datasets.Features(review=datasets.Value("string"), stars=datasets.ClassLabel(names=["no", "yes"]))
    rows = {"review": ["x", "y", "z"], "stars": [1, 0, 1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "t.parquet")
    found, what = infer_labels(files(tmp_path / "t.parquet"))
    assert (found.labels, what[:24]) == (("no", "yes"), "2 classes (no 1, yes 2):")
    assert [record["label"] for record in load_examples(custom_task(found), "dev").records()] == [1, 0, 1]


def test_a_class_only_in_the_dev_set_must_be_listed(tmp_path: Path) -> None:
    train, dev = labelled(tmp_path / "train.csv", "abab"), labelled(tmp_path / "dev.csv", "abc")
    named = {"train": str(train), "dev": str(dev), "text": "review", "label": "stars"}
    found, _ = infer_labels(TaskFiles(**named))
    with pytest.raises(RequestError) as refused:
        load_examples(custom_task(found), "dev")
    assert f"{dev}:4: 'c' is not a label of train.csv. Its labels are a, b." in str(refused.value)
    assert "files.labels" in str(refused.value)
    found, _ = infer_labels(TaskFiles(**named, labels=("c", "b", "a")))
    assert found.labels == ("c", "b", "a")
    assert len(load_examples(custom_task(found), "dev")) == 3


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"review": "x", "star": 1}], "has no column 'stars'. Did you mean 'star'?"),
        ([{"text": "x", "stars": 1}], "has no column 'review'"),
        ([{"review": 7, "stars": 1}], "contains 7, which is not text"),
        ([{"review": "x", "stars": 1}, {"review": "y", "stars": 1}], "Every label in"),
        ([{"review": "x", "stars": 1}, {"review": "y", "stars": None}], ":2 has no label"),
        ([{"review": "x", "stars": f"a{i}"} for i in range(60)], "60 different values"),
        ([{"review": "x", "stars": 1}, {"review": "y"}], ":2 has no column 'stars', unlike the rows before it"),
    ],
)
def test_invalid_tables_are_refused(rows: list[dict[str, Any]], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as refused:
        infer_labels(files(write(tmp_path / "t.jsonl", rows)))
    assert sentence in str(refused.value)


def test_files_that_are_not_tables_are_refused(tmp_path: Path) -> None:
    for name, text, sentence in (
        ("a.jsonl", "[1]\n", "a.jsonl:1 is not a JSON object"),
        ("b.jsonl", "{\n", "b.jsonl:1 is not JSON"),
        ("c.csv", "review,stars\nx,1,2\n", "c.csv:2 has 3 cells"),
        ("d.csv", "review,stars\n", "contains no rows"),
        ("e.doc", "x", "has an unknown format"),
        ("f.parquet", "x", "cannot be read as Parquet"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(RequestError) as refused:
            infer_labels(files(tmp_path / name))
        assert sentence in str(refused.value)
    with pytest.raises(RequestError, match="There is no file"):
        infer_labels(files(tmp_path / "absent.csv"))


def test_training_and_evaluation(pretrained: Path, tmp_path: Path) -> None:
    """Each class has a word that does not occur in the other."""
    random = np.random.default_rng(0)
    rows = [
        {"review": f"the {'river' if i % 2 else 'bread'} of {random.integers(9)}", "stars": i % 2} for i in range(48)
    ]
    train, dev = write(tmp_path / "train.csv", rows[:32]), write(tmp_path / "dev.csv", rows[32:])
    tiny = ("epochs=12", "batch_size=8", "sequence_length=16", "optimizer.learning_rate=1e-2", "evaluate_every=8")
    sets = [word for value in (*tiny, "patience=6") for word in ("--set", value)]
    columns = ("--text", "review", "--label", "stars")
    run = tmp_path / "run"
    done = bigs("finetune", "--train", train, "--dev", dev, *columns, "--from", pretrained, "--run", run, *sets).fine()
    assert "2 classes (0 16, 1 16): classification" in done.err
    results = json.loads((run / "results.json").read_text())
    assert results["metrics"]["accuracy"] >= 0.9
    assert {"recipe", "versions", "seed", "seconds", "data"} <= results.keys()
    assert results["history"][0]["step"] == 8
    if results["steps"] < 48:
        assert "Stopped early" in done.err
        assert len(results["history"]) - 1 - [e["step"] for e in results["history"]].index(results["step"]) == 6
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == [row["review"] for row in rows[32:]]
    right = sum(line["label"] == line["prediction"] for line in lines) / len(lines)
    assert right == results["metrics"]["accuracy"]
    again = json.loads(bigs("eval", "--model", run, "--json").fine().out)
    assert again["metrics"] == results["metrics"]
    fewer = write(tmp_path / "fewer.jsonl", rows[40:])
    written = tmp_path / "answers.jsonl"
    bigs("eval", "--model", run, "--data", fewer, "--predictions", written).fine()
    assert written.read_text().count("\n") == 8
    refused = bigs("finetune", "--train", train, *columns, "--from", pretrained, "--run", tmp_path / "none")
    assert (refused.code, (tmp_path / "none").exists()) == (2, False)
    assert "--dev FILE" in refused.err


def test_labels_such_as_no_and_yes_stay_words_in_cards_and_reports(pretrained: Path, tmp_path: Path) -> None:
    """YAML 1.1 reads them as false and true."""
    table = write(tmp_path / "table.csv", [{"review": f"text {i}", "stars": ("no", "yes")[i % 2]} for i in range(8)])
    run, model, page = tmp_path / "run", tmp_path / "model", tmp_path / "report.html"
    columns = ("--text", "review", "--label", "stars", "--set", "epochs=1", "--set", "sequence_length=8")
    bigs("finetune", "--train", table, "--dev", table, *columns, "--from", pretrained, "--run", run).fine()
    bigs("export", "--model", run, "--format", "flax", "--output", model).fine()
    block = (model / "README.md").read_text().split("```yaml\n")[1].split("```")[0]
    values, problems = read_value(block, "README.md")
    assert (values["files"]["labels"], problems) == (["no", "yes"], [])
    bigs("runs", "report", run, "--output", page).fine()
    assert "- no\n" in page.read_text()


def test_the_name_custom_has_any_case(pretrained: Path, tmp_path: Path) -> None:
    table = write(tmp_path / "table.csv", ROWS * 2)
    columns = ("--text", "review", "--label", "stars", "--set", "epochs=1", "--set", "sequence_length=8")
    options = ("--train", table, "--dev", table, *columns, "--from", pretrained, "--run", tmp_path / "runs")
    bigs("finetune", "Custom", *options, "--seeds", 2).fine()
    assert "accuracy" in bigs("eval", "Custom", "--model", tmp_path / "runs" / "seed-43").fine().out


RECIPE = """\
extends: _glue
task: custom
sequence_length: 16
files: {{train: {0}, dev: {0}, text: review, label: stars}}
"""


def resolved(*arguments: object) -> dict[str, Any]:
    """Return `files` of the recipe that a dry run shows."""
    shown = bigs("finetune", *arguments, "--dry-run").fine().out
    block = shown.split("\nfiles:\n")[1]
    lines = itertools.takewhile(lambda line: line.startswith(" "), block.splitlines())
    return yaml.safe_load("\n".join(lines))


def test_options_override_the_files_of_a_recipe(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"review": "the river", "title": "the bread", "stars": i % 3, "half": i / 2} for i in range(12)]
    table, other = write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", rows[1:])
    (tmp_path / "mine.yaml").write_text(RECIPE.format("a.csv"))
    start = ("--from", pretrained)
    whole = {"train": "a.csv", "dev": "a.csv", "test": None, "text": "review", "pair": None, "label": "stars"}
    whole |= {"task_type": "sequence-classification", "labels": ["0", "1", "2"], "delimiter": None, "threshold": 0.5}
    whole |= {"negative": None, "objective": None, "evaluation": None}
    assert resolved("custom", "--recipe", "mine.yaml", *start) == whole
    assert resolved("--recipe", "./mine.yaml", *start) == whole
    changed = resolved("--recipe", "mine.yaml", "--train", "b.csv", "--set", "files.pair=title", *start)
    assert changed == whole | {"train": "b.csv", "pair": "title"}
    scores = {"task_type": "regression", "labels": None}
    options = ("--recipe", "mine.yaml", "--set", "files.label=stars", "--label", "half", *start)
    assert resolved(*options) == whole | scores | {"label": "half"}
    named = ("--set", "files.text=review", "--set", "files.label=stars", "--train", table, "--dev", other, *start)
    assert resolved(*named) == whole | {"train": str(table), "dev": str(other)}
    assert resolved("custom", *named, "--task-type", "regression")["task_type"] == "regression"
    listed = ("--set", "files.labels=[2, 1, 0]", "--recipe", "mine.yaml", *start)
    assert resolved(*listed) == whole | {"labels": ["2", "1", "0"]}
    assert resolved(*listed, "--task-type", "regression") == whole | scores
    assert resolved(*listed, "--task-type", "classification") == whole | {"labels": ["2", "1", "0"]}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("custom",), "A custom task requires files: --train FILE --dev FILE, or `files`"),
        ((), "Name a task"),
        (
            ("--train", "a.csv"),
            "--train a.csv: 'files.dev' is missing (file with the dev set; command-line option: --dev FILE)",
        ),
        (("--dev", "a.csv"), "Also name its training set"),
        (("sst2", "--label", "stars"), "sst2 is a built-in task with its own files; --label is for custom tasks"),
        (("sst2", "--set", "files.train=a", "--set", "files.dev=b"), "sst2 is a built-in task with its own files"),
        (("custom", "--recipe", "sst2"), "requires files"),
        (
            ("mrpc", "--recipe", "mine.yaml"),
            "mrpc is a built-in task with its own files; `files` describes a custom task",
        ),
        (("--recipe", "mine.yaml", "--set", "files.task_type=scores"), "'files.task_type' should be"),
        (
            ("--recipe", "mine.yaml", "--set", "files.task_type=regression", "--set", "files.labels=[a]"),
            "files.task_type is regression, but files.labels lists classes",
        ),
        (
            ("--recipe", "mine.yaml", "--task-type", "classification", "--delimiter", ";"),
            "files.delimiter separates the labels of a text, but the task type is sequence-classification",
        ),
        (
            (
                *("--recipe", "mine.yaml", "--set", "schedule.kind=wsd"),
                *("--set", "schedule.warmup_fraction=0.5", "--set", "schedule.decay_fraction=0.8"),
            ),
            "The warmup and the decay overlap: warmup_fraction 0.5 and decay_fraction 0.8 are more than all steps",
        ),
        (("--recipe", "mine.yaml", "--label", "star"), "has no column 'star'. Did you mean 'stars'?"),
    ],
)
def test_incompatible_files_and_tasks_are_refused(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.csv", [{"review": "the river", "stars": i % 3} for i in range(6)])
    (tmp_path / "mine.yaml").write_text(RECIPE.format("a.csv"))
    done = bigs("finetune", *arguments, "--from", pretrained)
    assert (done.code, done.out, (tmp_path / "runs").exists()) == (2, "", False)
    assert sentence in done.err


@pytest.mark.parametrize(
    ("older", "task_type"),
    [
        ({"regression": True, "labels": None}, "regression"),
        ({"regression": False, "labels": ["False", "True"]}, "sequence-classification"),
        ({"regression": False}, None),
        ({"task_type": "classification"}, "sequence-classification"),
    ],
)
def test_recipes_of_earlier_runs_can_be_read(tmp_path: Path, older: dict[str, Any], task_type: str | None) -> None:
    table = labelled(tmp_path / "t.jsonl", [True, False] if "labels" in older else [1, 0])
    named = {"train": str(table), "dev": str(table), "text": "review", "label": "stars"}
    (tmp_path / "mine.yaml").write_text(
        f"extends: _glue\ntask: custom\nsequence_length: 16\nfiles: {json.dumps(named | older)}\n"
    )
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert isinstance(recipe, FinetuneRecipe)
    assert recipe.files is not None
    assert recipe.files.task_type == task_type
    if older.get("labels"):
        examples = load_examples(custom_task(recipe.files), "dev")
        assert isinstance(examples, TextExamples)
        assert examples.labels is not None
        assert examples.labels.tolist() == [1, 0]
