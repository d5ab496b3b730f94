"""Held-out text of a few documents: whole paragraphs or sentences, none of them in both splits."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.data import build as module
from bigs_cli.data.manifest import Split
from bigs_cli.data.shards import open_shards
from bigs_cli.data.validation import choose_validation_rule, is_heldout, units_of
from tests.data.conftest import sentence
from tests.data.test_build import Crash, build, content
from tests.tiny import DOCUMENTS, LENGTH, bigs, pretrain

RNG = random.Random(3)
SENTENCES = [sentence(RNG) for _ in range(400)]
PARAGRAPHS = [" ".join(SENTENCES[i : i + 4]) for i in range(0, 400, 4)]


def parts(fraction: float, *texts: str) -> tuple[str, list[str], list[str]]:
    """Return the unit that is held out, the training units and the held-out units."""
    rule = choose_validation_rule(lambda: texts, fraction)
    both = [rule.split(text) for text in texts]
    return rule.unit, [unit for kept, _ in both for unit in kept], [unit for _, held in both for unit in held]


@pytest.mark.parametrize("fraction", [1e-9, 0.005, 0.3, 0.9])
@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (("\n\n".join(PARAGRAPHS),), "paragraphs"),
        (("\n".join(PARAGRAPHS),), "paragraphs"),
        (("Title\n\n" + " ".join(SENTENCES),), "sentences"),
        ((" ".join(SENTENCES).replace(".", "").lower(),), "sentences"),
        (("The river falls. The stone does not.",), "sentences"),
        (tuple(PARAGRAPHS[:9]), "paragraphs"),
        (("\n\n".join(PARAGRAPHS), "\n\n".join(PARAGRAPHS[::-1])), "paragraphs"),
    ],
    ids=["book", "no blank lines", "one article", "one long line", "two sentences", "few rows", "twice the same"],
)
def test_splits_are_disjoint_and_not_empty(fraction: float, texts: tuple[str, ...], unit: str) -> None:
    found, kept, held = parts(fraction, *texts)
    if found == "documents":  # by chance, there are documents in both splits
        return
    assert found == unit
    assert held
    assert kept
    assert not {text.strip() for text in kept} & {text.strip() for text in held}
    assert len("".join(kept + held)) == len("".join(texts))
    size = sum(map(len, held)) / sum(map(len, texts))
    assert size <= max(fraction, 0.5) + 0.15
    if len("".join(texts)) > 10_000 and fraction < 0.5:
        assert size == pytest.approx(max(fraction, 512 / sum(map(len, texts))), abs=0.05)
    assert parts(fraction, *texts) == (found, kept, held)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(st.text("ab. \n", max_size=60), max_size=6), st.sampled_from([0.01, 0.2, 0.9]))
def test_any_few_texts_are_split_or_refused(texts: list[str], fraction: float) -> None:
    texts = [text.strip() for text in texts if text.strip()]
    units = {unit.strip() for text in texts for unit in units_of(text, "sentences")} - {""}
    if len(units) == 1 and len({is_heldout(text, fraction) for text in texts}) == 1:
        with pytest.raises(RequestError, match="single sentence, so no part of it can be held out"):
            parts(fraction, *texts)
        return
    _, kept, held = parts(fraction, *texts)
    assert bool(texts) == bool("".join(held).strip()) == bool("".join(kept).strip())
    assert not {text.strip() for text in kept if text.strip()} & {text.strip() for text in held}


def test_many_documents_are_held_out_as_whole_documents() -> None:
    unit, kept, held = parts(0.2, *DOCUMENTS)
    assert unit == "documents"
    assert held == [text for text in DOCUMENTS if is_heldout(text, 0.2)]
    assert kept == [text for text in DOCUMENTS if not is_heldout(text, 0.2)]
    assert parts(0, "One.") == ("documents", ["One."], [])


def test_reading_stops_when_both_splits_have_a_document() -> None:
    read = []
    texts = (read.append(i) or f"Text {i}." for i in range(10_000))
    assert choose_validation_rule(lambda: texts, 0.1).unit == "documents"
    assert len(read) < 200


def test_joined_units_equal_the_text() -> None:
    text = "One.  Two!\n\nThree, \n " + "four " * 500
    for unit in ("paragraphs", "sentences"):
        assert "".join(units_of(text, unit)) == text


def test_one_sentence_is_refused_before_anything_is_written(tmp_path: Path, tokenizer) -> None:
    (tmp_path / "a.txt").write_text("The river falls slowly")
    with pytest.raises(RequestError, match=r"a single sentence, .*--heldout 0"):
        build(tmp_path / "out", tokenizer, tmp_path / "a.txt", heldout=0.005)
    assert not (tmp_path / "out").exists()
    build(tmp_path / "out", tokenizer, tmp_path / "a.txt", heldout=0)


def words(texts: list[str]) -> Counter[str]:
    return Counter(re.findall(r"\w+", " ".join(texts).lower()))


def words_in(folder: Path, split: Split) -> Counter[str]:
    shards = open_shards(folder)
    rows = shards.split(split)
    return words([shards.tokenizer().decode(row) for row in rows.take(np.arange(len(rows)))["input_ids"].tolist()])


def test_the_bytes_do_not_depend_on_workers_batches_or_crashes(
    tmp_path: Path, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several workers, small batches, copies of documents, and crashes at every batch."""
    texts = ["\n\n".join(PARAGRAPHS[start : start + 33]) for start in (0, 33, 66)]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, text in enumerate(texts):
        (corpus / f"{number}.txt").write_text(text)
    messages: list[str] = []
    options = {"heldout": 0.01, "weights": (2.0,)}
    report = build(tmp_path / "whole", tokenizer, corpus, say=messages.append, **options).report
    assert "whole paragraphs are held out instead" in messages[0]
    unit, kept, held = parts(0.01, *texts)
    assert (report.heldout_unit, report.documents, report.heldout_documents) == (unit, 6, len(held))
    assert words_in(tmp_path / "whole", "heldout") == words(held)
    assert words_in(tmp_path / "whole", "train") == words(kept * 2)
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 1500)
    monkeypatch.setattr(module, "LONGEST_TEXT", 700)
    build(tmp_path / "small", tokenizer, corpus, **options)
    monkeypatch.setattr(module, "SAVE_SECONDS", 0.0)
    left = 0

    def countdown(tokens: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash

    times = 0
    while not (tmp_path / "parts" / "manifest.json").exists():
        left, times = 3, times + 1
        try:
            build(tmp_path / "parts", tokenizer, corpus, workers=2, resume=True, advance=countdown, **options)
        except Crash:
            continue
    assert times > 3
    assert content(tmp_path / "parts") == content(tmp_path / "small")


@pytest.mark.parametrize(
    ("name", "text", "unit"),
    [
        ("book.txt", "\n\n".join(PARAGRAPHS), "paragraphs"),
        ("two.txt", "The river falls slowly. The old stone bridge crosses the water.", "sentences"),
        ("lines.txt", "the river falls slowly\nthe old stone bridge\n", "sentences"),
        ("rows.csv", "id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(PARAGRAPHS[:8])), "paragraphs"),
        ("rows.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in PARAGRAPHS[:8]), "paragraphs"),
        ("wiki_00", f'<doc id="1" title="A">\nA\n\n{"".join(SENTENCES)}\n</doc>\n', "sentences"),
    ],
)
def test_a_single_small_file_is_tokenized(name: str, text: str, unit: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    for output in ("a", "b"):
        common = ("--length", 32, "--train-vocab", 180, "--output", tmp_path / output)
        done = bigs("tokenize", "--input", tmp_path / name, *common).fine()
    assert f"whole {unit} are held out instead" in done.err
    assert f"{unit} held out" in done.err
    shards = open_shards(tmp_path / "a")
    assert shards.manifest.rows("heldout") > 0
    assert shards.manifest.rows("train") > 0
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_vocabulary_is_trained_on_the_documents_of_the_request(tmp_path: Path) -> None:
    for name, text in (("a.jsonl", "the river falls"), ("b.jsonl", "жук")):
        (tmp_path / name).write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": f"{text} {text}"}) + "\n")
    inputs = ("--input", tmp_path / "a.jsonl", "--input", tmp_path / "b.jsonl")
    common = ("--length", 16, "--train-vocab", 180, "--heldout", 0, "--limit-documents", 2)
    bigs("tokenize", *inputs, *common, "--output", tmp_path / "shards").fine()
    assert open_shards(tmp_path / "shards").manifest.report.documents == 2
    assert "ж" not in (tmp_path / "shards" / "vocab.txt").read_text()


@pytest.mark.parametrize("text", ["\n\n".join(PARAGRAPHS), "The river falls. The stone does not."], ids=["book", "two"])
def test_a_model_is_pretrained_on_one_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(text)
    common = ("--length", LENGTH, "--train-vocab", 180, "--output", tmp_path / "shards")
    bigs("tokenize", "--input", tmp_path / "book.txt", *common).fine()
    bigs(*pretrain(tmp_path / "shards", tmp_path / "run")).fine()
    assert "validation rows" in bigs("eval", "mlm", "--model", tmp_path / "run").fine().out
