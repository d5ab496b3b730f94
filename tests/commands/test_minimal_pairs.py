"""Evaluation on minimal pairs, with a model whose scores are known."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.checkpoints.folder import write_flax
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.commands.minimal_pairs import Options, evaluate_pairs
from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.agreement import read_agreement
from bigs_cli.evaluation.pairs import Pairs, read_blimp, read_pairs
from tests.evaluation.tiny_mlm import VOCABULARY, config, opened, opened_frequencies
from tests.tiny import bigs

PAIRS = [  # good, bad, UID; in the model below, "is" is the most probable word, and all others are equally probable
    ("the cat is here", "the cat are here", "one"),
    ("the dogs are here", "the dogs is here", "one"),
    ("the cat is", "the cat is is", "two"),
    ("the cat", "THE CAT", "two"),
]


def blimp_files(folder: Path) -> Path:
    folder.mkdir()
    for of in ("one", "two"):
        names = {"field": "syntax", "linguistics_term": "binding", "UID": of}
        rows = ({"sentence_good": good, "sentence_bad": bad, **names} for good, bad, uid in PAIRS if uid == of)
        (folder / f"{of}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def sentences(path: Path) -> Pairs:
    return read_pairs(path, {})


def log_probability(words: str) -> float:
    total = np.log(np.exp(3.0) + len(VOCABULARY) - 1)
    return sum((3.0 if word == "is" else 0.0) - total for word in words.lower().split())


def test_blimp_from_a_model_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = opened_frequencies(tmp_path, **{"is": 3.0})
    folder = tmp_path / "model"
    folder.mkdir()
    write_flax(folder, known.config, known.flat)
    (tmp_path / "vocab.txt").rename(folder / "vocab.txt")
    model, written = open_model(find_model(str(folder))), tmp_path / "scores.jsonl"
    data = [blimp_files(tmp_path / "blimp")]
    options = Options(batch_size=5, predictions=written, form="csv")
    evaluate_pairs(model, "blimp", data, partial(read_blimp, by="paradigm"), options)
    captured = capsys.readouterr()
    rows = [(row["level"], row["group"], row["n"], row["right"]) for row in csv.DictReader(captured.out.splitlines())]
    # one: the first pair is right. two: an additional "is" lowers the score, and equal tokens are a tie.
    assert rows == [
        ("all", "all", "4", "2"),
        ("field", "syntax", "4", "2"),
        ("phenomenon", "binding", "4", "2"),
        ("paradigm", "one", "2", "1"),
        ("paradigm", "two", "2", "1"),
    ]
    assert captured.err == f"Ties, counted as wrong: 1.\nWrote the scores of all pairs to {written}.\n"
    records = [json.loads(line) for line in written.read_text().splitlines()]
    assert [(one["good"], one["bad"], one["paradigm"]) for one in records] == PAIRS
    assert [one["right"] for one in records] == [True, False, True, False]
    assert [one["id"] for one in records] == [0, 1, 0, 1]
    for one in records:
        assert one["scores"]["good"] == pytest.approx(log_probability(one["good"]), rel=1e-5)
        assert one["scores"]["bad"] == pytest.approx(log_probability(one["bad"]), rel=1e-5)


def test_the_padded_length_is_reported_for_models_without_mask_padding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ok,no,length\nthe cat is here,the cat are here,4\nthe dogs are,the dogs is,3\n")
    reading = config(mask_padding=False)
    by_length = partial(read_pairs, levels={"length": "length"}, good="ok", bad="no")
    evaluate_pairs(opened(tmp_path, reading), "pairs", [path], by_length, Options(form="json"))
    captured = capsys.readouterr()
    assert "This model does not mask padding: all sentences of a file are padded to 8 tokens." in captured.err
    read = json.loads(captured.out)
    assert (read["task"], read["within_word"], read["padded_to"], read["metrics"]["n"]) == ("pairs", False, [8], 2)
    assert [group["group"] for group in read["groups"]] == ["all", "3", "4"]
    first = partial(by_length, limit=1)
    evaluate_pairs(opened(tmp_path, reading), "pairs", [path], first, Options(length=40, form="json"))
    assert json.loads(capsys.readouterr().out)["padded_to"] == [40]


def test_agreement_counts_skipped_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tsv"
    lines = (
        "0\tVBZ\tthe cat ***mask*** here\tis\tare",
        "1\tVBP\tdogs ***mask***\tare\tis",
        "1\tVB\t***mask***\truns\trun",
    )
    path.write_text("".join(f"{line}\n" for line in lines))
    model = opened_frequencies(tmp_path, **{"is": 3.0})
    evaluate_pairs(model, "agreement", [path], read_agreement, Options(form="markdown"))
    captured = capsys.readouterr()
    assert "Skipped 1 of 3 pairs whose forms are not single tokens." in captured.err
    assert [line.split(" | ")[1:4] for line in captured.out.splitlines()[2:]] == [
        ["all", "2", "50.0"],
        ["0", "1", "100.0"],
        ["1", "1", "0.0"],
    ]
    path.write_text(f"{lines[2]}\n")
    with pytest.raises(RequestError, match="No pair can be compared"):
        evaluate_pairs(opened_frequencies(tmp_path), "agreement", [path], read_agreement, Options())


def test_pairs_that_cannot_be_scored_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"sentence_good,sentence_bad\nthe cat,the cats\n{'the ' * 39},the\n")
    with pytest.raises(RequestError, match=r"a.csv:3 has a sentence of 41 tokens; the model allows 40\."):
        evaluate_pairs(opened(tmp_path, config()), "pairs", [path], sentences, Options())
    with pytest.raises(RequestError, match=r"a.csv:2 has a sentence of 4 tokens; --length allows 3\."):
        evaluate_pairs(opened(tmp_path, config()), "pairs", [path], sentences, Options(length=3))
    with pytest.raises(RequestError, match="Length 41 is too long: the model takes at most 40 tokens"):
        evaluate_pairs(opened(tmp_path, config()), "pairs", [path], sentences, Options(length=41))
    answering = opened(tmp_path, config(head="question-answering"))
    with pytest.raises(RequestError, match="random is a question-answering model; only a masked-lm model"):
        evaluate_pairs(answering, "pairs", [path], sentences, Options())
    path.write_text("sentence_good,sentence_bad\nthe cat,\u00ad\n")
    with pytest.raises(RequestError, match=r"a.csv:2 has a sentence without tokens"):
        evaluate_pairs(opened(tmp_path, config()), "pairs", [path], sentences, Options())


def test_blimp_from_the_command_line(tmp_path: Path) -> None:
    known = opened_frequencies(tmp_path, **{"is": 3.0})
    folder = tmp_path / "model"
    folder.mkdir()
    write_flax(folder, known.config, known.flat)
    (tmp_path / "vocab.txt").rename(folder / "vocab.txt")
    data = blimp_files(tmp_path / "blimp")
    shown = bigs("eval", "blimp", "--model", folder, "--data", data, "--by", "paradigm", "--json").fine()
    groups = {(one["level"], one["group"]): one["right"] for one in json.loads(shown.out)["groups"]}
    assert (groups["all", "all"], groups["paradigm", "one"]) == (2, 1)
    pairs = bigs("eval", "pairs", "--model", folder, "--data", data / "one.jsonl", "--data", data / "two.jsonl")
    assert "50.0" in pairs.fine().out
    agreement = bigs("eval", "agreement", "--model", folder, "--data", data / "one.jsonl", "--format", "csv").fine()
    assert "all,all,2" in agreement.out
    for wrong in (
        ("blimp", "--by", "paradigms"),
        ("pairs",),
        ("mlm", "--format", "csv"),
        ("cola", "--data", "a", "--data", "b"),
    ):
        refused = bigs("eval", wrong[0], "--model", folder, *wrong[1:])
        assert (refused.code, refused.out) == (2, "")
