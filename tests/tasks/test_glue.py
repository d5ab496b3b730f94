"""The table of GLUE tasks, and the official files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks import TASKS, get_task
from bigs_cli.tasks.metrics import METRICS
from bigs_cli.tasks.splits import available_splits, load_examples


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_consistent(name: str) -> None:
    task = TASKS[name]
    assert task.name == name
    assert task.metrics
    assert task.type in ("token-classification", "question-answering") or set(task.metrics) <= set(METRICS)
    assert all(set(row.scores) == set(task.metrics) for row in task.published)
    assert task.start is None or task.start in TASKS
    assert task.num_labels == (len(task.labels) if task.labels else 1)
    assert task.type != "sequence-classification" or (task.labels is None) == (name == "stsb")
    assert (task.type == "multiple-choice") == (len(task.endings) > 1)
    if task.generate is None:
        assert set(task.files) == set(task.sizes)
    assert (task.hub is None) == (name in ("word-order", "codah", "contract-nli"))
    if task.hub is not None:
        assert set(task.hub.splits) == set(task.sizes)
        assert (task.hub.text_b is None) == (task.text_b is None)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("MRPC", "mrpc"), ("sst-2", "sst2"), ("STS-B", "stsb"), ("sts_b", "stsb"), ("Word_Order", "word-order")],
)
def test_other_spellings_of_names_are_accepted(typed: str, name: str) -> None:
    assert get_task(typed).name == name


def test_an_unknown_task_gets_a_suggestion() -> None:
    with pytest.raises(RequestError, match=r"no task 'mrcp'\. Did you mean 'mrpc'"):
        get_task("mrcp")


@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "stsb", "rte", "qnli"])
def test_official_files_have_the_official_sizes(shared: Path, name: str) -> None:
    task = TASKS[name]
    data = shared / "data" / "glue"
    splits = available_splits(task, data)
    assert splits == (("dev", "test") if name == "qnli" else ("train", "dev", "test"))
    for split in splits:
        examples = load_examples(task, split, data)
        assert len(examples) == task.sizes[split]
        assert (examples.labels is None) == (split == "test")
        assert (examples.text_b is None) == (task.text_b is None)
        assert all(examples.text_a)
        assert np.array_equal(examples.ids, np.arange(len(examples)))


def test_first_rows_of_the_official_files(shared: Path) -> None:
    data = shared / "data" / "glue"
    cola = load_examples(TASKS["cola"], "dev", data)
    assert cola.text_a[0] == "The sailors rode the breeze clear of the rocks."
    assert cola.labels is not None
    assert cola.labels.dtype == np.int32
    assert load_examples(TASKS["cola"], "test", data).text_a[0] == "Bill whistled past the house."
    mrpc = load_examples(TASKS["mrpc"], "dev", data / "MRPC")
    assert mrpc.text_b is not None
    assert mrpc.text_b[0].startswith('" The foodservice pie business')
    assert mrpc.labels is not None
    assert mrpc.labels[:1].tolist() == [1]
    stsb = load_examples(TASKS["stsb"], "dev", data)
    assert stsb.labels is not None
    assert stsb.labels.dtype == np.float32
    assert (stsb.labels.min(), stsb.labels.max(), stsb.labels[0]) == (0.0, 5.0, 5.0)
    rte = load_examples(TASKS["rte"], "dev", data)
    assert rte.labels is not None
    assert rte.labels[0] == 1  # not_entailment
    assert Counter(rte.labels.tolist()) == {0: 146, 1: 131}


def test_subsets_with_fewer_columns(shared: Path) -> None:
    data = shared / "data" / "glue"
    mnli = load_examples(TASKS["mnli"], "dev", data / "MNLI-subset")
    assert (len(mnli), mnli.labels is not None and mnli.labels[0]) == (7469, 1)
    assert available_splits(TASKS["mnli"], data / "MNLI-subset") == ("train", "dev")
    qqp = load_examples(TASKS["qqp"], "train", data / "QQP-subset")
    assert (len(qqp), qqp.text_a[0][:10]) == (2000, '"Does the ')
