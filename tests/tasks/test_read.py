"""Reading tasks from small files of every format, and errors for invalid ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bigs_cli.core.errors import RequestError
from bigs_cli.data.files import local_file
from bigs_cli.data.rows import file_rows
from bigs_cli.tasks import TASKS
from bigs_cli.tasks.splits import data_digest, load_examples
from bigs_cli.tasks.types.sequence_classification import TextExamples

RTE = "index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is wet.\tentailment\n1\tA.\tB.\tnot_entailment\n"


def write(folder: Path, text: str, name: str = "dev.tsv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return folder


def labels_of(examples: TextExamples) -> list[float]:
    assert examples.labels is not None
    return examples.labels.tolist()


def test_data_is_found_in_a_folder_or_its_parent(tmp_path: Path) -> None:
    write(tmp_path / "RTE", RTE)
    above, within = (load_examples(TASKS["rte"], "dev", folder) for folder in (tmp_path, tmp_path / "RTE"))
    assert above.text_a == within.text_a == ["It rains.", "A."]
    assert labels_of(above) == [0, 1]
    assert data_digest(above) == data_digest(within)


def test_line_ends_quotes_and_byte_order_mark(tmp_path: Path) -> None:
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n"
    text = header + '1\t1\t2\t"He said\u2028so\x85 , "\t"" no\r\n\r\n0\t1\t2\ta\rb\tc'
    examples = load_examples(TASKS["mrpc"], "dev", write(tmp_path, text))
    assert examples.text_a == ['"He said\u2028so\x85 , "', "a\rb"]
    assert examples.text_b == ['"" no', "c"]
    assert labels_of(examples) == [1, 0]


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_characters="\t\n\r\ufeff", codec="utf-8")), min_size=1, max_size=8))
def test_any_text_is_read_back_unchanged(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("sst")
    write(folder, "sentence\tlabel\n" + "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts)))
    examples = load_examples(TASKS["sst2"], "dev", folder)
    assert examples.text_a == texts
    assert labels_of(examples) == [i % 2 for i in range(len(texts))]


def test_labels_may_be_names_instead_of_numbers(tmp_path: Path) -> None:
    examples = load_examples(TASKS["sst2"], "dev", write(tmp_path, "sentence\tlabel\ngood\tpositive\nbad\t0\n"))
    assert labels_of(examples) == [1, 0]


def test_mnli_dev_is_the_matched_set(tmp_path: Path) -> None:
    row = "sentence1\tsentence2\tlabel1\tgold_label\na\tb\tneutral\t{}\n"
    write(tmp_path, row.format("contradiction"), "dev.tsv")
    assert labels_of(load_examples(TASKS["mnli"], "dev", tmp_path)) == [2]
    write(tmp_path, row.format("entailment"), "dev_matched.tsv")
    assert labels_of(load_examples(TASKS["mnli"], "dev", tmp_path)) == [0]
    with pytest.raises(RequestError, match=r"dev_mismatched\.tsv"):
        load_examples(TASKS["mnli"], "dev_mismatched", tmp_path)


def test_qqp_rows_broken_by_a_line_break_are_left_out(tmp_path: Path) -> None:
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    write(tmp_path, head + "0\t1\t2\ta\tb\t1\n1\t3\t4\tcut\nhere\tc\t0\n2\t5\t6\td\te\t0\n")
    examples = load_examples(TASKS["qqp"], "dev", tmp_path)
    assert (examples.text_a, labels_of(examples)) == (["a", "d"], [1, 0])
    assert examples.ids.tolist() == [0, 3]
    write(tmp_path, head + "cut\n" * 51)
    with pytest.raises(RequestError, match=r"dev\.tsv:2 has 1 cells"):
        load_examples(TASKS["qqp"], "dev", tmp_path)


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("rte", RTE + "2\tonly\tthree\n", r"dev\.tsv:4 has 3 cells; the first line names 4 columns"),
        (
            "rte",
            RTE.replace("not_ent", "ent_not"),
            r"dev\.tsv:3: 'ent_notailment' is not a label of RTE.*not_entailment",
        ),
        ("rte", RTE.replace("\tentailment", "\t0"), r"dev\.tsv:2: '0' is not a label"),
        ("sst2", "sentence\tlabel\na\t2\n", r"dev\.tsv:2: '2' is not .* 0 \(negative\), 1 \(positive\)"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t5.x\n", r"dev\.tsv:2: .*'5.x' is not a number"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\tnan\n", "has no labels: there is no column 'score' with values"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t3_5\n", r"dev\.tsv:2: .*'3_5' is not a number"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\tinf\n", r"dev\.tsv:2: the label 'inf' is not a finite number"),
        ("sst2", "sentence\tlabel\na\t0\nb\t\n", r"dev\.tsv:3 has no label: the cell is empty"),
        ("mrpc", RTE, r"dev\.tsv:2: 'entailment' is not a label of MRPC"),
        ("rte", "sentence1\tsentence2\na\tb\n", "no labels: there is no column 'label'"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n", "contains no rows"),
        ("rte", "", "contains no rows"),
    ],
)
def test_malformed_files_are_named_with_their_line(tmp_path: Path, task: str, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        load_examples(TASKS[task], "dev", write(tmp_path, text))


def test_missing_files_are_listed(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"(?s)RTE.dev\.tsv\n.*dev\.tsv\n.*Parquet"):
        load_examples(TASKS["rte"], "dev", tmp_path)
    with pytest.raises(RequestError, match=r"no folder .*nowhere"):
        load_examples(TASKS["rte"], "dev", tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no split 'dev_mismatched'.*train, dev, test"):
        load_examples(TASKS["rte"], "dev_mismatched", tmp_path)
    (tmp_path / "dev.tsv").write_bytes(b"sentence\tlabel\n\xff\t1\n")
    with pytest.raises(RequestError, match="not UTF-8"):
        load_examples(TASKS["sst2"], "dev", tmp_path)


def hub_table(names: list[str], labels: list[int]) -> datasets.Dataset:
    """Return an NLI table in the format of the hub, with labels numbered in the order of `names`."""
    features = datasets.Features(
        premise=datasets.Value("string"),
        hypothesis=datasets.Value("string"),
        label=datasets.ClassLabel(names=names),
        idx=datasets.Value("int32"),
    )
    rows = {"premise": ["p"] * len(labels), "hypothesis": ["h"] * len(labels), "label": labels}
    return datasets.Dataset.from_dict({**rows, "idx": list(range(len(labels)))}, features=features)


@pytest.mark.parametrize("name", ["CoLA/dev.tsv", "dev.tsv", "validation", "dev.parquet"])
def test_broken_links_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "CoLA").mkdir()
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(RequestError, match=rf"{name} is a broken link to nowhere"):
        load_examples(TASKS["cola"], "dev", tmp_path)


def test_hub_labels_are_matched_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = []

    def load(repo: str, config: str, *, split: str, cache_dir: str) -> datasets.Dataset:
        requests.append((repo, config, split))
        return hub_table(["contradiction", "entailment", "neutral"], [0, 1, 2])

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    examples = load_examples(TASKS["mnli"], "dev_mismatched")
    assert labels_of(examples) == [2, 0, 1]
    assert (examples.text_a[0], examples.text_b) == ("p", ["h"] * 3)
    assert requests == [("nyu-mll/glue", "mnli", "validation_mismatched")]


def test_hub_test_split_has_no_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    table = hub_table(list(TASKS["mnli"].labels or ()), [-1, -1])
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert load_examples(TASKS["ax"], "test").labels is None


@pytest.mark.parametrize("saved", ["parquet", "disk"])
def test_saved_data_sets(tmp_path: Path, saved: str) -> None:
    table = hub_table(["neutral", "contradiction", "entailment"], [0, 1, 2])
    if saved == "parquet":
        (tmp_path / "mnli").mkdir()
        table.to_parquet(tmp_path / "mnli" / "validation_matched-00000-of-00001.parquet")
    else:
        datasets.DatasetDict(validation_matched=table).save_to_disk(tmp_path)
    assert labels_of(load_examples(TASKS["mnli"], "dev", tmp_path)) == [1, 2, 0]


def test_files_and_tables_of_the_same_data_have_the_same_digest(tmp_path: Path) -> None:
    write(tmp_path / "tsv", RTE)
    rows: dict[str, Any] = {"sentence1": ["It rains.", "A."], "sentence2": ["It is wet.", "B."]}
    features = datasets.Features(
        sentence1=datasets.Value("string"),
        sentence2=datasets.Value("string"),
        label=datasets.ClassLabel(names=["not_entailment", "entailment"]),
    )
    (tmp_path / "table").mkdir()
    table = datasets.Dataset.from_dict({**rows, "label": [1, 0]}, features=features)
    table.to_parquet(tmp_path / "table" / "validation.parquet")
    tsv, parquet = (load_examples(TASKS["rte"], "dev", tmp_path / kind) for kind in ("tsv", "table"))
    assert data_digest(tsv) == data_digest(parquet)
    flipped = TextExamples(tsv.text_a, tsv.text_b, np.array([1, 0], np.int32), tsv.ids)
    assert data_digest(flipped) != data_digest(tsv)


def test_tables_of_another_task_are_refused(tmp_path: Path) -> None:
    hub_table(["yes", "no"], [0, 1]).to_parquet(tmp_path / "validation_matched.parquet")
    with pytest.raises(RequestError, match=r"'yes' is not a label of MNLI.*entailment"):
        load_examples(TASKS["mnli"], "dev", tmp_path)
    hub_table(["yes", "no"], [0, 1]).to_parquet(tmp_path / "validation.parquet")
    with pytest.raises(RequestError, match=r"no column 'sentence', which SST-2 needs.*Its columns: premise"):
        load_examples(TASKS["sst2"], "dev", tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"not parquet")
    with pytest.raises(RequestError, match="cannot be read as Parquet"):
        load_examples(TASKS["sst2"], "test", tmp_path)


def test_without_data_and_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(RequestError, match=r"MRPC is not on this machine.*--data DIR with train.tsv and dev.tsv"):
        load_examples(TASKS["mrpc"], "dev")
    assert datasets.config.HF_HUB_OFFLINE in (False, None)


def test_parquet_text_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    columns = {"sentence1": ["river"], "sentence2": ["stone"], "label": ["entailment"]}
    file = tmp_path / "train.parquet"
    parquet.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    file.write_bytes(file.read_bytes().replace(b"river", b"ri\xffer"))
    with pytest.raises(RequestError, match=r"train\.parquet contains text that is not UTF-8"):
        load_examples(TASKS["rte"], "train", tmp_path)
    with pytest.raises(RequestError, match=r"train\.parquet contains text that is not UTF-8"):
        list(file_rows(local_file(file)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_data_files": [{"filename": "../../away.arrow"}]},
            r"names \"../../away.arrow\", which is not a file of its",
        ),
        ({"_data_files": 7}, "cannot be read as a data set"),
        ({"_format_type": ["python"]}, "cannot be read as a data set"),
    ],
)
def test_a_saved_data_set_with_a_corrupt_state_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    state = saved_state(tmp_path)
    state.write_text(json.dumps(json.loads(state.read_text()) | changes))
    with pytest.raises(RequestError, match=message):
        load_examples(TASKS["cola"], "dev", tmp_path)


def test_a_saved_data_set_is_read_with_all_its_columns(tmp_path: Path) -> None:
    state = saved_state(tmp_path)
    state.write_text(json.dumps(json.loads(state.read_text()) | {"_format_columns": ["idx"]}))
    assert load_examples(TASKS["cola"], "dev", tmp_path).text_a == ["The river runs."]


def saved_state(folder: Path) -> Path:
    rows = {"sentence": ["The river runs."], "label": [1], "idx": [0]}
    datasets.Dataset.from_dict(rows).save_to_disk(folder / "CoLA" / "validation")
    return folder / "CoLA" / "validation" / "state.json"
