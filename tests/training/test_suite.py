"""The GLUE suite with several seeds: start models, resuming, the table of results, and submission."""

from __future__ import annotations

import csv
import io
import json
import statistics
import zipfile
from pathlib import Path

import pytest

from bigs_cli.core.errors import BigsError
from bigs_cli.evaluation.submission import PARTS, part_lines, write_submission
from bigs_cli.recipe import FinetuneRecipe, load_recipe
from bigs_cli.tasks import TASKS
from tests.tiny import bigs, snapshot

SETS = ("epochs=1", "batch_size=8", "eval_batch_size=8", "sequence_length=24", "optimizer.learning_rate=3e-3")


@pytest.fixture(scope="module")
def suite(pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with two seeds of all available tasks. Do not modify it."""
    root = tmp_path_factory.mktemp("suite") / "glue"
    sets = [word for value in SETS for word in ("--set", value)]
    command = ["finetune", "glue", "--from", pretrained, "--data", glue, "--run", root, "--seeds", 2, *sets]
    done = bigs(*command).fine()
    assert done.out == f"{root}\n"
    assert ": SST-2, RTE, QQP, QNLI, WNLI." in done.err
    return root


def test_some_tasks_start_from_the_best_mnli_run(suite: Path, pretrained: Path) -> None:
    best = json.loads((suite / "mnli" / "seeds.json").read_text())["best"]
    starts = {}
    for task in ("cola", "mnli", "mrpc", "stsb"):
        recipe = load_recipe(str(suite / task / "seed-43" / "recipe.yaml"))
        assert isinstance(recipe, FinetuneRecipe)
        starts[task] = recipe.from_
        assert recipe.seed == 43
    own = str(suite / "mnli" / best)
    assert starts == {"cola": str(pretrained), "mnli": str(pretrained), "mrpc": own, "stsb": own}


def test_seeds_are_summarized(suite: Path) -> None:
    summary = json.loads((suite / "cola" / "seeds.json").read_text())
    values = [
        json.loads((suite / "cola" / f"seed-{seed}" / "results.json").read_text())["metrics"]["matthews"]
        for seed in (42, 43)
    ]
    figures = summary["metrics"]["matthews"]
    assert summary["seeds"] == [42, 43]
    assert figures["values"] == values
    assert figures["mean"] == pytest.approx(statistics.fmean(values))
    assert figures["std"] == pytest.approx(statistics.stdev(values))
    assert summary["best"] == f"seed-{42 + values.index(max(values))}"
    low, high = figures["interval"]
    assert low <= figures["mean"] <= high


def test_the_suite_table_includes_published_scores(suite: Path) -> None:
    shown = bigs("eval", "glue", "--model", suite).fine().out
    assert "CoLA" in shown
    assert "67.9" in shown
    lines = json.loads(bigs("eval", "glue", "--model", suite, "--json").fine().out)
    names = [(line["task"], line["split"], line["metric"]) for line in lines]
    assert {("MNLI", "dev", "accuracy"), ("MNLI", "dev_mismatched", "accuracy")} <= set(names)
    cola = lines[names.index(("CoLA", "dev", "matthews"))]
    assert cola["baseline"] == 0.0
    mrpc = lines[names.index(("MRPC", "dev", "accuracy"))]
    assert 0.5 <= mrpc["baseline"] < 1
    assert lines[names.index(("STS-B", "dev", "spearman"))]["baseline"] is None
    assert cola["published"] == {"512": 0.679, "512 freeze": 0.6603, "128": 0.655}
    assert cola["difference"]["512"] == pytest.approx(cola["mean"] - 0.679)
    rows = list(csv.DictReader(io.StringIO(bigs("eval", "glue", "--model", suite, "--format", "csv").fine().out)))
    assert [(row["task"], row["split"], row["metric"]) for row in rows] == names
    assert float(rows[names.index(("MRPC", "dev", "accuracy"))]["baseline"]) == mrpc["baseline"]
    assert float(rows[0]["difference 512"]) == pytest.approx(cola["difference"]["512"])
    markdown = bigs("eval", "glue", "--model", suite, "--format", "markdown").fine().out.splitlines()
    assert len(markdown) == len(lines) + 2
    assert [line.split(" | ")[0] for line in markdown if "MNLI" in line] == ["| MNLI", "| MNLI mismatched"]
    assert {line.count("|") for line in markdown} == {9}


def test_a_suite_resumes_where_it_stopped(suite: Path, pretrained: Path, glue: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "glue"
    shutil.copytree(suite, root)
    (root / "stsb" / "seeds.json").unlink()
    (root / "stsb" / "seed-43" / "results.json").unlink()
    rejected = bigs("finetune", "glue", "--from", pretrained, "--data", glue, "--run", root)
    assert (rejected.code, rejected.out) == (2, "")
    assert "--resume" in rejected.err
    for option, other in (("--recipe", "128"), ("--from", suite / "cola" / "seed-42")):
        before = snapshot(root)
        differs = bigs("finetune", "glue", "--run", root, "--resume", option, other)
        assert (differs.code, differs.out, snapshot(root)) == (2, "", before)
        assert f"{root} has its own options. Resume it with --resume and --run only" in differs.err
    jobs = bigs("finetune", "--resume", "--run", root, "--jobs", 2)
    assert (jobs.code, "Some GLUE tasks start from the run of another one" in jobs.err) == (2, True)
    (root / "mrpc" / "seeds.json").unlink()
    before = (root / "cola" / "seeds.json").read_text()
    again = bigs("finetune", "glue", "--run", root, "--resume").fine()
    assert (root / "cola" / "seeds.json").read_text() == before
    assert f"{root / 'cola' / 'seed-42'} is finished." in again.err
    assert (root / "mrpc" / "seeds.json").read_text() == (suite / "mrpc" / "seeds.json").read_text()
    for name in ("seeds.json", "seed-43/results.json"):
        ours, first = (json.loads((place / "stsb" / name).read_text())["metrics"] for place in (root, suite))
        assert ours == first


def test_a_submission_has_the_required_files(tmp_path: Path) -> None:
    files = {}
    for part in PARTS:
        task = TASKS[part.task]
        size = task.sizes[part.split]
        answers = [5.25 if task.labels is None else task.labels[i % len(task.labels)] for i in range(size)]
        predictions = [{"id": i, "prediction": answer} for i, answer in enumerate(answers)]
        files[part.file] = part_lines(part, predictions)
        with pytest.raises(BigsError, match=f"has {size} rows, numbered from 0"):
            part_lines(part, predictions[:-1])
    assert files["MNLI-mm.tsv"][:3] == ["index\tprediction", "0\tentailment", "1\tneutral"]
    assert files["CoLA.tsv"][:3] == ["index\tprediction", "0\t0", "1\t1"]
    assert files["STS-B.tsv"][1] == "0\t5.000"
    assert files["AX.tsv"][-1].startswith("1103\t")
    write_submission(tmp_path / "one.zip", files)
    write_submission(tmp_path / "two.zip", files)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert sorted(archive.namelist()) == sorted(part.file for part in PARTS)
        assert len(archive.namelist()) == 11
        assert archive.read("QQP.tsv").count(b"\n") == 390966


def test_missing_predictions_are_filled_and_reported(suite: Path, glue: Path, tmp_path: Path) -> None:
    target = tmp_path / "glue.zip"
    done = bigs("eval", "glue", "--model", suite, "--data", glue, "--submission", target).fine()
    assert done.out == f"{target}\n"
    assert "There is no test set of CoLA in" in done.err
    assert all(part.file in done.err for part in PARTS)
    with zipfile.ZipFile(target) as archive:
        assert archive.read("WNLI.tsv").decode().splitlines()[1] == "0\t0"
    assert bigs("eval", "cola", "--model", suite, "--submission", target).code == 2


def test_requests_that_do_not_fit_a_suite_are_refused(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    root = tmp_path / "glue"
    for words, message in (
        (("--teacher", pretrained), "--teacher is for a single task"),
        (("--train", tmp_path / "train.csv"), "--train is for a single task"),
        (("--jobs", 2), "Some GLUE tasks start from the run of another one"),
    ):
        refused = bigs("finetune", "glue", "--from", pretrained, "--data", glue, "--run", root, *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
        assert not root.exists()
    root.mkdir()
    (root / "suite.json").write_text("{}")
    assert "was started by an earlier version" in bigs("finetune", "glue", "--resume", "--run", root).err


def test_a_suite_stops_if_a_task_fails(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """Other tasks would start from the base model instead of the MNLI run."""
    sets = [word for value in (*SETS, "optimizer.stop_after_nonfinite=1") for word in ("--set", value)]
    sets += ["--set", "optimizer.learning_rate=1e30", "--set", "schedule.warmup_fraction=0"]
    root = tmp_path / "glue"
    failed = bigs("finetune", "glue", "--from", pretrained, "--data", glue, "--run", root, *sets)
    assert failed.code == 1
    assert not any((root / task / "recipe.yaml").exists() for task in ("mnli", "mrpc", "stsb"))
