"""Every parser of bigs: good files for it, and how it is asked to read them."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from bigs_cli.checkpoint import flax_file, safetensors_file, seal, torch_file
from bigs_cli.checkpoint.config_json import config_values, read_config
from bigs_cli.checkpoint.folder import read_model, write_flax, write_torch
from bigs_cli.checkpoint.resolve import find_model
from bigs_cli.checkpoint.run import RunFolder, runs
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.corpus import find_parts, read_parts
from bigs_cli.data.hdf5 import HDF5Corpus, open_corpus
from bigs_cli.data.manifest import Packing
from bigs_cli.data.readers import How
from bigs_cli.data.shards import open_shards
from bigs_cli.data.staging import Progress, Request, Staging
from bigs_cli.data.tokenizer import RESERVED, load_tokenizer, save_tokenizer
from bigs_cli.data.verify import verify
from bigs_cli.evaluation.agreement import read_agreement
from bigs_cli.evaluation.judged import judge
from bigs_cli.evaluation.pairs import read_blimp
from bigs_cli.evaluation.predictions import read_predictions
from bigs_cli.evaluation.suite import suite_lines
from bigs_cli.prediction.columns import Named
from bigs_cli.prediction.files import items_in
from bigs_cli.recipe import dump_recipe, load_recipe
from bigs_cli.recipe.catalog import recipe_file
from bigs_cli.recipe.schema import TaskFiles
from bigs_cli.reporting import runs as reporting
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.tasks import get_task
from bigs_cli.tasks.columns import read_table_file
from bigs_cli.tasks.custom import custom_task, look_at
from bigs_cli.tasks.read import load_examples
from bigs_cli.training.suite import begin_suite
from tests.checkpoint.tiny import config, parameters
from tests.data.test_hdf5 import masked, originals, write, write_vocab
from tests.data.tiny import numbered, write_shards

Seeds = Sequence[bytes]
WORDS = ("the", "river", "stone", "a", "bridge", "old", ".", "sea")


@dataclass(frozen=True)
class Target:
    """A parser: `prepare(folder)` returns the file to spoil and good contents of it; `read(file)` is what is tried.

    `wrap` packs the spoilt bytes, so that a checksum does not keep them from the parser.
    """

    name: str
    prepare: Callable[[Path], tuple[Path, Seeds]]
    read: Callable[[Path], object]
    tokens: Seeds = ()
    wrap: Callable[[bytes], bytes] = bytes


def _file(name: str, *seeds: bytes) -> Callable[[Path], tuple[Path, Seeds]]:
    return lambda folder: (folder / name, seeds)


# --- recipes ----------------------------------------------------------------------------------------------------------


def _recipe(path: Path) -> None:
    read = load_recipe(str(path))
    again = path.with_name("again.yaml")
    again.write_text(dump_recipe(read), encoding="utf-8")
    assert load_recipe(str(again)) == read


def _set(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    dump_recipe(load_recipe("demo", [text]))


_SETS = (
    b"steps=1000",
    b"optimizer.learning_rate=1e-4",
    b"model.hidden_size=64",
    b"seed=3",
)
_YAML = (b"extends: mrpc\n", b"- ", b"? ", b"|\n", b">\n", b"{", b"&a ", b"*a", b"<<: ", b"!!str ", b"%TAG ", b"---\n")


def _recipes(folder: Path) -> tuple[Path, Seeds]:
    names = ("demo", "wiki-books-512", "mrpc", "small")
    seeds = [recipe_file(name).read_bytes() for name in names]
    return folder / "mine.yaml", [*seeds, b"extends: demo\nseed: 3\noptimizer:\n  learning_rate: 3e-5\n"]


# --- corpora ----------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> None:
    for how in (How(), How(text_documents="block")):
        for _ in itertools.islice(read_parts(find_parts([str(path)], how)), 1000):
            pass


def _parquet_bytes(**columns: list[Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file, compression="none")
    return file.getvalue()


_TEXT = b"The river rises in the hills.\nIt runs to the sea.\n\nBread needs flour.\n"
_WIKI = b'<doc id="1" url="u" title="t">\nRiver\n\nIt &lt;runs&gt;.\n</doc>\n<doc id="2">\nBread\n</doc>\n'
_JSONL = b'{"text": "The river runs.", "id": 1}\n{"text": "Bread needs flour.", "id": 2}\n'
_CSV = b'id,text\n1,"The river, ""old"", runs."\n2,Bread needs flour.\n'
_TSV = b"id\ttext\n1\tThe river runs.\n2\tBread needs flour.\n"
_PARQUET = _parquet_bytes(id=[1, 2], text=["The river runs.", "Bread needs flour."])


def _shards(folder: Path) -> tuple[Path, Seeds]:
    (folder / "vocab.txt").write_text("\n".join([*RESERVED, *WORDS]) + "\n")
    tokenizer = load_tokenizer(folder / "vocab.txt")
    rows = numbered(8, 8, 104)
    place = write_shards(folder / "shards", rows, rows[:2], vocab_size=tokenizer.get_vocab_size(), tokenizer=tokenizer)
    return place / "manifest.json", [(place / "manifest.json").read_bytes()]


def _open_shards(path: Path) -> None:
    shards = open_shards(path.parent)
    verify(shards)
    for name in ("train", "heldout"):
        rows = shards.split(name)
        rows.take(np.arange(min(len(rows), 4)))
    shards.tokenizer()


def _shard(folder: Path) -> tuple[Path, Seeds]:
    manifest, _ = _shards(folder)
    file = next(manifest.parent.glob("train-*.bin"))
    return file, [file.read_bytes()]


def _progress(folder: Path) -> tuple[Path, Seeds]:
    output = folder / "out"
    place = Staging(output)
    place.folder.mkdir(parents=True)
    asked = Request(sources=("a",), weights=(1.0,), vocabulary="v", sequence_length=8, packing=Packing(), heldout=0.1)
    place.save(Progress(request=asked, corpus="c"))
    (file,) = place.folder.glob("*.json")
    return file, [file.read_bytes()]


def _read_progress(path: Path) -> None:
    Staging(path.parent.parent).progress()


def _hdf5(folder: Path) -> tuple[Path, Seeds]:
    write_vocab(folder)
    path = write(folder / "train_0.hdf5", masked(originals(6)))
    return path, [path.read_bytes()]


def _open_hdf5(path: Path) -> None:
    corpus = open_corpus(path.parent, "none", lambda sentence: None)
    corpus.split("train").take(np.arange(3))
    assert isinstance(corpus, HDF5Corpus)
    corpus.verify()


# --- vocabularies -----------------------------------------------------------------------------------------------------


def _vocabulary(path: Path) -> None:
    tokenizer = load_tokenizer(path)
    ids = tokenizer.encode("The old river runs to the sea. xyz é", "Bread.").ids
    tokenizer.decode(ids)
    save_tokenizer(tokenizer, path.parent / "saved")


def _tokenizer_json(folder: Path) -> tuple[Path, Seeds]:
    (folder / "vocab.txt").write_text("\n".join([*RESERVED[:1], *RESERVED[-4:], *WORDS]) + "\n")
    return folder / "tokenizer.json", [load_tokenizer(folder / "vocab.txt").to_str().encode()]


# --- models -----------------------------------------------------------------------------------------------------------


def _weights(name: str) -> Callable[[Path], tuple[Path, Seeds]]:
    def prepare(folder: Path) -> tuple[Path, Seeds]:
        model = config(head="sequence-classification")
        (write_flax if name == "flax_model.msgpack" else write_torch)(folder, model, parameters(model))
        seed = (folder / name).read_bytes()
        for other in ("flax_model.msgpack", "model.safetensors", "pytorch_model.bin"):
            (folder / other).unlink(missing_ok=True)
        return folder / name, [seed]

    return prepare


def _model(path: Path) -> None:
    read_model(path.parent, path.name)


def _pickle(folder: Path) -> tuple[Path, Seeds]:
    path, _ = _weights("pytorch_model.bin")(folder)
    torch_file.write(path, {"a.weight": np.ones((2, 3), np.float32), "b.bias": np.ones(3, np.float32)})
    with zipfile.ZipFile(path) as archive:
        return path, [archive.read("archive/data.pkl")]


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (
            ("data.pkl", data),
            ("byteorder", b"little"),
            ("data/0", bytes(24)),
            ("data/1", bytes(12)),
        ):
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


_PICKLE = (
    b"cos\nsystem\n",
    b"ctorch\nFloatStorage\n",
    b"(",
    b"t",
    b"R",
    b"Q",
    b"\x81",
    b"i__main__\nX\n",
    b"\x80\x05",
    b"0",
    b"2",
)


def _header(folder: Path) -> tuple[Path, Seeds]:
    path = folder / "model.safetensors"
    safetensors_file.write(path, {"a.weight": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32)})
    seed = path.read_bytes()
    (length,) = struct.unpack("<Q", seed[:8])
    return path, [seed[8 : 8 + length]]


def _with_header(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data + bytes(32)


def _index(folder: Path) -> tuple[Path, Seeds]:
    _, (seed,) = _weights("model.safetensors")(folder)
    (folder / "model-00001-of-00001.safetensors").write_bytes(seed)
    names = safetensors_file.read(folder / "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    return folder / "model.safetensors.index.json", [json.dumps(index).encode()]


def _config(folder: Path) -> tuple[Path, Seeds]:
    values = [config_values(config(head=head)) for head in ("masked-lm", "token-classification")]
    return folder / "config.json", [json.dumps(one).encode() for one in values]


# --- tasks ------------------------------------------------------------------------------------------------------------


def _task(name: str, file: str, seed: bytes, split: str = "train") -> Target:
    task = get_task(name)
    return Target(f"{name} {file}", _file(file, seed), lambda path: load_examples(task, split, path.parent))


def _table(path: Path) -> None:
    read_table_file(path)
    for named in (Named(), Named(text="text")):
        for _ in items_in(path, "texts", None, named):
            pass


def _custom(folder: Path) -> tuple[Path, Seeds]:
    (folder / "dev.csv").write_text("text,label\nriver,good\nstone,bad\n")
    return folder / "train.csv", [b"text,label\nriver,good\nstone,bad\n", b"text,pair,label\nx,y,good\nx,z,bad\n"]


def _custom_task(path: Path) -> None:
    files, _ = look_at(TaskFiles(train=str(path), dev=str(path.with_name("dev.csv"))))
    task = custom_task(files)
    for split in ("train", "dev"):
        load_examples(task, split)


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


# --- runs -------------------------------------------------------------------------------------------------------------

_RESULTS = {"metrics": {"accuracy": 0.5, "f1": 0.6}, "step": 4, "steps": 6, "seconds": 1.5, "parameters": 100}
_RUN: dict[str, bytes] = {
    "recipe.yaml": recipe_file("mrpc").read_bytes(),
    "environment.json": json.dumps({"python": "3.11", "packages": {"jax": "1"}, "devices": ["cpu"]}).encode(),
    "results.json": json.dumps(_RESULTS).encode(),
    "metrics.jsonl": b'{"step": 1, "loss": 2.5, "learning_rate": 0.1}\n{"step": 2, "loss": 2.0, "dev_accuracy": 0.5}\n',
    "predictions.jsonl": b'{"split": "dev", "label": "not_equivalent", "prediction": "equivalent", "text": "a"}\n'
    b'{"split": "dev", "label": "equivalent", "prediction": "equivalent", "text": "b", "probability": 0.7}\n',
}


def _run(name: str) -> Callable[[Path], tuple[Path, Seeds]]:
    def prepare(folder: Path) -> tuple[Path, Seeds]:
        for run in ("one", "two"):
            (folder / run).mkdir()
            for file, content in _RUN.items():
                (folder / run / file).write_bytes(content)
        return folder / "one" / name, [_RUN[name]]

    return prepare


def _show_run(path: Path) -> None:
    one, two = RunFolder(path.parent), RunFolder(path.parent.with_name("two"))
    _each(
        lambda: reporting.summary(one),
        lambda: reporting.compare([one, two]),
        lambda: reporting.list_table(runs(path.parent.parent)),
        lambda: read_metrics(one.metrics_file),
        lambda: judge(get_task("mrpc"), read_predictions(one.predictions_file)),
        lambda: find_model(str(one.path)),
    )


_SUITE: dict[str, bytes] = {
    "suite.json": b'{"model": "base", "variant": null, "sets": ["epochs=1"], "seeds": 1, "data": null}',
    "mrpc/seeds.json": b'{"kind": "seeds", "best": "seed-42", "seeds": [42, 43], "metrics": '
    b'{"f1": {"mean": 0.5, "std": 0.1, "best": 0.6, "values": [0.4, 0.6], "interval": [0.3, 0.7]}}}',
    "mrpc/seed-42/results.json": _RUN["results.json"],
}


def _suite(name: str) -> Callable[[Path], tuple[Path, Seeds]]:
    def prepare(folder: Path) -> tuple[Path, Seeds]:
        for file, content in _SUITE.items():
            place = folder / "glue" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder / "glue" / name, [_SUITE[name]]

    return prepare


def _show_suite(path: Path) -> None:
    root = next(parent for parent in path.parents if parent.name == "glue")
    _each(lambda: suite_lines(root), lambda: begin_suite(root, None, True))


def _seal(folder: Path) -> tuple[Path, Seeds]:
    place = folder / "10"
    (place / "params").mkdir(parents=True)
    (place / "params" / "data").write_bytes(b"abc")
    seal.seal(place, 0.5)
    return place / seal.SEAL, [(place / seal.SEAL).read_bytes()]


def _check_seal(path: Path) -> None:
    seal.score(path.parent)
    if told := seal.damage(path.parent):
        raise RequestError(told)


def _each(*steps: Callable[[], object]) -> None:
    """Take every step, also after one that refuses, and refuse in the end if one did."""
    refusals = []
    for step in steps:
        try:
            step()
        except BigsError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


TARGETS = (
    Target("recipe", _recipes, _recipe, _YAML),
    Target("override of a recipe", _file("set.txt", *_SETS), _set, (b".", b"=", b"model.", *_YAML)),
    Target("manifest.json", _shards, _open_shards),
    Target("shard", _shard, _open_shards),
    Target("progress.json", _progress, _read_progress),
    Target("text.txt", _file("a.txt", _TEXT, _WIKI), _rows),
    Target("text wiki_00", _file("wiki_00", _WIKI, _JSONL), _rows),
    Target("text.jsonl", _file("a.jsonl", _JSONL), _rows),
    Target("text.csv", _file("a.csv", _CSV), _rows),
    Target("text.tsv", _file("a.tsv", _TSV), _rows),
    Target("text.parquet", _file("a.parquet", _PARQUET), _rows, (b"PAR1",)),
    Target("text.jsonl.gz", _file("a.jsonl.gz", gzip.compress(_JSONL)), _rows),
    Target("text.jsonl.bz2", _file("a.jsonl.bz2", bz2.compress(_JSONL)), _rows),
    Target("text.jsonl.xz", _file("a.jsonl.xz", lzma.compress(_JSONL)), _rows),
    Target("HDF5", _hdf5, _open_hdf5),
    Target("vocab.txt", _file("vocab.txt", "\n".join([*RESERVED, *WORDS]).encode()), _vocabulary, (b"[PAD]", b"##a\n")),
    Target("tokenizer.json", _tokenizer_json, _vocabulary),
    Target("config.json", _config, read_config),
    Target("flax_model.msgpack", _weights("flax_model.msgpack"), flax_file.read),
    Target("pytorch_model.bin", _weights("pytorch_model.bin"), torch_file.read),
    Target("pickle in pytorch_model.bin", _pickle, torch_file.read, _PICKLE, _zipped),
    Target("model.safetensors", _weights("model.safetensors"), _model),
    Target("header of model.safetensors", _header, safetensors_file.read, (), _with_header),
    Target("index of shards", _index, _model),
    _task("cola", "train.tsv", b"gj04\t1\t\tThe river runs.\ngj04\t0\t*\tThe river run.\n"),
    _task("mrpc", "train.tsv", b"\xef\xbb\xbfQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\tA b.\tA c.\n"),
    _task("stsb", "train.tsv", b"index\tgenre\tsentence1\tsentence2\tscore\n0\tnews\tA b.\tA c.\t3.5\n"),
    _task("wikiann", "train.txt", b"en:The\tO\nen:Paris\tB-LOC\n\nen:River\tO\n"),
    _task("squad", "train-v1.1.json", _SQUAD),
    _task("swag", "train.csv", _SWAG),
    _task("codah", "train.tsv", _CODAH),
    _task("contract-nli", "train.jsonl", _CONTRACT),
    _task("imdb", "train.jsonl", b'{"text": "Good film.", "label": 1}\n{"text": "Bad film.", "label": 0}\n'),
    _task("rte", "train.parquet", _parquet_bytes(sentence1=["a"], sentence2=["b"], label=["entailment"], idx=[0])),
    Target("custom task", _custom, _custom_task),
    Target("table.csv", _file("a.csv", _CSV), _table),
    Target("table.jsonl", _file("a.jsonl", _JSONL), _table),
    Target("table.parquet", _file("a.parquet", _PARQUET), _table),
    Target("BLiMP", _file("x.jsonl", _BLIMP), lambda path: read_blimp(path, "paradigm")),
    Target("agreement", _file("x.tsv", _AGREEMENT), read_agreement),
    *(Target(f"run {name}", _run(name), _show_run) for name in _RUN),
    *(Target(f"suite {name}", _suite(name), _show_suite) for name in ("suite.json", "mrpc/seeds.json")),
    Target("seal.json", _seal, _check_seal),
)
BY_NAME = {target.name: target for target in TARGETS}
