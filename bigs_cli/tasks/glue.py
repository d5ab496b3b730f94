"""The nine GLUE tasks and the diagnostic set AX, in their official file layout.

Layout, sizes and metrics: Wang et al. 2018 (https://arxiv.org/abs/1804.07461, https://gluebenchmark.com/tasks).
Published scores are from single runs on the dev sets, in "Pretraining Without Attention"
(https://arxiv.org/abs/2212.10544) and the published model cards; those of MNLI are on the matched set. MRPC, STS-B and
RTE start from the MNLI model at lengths 512 and 128, and from the pretrained model in the setting "512 freeze".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bigs_cli.tasks.task import Hub, Published, Task

_FILES = {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)}
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
_NLI = ("entailment", "neutral", "contradiction")


def _sizes(train: int, dev: int, test: int) -> Mapping[str, int]:
    return {"train": train, "dev": dev, "test": test}


def _published(**scores: tuple[float, float, float]) -> tuple[Published, ...]:
    """Convert metric → (512, 512 freeze, 128) to one row per setting."""
    settings: tuple[Literal["512", "512 freeze", "128"], ...] = ("512", "512 freeze", "128")
    return tuple(
        Published(setting, {metric: values[i] for metric, values in scores.items()})
        for i, setting in enumerate(settings)
    )


GLUE: tuple[Task, ...] = (
    Task(
        name="cola",
        title="CoLA",
        source="https://nyu-mll.github.io/CoLA/",
        folder="CoLA",
        files=_FILES,
        headerless_columns=("source", "label", "star", "sentence"),
        text_a="sentence",
        labels=("unacceptable", "acceptable"),
        metrics=("matthews",),
        sizes=_sizes(8551, 1043, 1063),
        hub=Hub("cola", "sentence", None, _SPLITS),
        published=_published(matthews=(67.9, 66.03, 65.5)),
    ),
    Task(
        name="sst2",
        title="SST-2",
        source="https://nlp.stanford.edu/sentiment/",
        folder="SST-2",
        files=_FILES,
        text_a="sentence",
        labels=("negative", "positive"),
        metrics=("accuracy",),
        sizes=_sizes(67349, 872, 1821),
        hub=Hub("sst2", "sentence", None, _SPLITS),
        published=_published(accuracy=(93.8, 94.27, 93.1)),
    ),
    Task(
        name="mrpc",
        title="MRPC",
        source="https://www.microsoft.com/en-us/download/details.aspx?id=52398",
        folder="MRPC",
        files=_FILES,
        text_a="#1 String",
        text_b="#2 String",
        label="Quality",
        labels=("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
        sizes=_sizes(3668, 408, 1725),
        hub=Hub("mrpc", "sentence1", "sentence2", _SPLITS),
        published=_published(accuracy=(83.3, 80.39, 82.4), f1=(88.3, 86.35, 87.5)),
        start="mnli",
    ),
    Task(
        name="qqp",
        title="QQP",
        source="https://quoradata.quora.com/First-Quora-Dataset-Release-Question-Pairs",
        folder="QQP",
        files=_FILES,
        text_a="question1",
        text_b="question2",
        label="is_duplicate",
        labels=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        broken_rows=50,  # questions that contain line breaks; the older release has more
        sizes=_sizes(363846, 40430, 390965),
        hub=Hub("qqp", "question1", "question2", _SPLITS),
        published=_published(accuracy=(91.4, 91.83, 91.2), f1=(88.4, 88.96, 88.2)),
    ),
    Task(
        name="stsb",
        title="STS-B",
        source="http://ixa2.si.ehu.eus/stswiki/index.php/STSbenchmark",
        folder="STS-B",
        files=_FILES,
        text_a="sentence1",
        text_b="sentence2",
        label="score",
        labels=None,
        metrics=("spearman", "pearson"),
        sizes=_sizes(5749, 1500, 1379),
        hub=Hub("stsb", "sentence1", "sentence2", _SPLITS),
        published=_published(spearman=(89.7, 89.04, 89.9), pearson=(89.9, 89.05, 89.8)),
        start="mnli",
    ),
    Task(
        name="mnli",
        title="MNLI",
        source="https://cims.nyu.edu/~sbowman/multinli/",
        folder="MNLI",
        files={
            "train": ("train.tsv",),
            "dev": ("dev_matched.tsv", "dev.tsv"),
            "dev_mismatched": ("dev_mismatched.tsv",),
            "test": ("test_matched.tsv", "test.tsv"),
            "test_mismatched": ("test_mismatched.tsv",),
        },
        text_a="sentence1",
        text_b="sentence2",
        label="gold_label",
        labels=_NLI,
        digits=False,
        metrics=("accuracy",),
        sizes={"train": 392702, "dev": 9815, "dev_mismatched": 9832, "test": 9796, "test_mismatched": 9847},
        hub=Hub(
            "mnli",
            "premise",
            "hypothesis",
            {
                "train": "train",
                "dev": "validation_matched",
                "dev_mismatched": "validation_mismatched",
                "test": "test_matched",
                "test_mismatched": "test_mismatched",
            },
        ),
        published=_published(accuracy=(86.5, 86.14, 86.0)),
    ),
    Task(
        name="qnli",
        title="QNLI",
        source="https://rajpurkar.github.io/SQuAD-explorer/",
        folder="QNLI",
        files=_FILES,
        text_a="question",
        text_b="sentence",
        labels=("entailment", "not_entailment"),
        digits=False,
        metrics=("accuracy",),
        sizes=_sizes(104743, 5463, 5463),
        hub=Hub("qnli", "question", "sentence", _SPLITS),
        published=_published(accuracy=(91.6, 91.54, 90.9)),
    ),
    Task(
        name="rte",
        title="RTE",
        source="https://aclweb.org/aclwiki/Recognizing_Textual_Entailment",
        folder="RTE",
        files=_FILES,
        text_a="sentence1",
        text_b="sentence2",
        labels=("entailment", "not_entailment"),
        digits=False,
        metrics=("accuracy",),
        sizes=_sizes(2490, 277, 3000),
        hub=Hub("rte", "sentence1", "sentence2", _SPLITS),
        published=_published(accuracy=(79.8, 73.29, 78.3)),
        start="mnli",
    ),
    Task(
        name="wnli",
        title="WNLI",
        source="https://cs.nyu.edu/~davise/papers/WinogradSchemas/WS.html",
        folder="WNLI",
        files=_FILES,
        text_a="sentence1",
        text_b="sentence2",
        labels=("not_entailment", "entailment"),
        metrics=("accuracy",),
        sizes=_sizes(635, 71, 146),
        hub=Hub("wnli", "sentence1", "sentence2", _SPLITS),
    ),
    Task(
        name="ax",
        title="AX",
        source="https://gluebenchmark.com/diagnostics",
        folder="AX",
        files={"test": ("AX.tsv", "diagnostic.tsv", "test.tsv")},
        text_a="sentence1",
        text_b="sentence2",
        labels=_NLI,
        digits=False,
        metrics=("matthews",),
        sizes={"test": 1104},
        hub=Hub("ax", "premise", "hypothesis", {"test": "test"}),
    ),
)
