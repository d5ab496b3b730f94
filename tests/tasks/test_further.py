"""The tasks beside GLUE: official files, the same data as tables, and errors for invalid ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.tasks import TASKS, get_task
from bigs_cli.tasks.splits import available_splits, data_digest, load_examples
from bigs_cli.tasks.types.multiple_choice import ChoiceExamples
from bigs_cli.tasks.types.question_answering import QuestionExamples
from bigs_cli.tasks.types.sequence_classification import TextExamples
from bigs_cli.tasks.types.token_classification import TokenExamples

CONLL = "-DOCSTART- -X- -X- O\n\nen:Anna\tB-PER\nen:,\tO\n\nen::\tO\nen:York\tI-LOC\n"
SWAG = (
    ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
    '0,a,1,"He says ""no"", and",He,and,gold,goes.,"stays, or\nnot.",sings.,eats.,2\n'
)
CODAH = "o\tHe is\tup.\tdown.\tin.\t\t3\n"
CONTEXT = "The Rhine flows to the sea."


def squad(*answers: tuple[str, Any], **more: Any) -> dict[str, Any]:
    given = [{"text": text, "answer_start": at} for text, at in answers]
    question = {"id": "q1", "question": "Where to?", "answers": given, **more}
    return {"version": "x", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [question]}]}]}


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return folder


def read(task: str, folder: Path, split: str = "dev") -> Any:
    return load_examples(TASKS[task], split, folder)


def test_words_with_tags(tmp_path: Path) -> None:
    made = read("wikiann", write(tmp_path, "dev", CONLL))
    assert made == TokenExamples([["Anna", ","], [":", "York"]], [[1, 0], [0, 6]])
    other = write(tmp_path / "conll", "dev.txt", "EU NNP B-NP B-ORG\na:b X X O \n\n\n \n")
    assert read("wikiann", other) == TokenExamples([["EU", "a:b"]], [[3, 0]])


def test_words_may_contain_any_white_space_except_the_separator(tmp_path: Path) -> None:
    made = read("wikiann", write(tmp_path, "dev", "a\u00a0b\tO\nc\u2028d\tB-PER\r\n"))
    assert made.words == [["a\u00a0b", "c\u2028d"]]


def test_questions_with_and_without_an_answer(tmp_path: Path) -> None:
    write(tmp_path, "dev-v1.1.json", json.dumps(squad(("the sea", 19), ("sea", 23))))
    assert read("squad", tmp_path) == QuestionExamples(
        ["q1"], ["Where to?"], [CONTEXT], [[("the sea", 19), ("sea", 23)]]
    )
    impossible = squad(("sea", 23), is_impossible=True, plausible_answers=[])
    made = read("squad2", write(tmp_path, "dev-v2.0.json", json.dumps(impossible)))
    assert made.answers == [[]]


def test_endings(tmp_path: Path) -> None:
    made = read("swag", write(tmp_path, "val.csv", SWAG))
    assert made.text_a == ['He says "no", and']
    assert made.endings == [["goes.", "stays, or\nnot.", "sings.", "eats."]]
    assert made.labels.tolist() == [2]
    hidden = write(tmp_path, "test.csv", SWAG.replace(",label", "").replace(",2\n", "\n"))
    assert read("swag", hidden, "test").labels is None
    made = read("codah", write(tmp_path, "dev.tsv", CODAH))
    assert (made.text_a, made.endings, made.labels.tolist()) == (["He is"], [["up.", "down.", "in.", ""]], [3])


@pytest.mark.parametrize("packed", [False, True])
def test_reviews(tmp_path: Path, packed: bool) -> None:
    text = '{"id": 7, "text": "Good.", "label": 1}\n\n{"text": "Bad.", "label": "neg"}\n'
    if packed:
        (tmp_path / "imdb-test.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    else:
        write(tmp_path, "test.jsonl", text)
    made = read("imdb", tmp_path)
    assert (made.text_a, made.text_b, made.labels.tolist()) == (["Good.", "Bad."], None, [1, 0])


def test_contracts_begin_after_the_first_blank_line(tmp_path: Path) -> None:
    lines = [
        {"input": "It holds.\n\nFirst part.\n\nSecond part.", "output": "Not mentioned"},
        {"input": "So.\nMore.\r\n \r\n\nText.", "output": "Entailment"},
    ]
    made = read("contract-nli", write(tmp_path, "validation.jsonl", "\n".join(map(json.dumps, lines))))
    assert made.text_a == ["It holds.", "So.\nMore."]
    assert made.text_b == ["First part.\n\nSecond part.", "\nText."]
    assert made.labels.tolist() == [2, 0]
    hidden = [{**line, "output": None} for line in lines]
    made = read("contract-nli", write(tmp_path, "test.jsonl", "\n".join(map(json.dumps, hidden))), "test")
    assert made.labels is None


@pytest.mark.parametrize(
    ("task", "name", "text", "message"),
    [
        ("wikiann", "dev", "a\tO\nalone\n", r"dev:2: 'alone' has no tag"),
        ("wikiann", "dev", "a\tO\nb\tB-MISC\n", r"dev:1, word 2: 'B-MISC' is not a label of WikiANN.*B-PER"),
        ("wikiann", "dev", "\n-DOCSTART- O\n", "contains no rows"),
        ("squad", "dev-v1.1.json", '{"data": [\n}', r"json:2 is not JSON"),
        ("squad", "dev-v1.1.json", "[]", r"json: 'data' \(list\) is missing"),
        ("squad", "dev-v1.1.json", '{"data": [{"paragraphs": [{"qas": []}]}]}', "article 0, paragraph 0: .*'context'"),
        ("squad", "dev-v1.1.json", '{"data": []}', "contains no rows"),
        ("squad", "dev-v1.1.json", json.dumps(squad()), "question q1 has no answer, which SQuAD does not allow"),
        ("squad", "dev-v1.1.json", json.dumps(squad(("sea", "1"))), r"question q1: 'answer_start' \(int\) is missing"),
        ("swag", "val.csv", SWAG.replace(",2\n", ",4\n"), r"csv:3: '4' is not a label of SWAG.*are 0, 1, 2, 3"),
        ("swag", "val.csv", SWAG + "x,y\n", r"csv:4 has 2 cells; the first line names 12 columns"),
        ("swag", "val.csv", SWAG + '1,"a\n', r"csv:4 opens a quote that is never closed"),
        ("swag", "val.csv", SWAG.replace("ending3", "other"), r"csv has no column 'ending3', which SWAG needs"),
        ("codah", "dev.tsv", CODAH + "o\ta\tb\n", r"tsv:2 has 3 cells"),
        ("codah", "dev.tsv", "a\tb\n", "contains no rows"),
        ("imdb", "test.jsonl", '{"text": "a", "label": 0}\nno\n', r"jsonl:2 is not JSON"),
        ("imdb", "test.jsonl", '{"text": "a", "label": 0}\n[]\n', r"jsonl:2 is not a JSON object"),
        ("imdb", "test.jsonl", '{"review": "a", "label": 0}\n', r"jsonl has no column 'text', which IMDB needs"),
        ("imdb", "test.jsonl", '{"text": "a", "label": 2}\n', r"jsonl:1: '2' is not a label of IMDB"),
        ("imdb", "test.jsonl", '{"text": "a", "label": 0}\n{"text": "b"}\n', r"jsonl:2 has no column 'label'"),
        ("imdb", "test.jsonl", '{"text": "a"}\n', "has no labels"),
        (
            "contract-nli",
            "validation.jsonl",
            '{"input": "a\\nb", "output": "x"}',
            r"jsonl:1: 'input' has no blank line",
        ),
    ],
)
def test_malformed_files_are_named_with_the_position(
    tmp_path: Path, task: str, name: str, text: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read(task, write(tmp_path, name, text))


def test_files_that_are_not_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "dev").write_bytes(b"a\tO\n\xff\tO\n")
    with pytest.raises(RequestError, match=r"dev:2 is not UTF-8"):
        read("wikiann", tmp_path)
    (tmp_path / "imdb-test.jsonl.gz").write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(RequestError, match="corrupt or truncated archive"):
        read("imdb", tmp_path)


def table(task: str, **changes: Any) -> datasets.Dataset:
    """Return two rows in the format of the hub."""
    words, number = datasets.Value("string"), datasets.Value("int32")
    columns: dict[str, Any] = {
        "wikiann": {"tokens": [["Anna", ","], ["York"]], "ner_tags": [[1, 0], [2]], "langs": [["en", "en"], ["en"]]},
        "squad": {
            "id": ["a", "b"],
            "context": [CONTEXT, CONTEXT],
            "question": ["Where to?", "What?"],
            "answers": [{"text": ["sea"], "answer_start": [23]}, {"text": ["The Rhine"], "answer_start": [0]}],
        },
        "swag": {
            "startphrase": ["He", "She"],
            **{f"ending{i}": [f"a{i}", f"b{i}"] for i in range(4)},
            "label": [3, 0],
        },
    }[task]
    features: dict[str, Any] = {
        "wikiann": {"tokens": [words], "ner_tags": [datasets.ClassLabel(names=TAGS)], "langs": [words]},
        "squad": {
            **dict.fromkeys(("id", "context", "question"), words),
            "answers": {"text": [words], "answer_start": [number]},
        },
        "swag": {
            **dict.fromkeys(("startphrase", *(f"ending{i}" for i in range(4))), words),
            "label": datasets.ClassLabel(names=["0", "1", "2", "3"]),
        },
    }[task]
    return datasets.Dataset.from_dict(columns | changes, features=datasets.Features(features))


TAGS = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER", "B-ORG", "I-ORG"]  # not in our order


@pytest.mark.parametrize("place", ["parquet", "disk", "hub"])
def test_tables_of_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    requests = []

    def load(repo: str, config: str, *, split: str, cache_dir: str) -> datasets.Dataset:
        requests.append((repo, config, split))
        return table({"unimelb-nlp/wikiann": "wikiann", "rajpurkar/squad": "squad", "allenai/swag": "swag"}[repo])

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    made: dict[str, Any] = {}
    for task in ("wikiann", "squad", "swag"):
        folder = tmp_path / task
        if place == "parquet":
            folder.mkdir()
            table(task).to_parquet(folder / "validation-00000-of-00001.parquet")
        elif place == "disk":
            datasets.DatasetDict(validation=table(task)).save_to_disk(folder)
        made[task] = load_examples(TASKS[task], "dev", None if place == "hub" else folder)
    assert made["wikiann"] == TokenExamples([["Anna", ","], ["York"]], [[5, 0], [6]])
    assert made["squad"] == QuestionExamples(
        ["a", "b"], ["Where to?", "What?"], [CONTEXT, CONTEXT], [[("sea", 23)], [("The Rhine", 0)]]
    )
    swag: ChoiceExamples = made["swag"]
    assert (swag.text_a, swag.endings[1]) == (["He", "She"], ["b0", "b1", "b2", "b3"])
    assert swag.labels is not None
    assert swag.labels.tolist() == [3, 0]
    if place == "hub":
        assert requests == [
            ("unimelb-nlp/wikiann", "en", "validation"),
            ("rajpurkar/squad", "plain_text", "validation"),
            ("allenai/swag", "regular", "validation"),
        ]


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("wikiann", {"ner_tags": [[1], [2]]}, "row 1: 2 words have 1 tags"),
        ("wikiann", {"tokens": [["Anna", None], ["York"]]}, "row 1: column 'tokens' contains .*, which is not text"),
        ("squad", {"answers": [{"text": [None], "answer_start": [0]}] * 2}, "row 1: an answer is not text"),
        ("squad", {"answers": [{"text": [], "answer_start": []}] * 2}, "row 1 has no answer"),
        (
            "squad",
            {"answers": [{"text": ["x"], "answer_start": []}] * 2},
            "row 1: there are 1 answers but 0 values of answer_start",
        ),
        ("squad", {"question": ["a", None]}, "row 2: column 'question' contains null, which is not text"),
        ("wikiann", {"ner_tags": [[1, -1], [2]]}, "row 1, word 2: '-1' is not a label of WikiANN"),
        ("wikiann", {"ner_tags": [[1, None], [2]]}, "row 1, word 2 has no label"),
        ("swag", {"label": [0, None]}, "row 2 has no label"),
        ("swag", {"label": [0, -1]}, "row 2: '-1' is not a label of SWAG"),
        ("swag", {"ending3": ["a", None]}, "row 2: column 'ending3' contains null"),
    ],
)
def test_malformed_tables_are_named_with_their_row(tmp_path: Path, task: str, changes: Any, message: str) -> None:
    table(task, **changes).to_parquet(tmp_path / "validation.parquet")
    with pytest.raises(RequestError, match=message):
        read(task, tmp_path)


@pytest.mark.parametrize("place", ["parquet", "disk"])
@pytest.mark.parametrize(
    ("task", "columns", "labels", "message"),
    [
        ("stsb", ("sentence1", "sentence2"), [1.5, float("nan")], "row 2 has no label: the value is nan"),
        ("stsb", ("sentence1", "sentence2"), [1.5, None], "row 2 has no label: the cell is empty"),
        ("stsb", ("sentence1", "sentence2"), [1.5, float("inf")], "row 2: the label 'inf' is not a finite number"),
        ("sst2", ("sentence",), [1.0, float("nan")], "row 2 has no label"),
        ("sst2", ("sentence",), [1, 7], "row 2: '7' is not a label of SST-2"),
        ("sst2", ("sentence",), [[1], [0]], "the label is of type list"),
        ("sst2", ("sentence",), [float("nan"), None], "has no labels"),
    ],
)
def test_missing_labels_are_refused_in_tables(
    tmp_path: Path, place: str, task: str, columns: tuple[str, ...], labels: list[Any], message: str
) -> None:
    data = datasets.Dataset.from_dict({name: ["a", "b"] for name in columns} | {"label": labels})
    if place == "parquet":
        data.to_parquet(tmp_path / "validation.parquet")
    else:
        datasets.DatasetDict(validation=data).save_to_disk(tmp_path)
    with pytest.raises(RequestError, match=message):
        read(task, tmp_path)


def test_a_class_id_may_be_a_float(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"sentence": ["a", "b"], "label": [1.0, 0.0]})
    table.to_parquet(tmp_path / "validation.parquet")
    assert read("sst2", tmp_path).labels.tolist() == [1, 0]


def test_columns_and_classes_of_another_task_are_refused(tmp_path: Path) -> None:
    table("squad").to_parquet(tmp_path / "validation.parquet")
    for task, message in (("wikiann", "no column 'tokens'"), ("swag", "no column 'startphrase'")):
        with pytest.raises(RequestError, match=message):
            read(task, tmp_path)
    table("swag").remove_columns("ending2").to_parquet(tmp_path / "validation.parquet")
    with pytest.raises(RequestError, match="no column 'ending2'"):
        read("swag", tmp_path)
    features = datasets.Features(tokens=[datasets.Value("string")], ner_tags=[datasets.ClassLabel(names=["O", "X"])])
    other = datasets.Dataset.from_dict({"tokens": [["a"]], "ner_tags": [[1]]}, features=features)
    other.to_parquet(tmp_path / "validation.parquet")
    with pytest.raises(RequestError, match="'X' is not a label of WikiANN"):
        read("wikiann", tmp_path)


def test_a_hidden_test_split_has_no_labels(tmp_path: Path) -> None:
    table("swag", label=[-1, -1]).to_parquet(tmp_path / "test.parquet")
    assert not read("swag", tmp_path, "test").labelled
    table("wikiann").remove_columns("ner_tags").to_parquet(tmp_path / "test.parquet")
    assert not read("wikiann", tmp_path, "test").labelled


def test_files_and_tables_of_the_same_data_have_the_same_digest(tmp_path: Path) -> None:
    write(tmp_path / "file", "dev", "Anna\tB-ORG\n,\tO\n\nYork\tI-ORG\n")
    (tmp_path / "table").mkdir()
    columns = {"tokens": [["Anna", ","], ["York"]], "ner_tags": [["B-ORG", "O"], ["I-ORG"]]}
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "table" / "validation.parquet")
    file, parquet = (read("wikiann", tmp_path / kind) for kind in ("file", "table"))
    assert data_digest(file) == data_digest(parquet)
    assert data_digest(file) != data_digest(file.take([1, 0]))


@pytest.mark.parametrize(
    ("typed", "name"), [("SQuAD v2", "squad2"), ("squad_v1", "squad"), ("ContractNLI", "contract-nli")]
)
def test_other_spellings_of_names_are_accepted(typed: str, name: str) -> None:
    assert get_task(typed).name == name


@pytest.mark.parametrize(
    ("name", "folder", "sizes"),
    [
        ("wikiann", "ner", {"train": 20000, "dev": 10000, "test": 10000}),
        ("codah", "multiple-choice", {"train": 1665, "dev": 556, "test": 555, "full": 2776}),
        ("imdb", "longdoc", {"train": 5000, "dev": 2000}),
    ],
)
def test_real_files(shared: Path, name: str, folder: str, sizes: dict[str, int]) -> None:
    data = shared / "data" / folder
    assert available_splits(TASKS[name], data) == tuple(sizes)
    for split, size in sizes.items():
        examples = load_examples(TASKS[name], split, data)
        assert len(examples) == size
        assert examples.labelled


def test_real_questions(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "dev-v1.1.json").symlink_to(shared / "data" / "squad" / "xquad.en.json")
    made = read("squad", tmp_path)
    assert len(made) == 1190
    assert all(
        c[at : at + len(t)] == t for c, found in zip(made.contexts, made.answers, strict=True) for t, at in found
    )


def test_labels_in_a_table_may_be_names(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["pos", "neg"]})
    table.to_parquet(tmp_path / "test-00000-of-00001.parquet")
    made: TextExamples = read("imdb", tmp_path)
    np.testing.assert_array_equal(made.labels, [1, 0])  # pyright: ignore[reportArgumentType]
