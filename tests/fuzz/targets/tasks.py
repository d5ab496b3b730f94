"""Labelled tasks, tables and pairs."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

from bigs_cli.evaluation.agreement import read_agreement
from bigs_cli.evaluation.pairs import read_blimp
from bigs_cli.prediction.files import items_in
from bigs_cli.prediction.items import InputOptions
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.tasks import get_task
from bigs_cli.tasks.custom import custom_task, infer_labels
from bigs_cli.tasks.items import TEXT_OR_PAIR
from bigs_cli.tasks.reading import read_table
from bigs_cli.tasks.splits import load_examples
from tests.fuzz.targets.target import CSV, JSONL, PARQUET, TSV, Seeds, Target, file_with, parquet


def _task(name: str, file: str, seed: bytes, split: str = "train") -> Target:
    task = get_task(name)
    return Target(f"{name} {file}", file_with(file, seed), lambda path: load_examples(task, split, path.parent))


def _table(path: Path) -> None:
    read_table(path)
    for options in (InputOptions(), InputOptions(text="text")):
        for _ in items_in(path, TEXT_OR_PAIR, None, options):
            pass


def _custom(folder: Path) -> tuple[Path, Seeds]:
    (folder / "dev.csv").write_text("text,label\nriver,good\nstone,bad\n")
    return folder / "train.csv", [b"text,label\nriver,good\nstone,bad\n", b"text,pair,label\nx,y,good\nx,z,bad\n"]


def _custom_task(path: Path) -> None:
    files, _ = infer_labels(TaskFiles(train=str(path), dev=str(path.with_name("dev.csv"))))
    task = custom_task(files)
    for split in ("train", "dev"):
        load_examples(task, split)


def _saved(folder: Path) -> tuple[Path, Seeds]:
    import datasets

    rows = {"sentence1": ["a"], "sentence2": ["b"], "label": ["entailment"], "idx": [0]}
    datasets.Dataset.from_dict(rows).save_to_disk(folder / "RTE" / "train")
    state = folder / "RTE" / "train" / "state.json"
    return state, [state.read_bytes()]


def _read_saved(path: Path) -> None:
    load_examples(get_task("rte"), "train", path.parents[2])


_SQUAD = json.dumps(
    {
        "version": "1.1",
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": "The river runs to the sea.",
                        "qas": [{"id": "1", "question": "Where?", "answers": [{"text": "sea", "answer_start": 22}]}],
                    }
                ],
            }
        ],
    }
).encode()
_BLIMP = (
    b'{"sentence_good": "The river runs.", "sentence_bad": "The river run.", "field": "syntax", '
    b'"linguistics_term": "agreement", "UID": "x"}\n'
)
_AGREEMENT = b"sentence\tgood\tbad\tattractors\nThe river [MASK] old .\tis\tare\t1\n"
_CONTRACT = b'{"input": "It is kept.\\n\\nThe party keeps it.", "output": "Entailment"}\n'
_SWAG = b"id,sent1,sent2,startphrase,ending0,ending1,ending2,ending3,label\n0,a,b,The river,runs,is,old,x,0\n"
_CODAH = b"o\tThe river\truns\tis\told\tx\t0\n"


TARGETS = (
    _task("cola", "train.tsv", b"gj04\t1\t\tThe river runs.\ngj04\t0\t*\tThe river run.\n"),
    _task("mrpc", "train.tsv", b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tA b.\tA c.\n"),
    _task("stsb", "train.tsv", b"index\tgenre\tsentence1\tsentence2\tscore\n0\tnews\tA b.\tA c.\t3.5\n"),
    _task("wikiann", "train.txt", b"en:The\tO\nen:Paris\tB-LOC\n\nen:River\tO\n"),
    _task("squad", "train-v1.1.json", _SQUAD),
    _task("swag", "train.csv", _SWAG),
    _task("codah", "train.tsv", _CODAH),
    _task("contract-nli", "train.jsonl", _CONTRACT),
    _task("imdb", "train.jsonl", b'{"text": "Good film.", "label": 1}\n{"text": "Bad film.", "label": 0}\n'),
    _task("rte", "train.parquet", parquet(sentence1=["a"], sentence2=["b"], label=["entailment"], idx=[0])),
    Target("custom task", _custom, _custom_task),
    Target("table.csv", file_with("a.csv", CSV), _table),
    Target("table.jsonl", file_with("a.jsonl", JSONL), _table),
    Target("table.tsv", file_with("a.tsv", TSV), _table),
    Target("table.parquet", file_with("a.parquet", PARQUET), _table),
    Target("table.parquet.gz", file_with("a.parquet.gz", gzip.compress(PARQUET)), _table),
    Target("table in .parquet.xz", file_with("a.parquet.xz", PARQUET), _table, wrap=lzma.compress),
    Target("state.json of a saved data set", _saved, _read_saved),
    Target("BLiMP", file_with("x.jsonl", _BLIMP), lambda path: read_blimp(path, "paradigm")),
    Target("agreement", file_with("x.tsv", _AGREEMENT), read_agreement),
)
