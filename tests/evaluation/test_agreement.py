"""Agreement items: which tables are read, which items are kept, and which form a model prefers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import load_tokenizer
from bigs_cli.evaluation.agreement import FormColumns, masked_forms, read_agreement
from bigs_cli.evaluation.minimal_pairs import PairModel
from bigs_cli.evaluation.pairs import Pairs
from tests.evaluation.tiny_mlm import VOCABULARY, opened_frequencies, write_vocabulary


def pairs(*two: tuple[str, str]) -> Pairs:
    good, bad = (list(side) for side in zip(*two, strict=True))
    return Pairs("by hand", good, bad, [f"by hand:{i}" for i in range(len(two))], {})


def test_the_layout_of_goldberg_is_recognized(tmp_path: Path) -> None:
    """Its columns are: attractors, tag of the verb, masked sentence, correct form, wrong form."""
    path = tmp_path / "lgd.tsv"
    path.write_text("1\tVBZ\tthe cat near the dogs ***mask*** here .\tis\tare\n0\t0\tcats ***mask*** .\tare\tis\n")
    read = read_agreement(path)
    assert read.good == ["the cat near the dogs is here .", "cats are ."]
    assert read.bad == ["the cat near the dogs are here .", "cats is ."]
    assert read.groups == {"attractors": ["1", "0"]}
    assert len(read_agreement(path, limit=1)) == 1


def test_columns_are_named_for_a_table_without_a_header(tmp_path: Path) -> None:
    """The table of Marvin & Linzen: a construction, a case of it, and two complete sentences."""
    path = tmp_path / "ml.tsv"
    path.write_text("simple\tsing\tthe cat sleeps\tthe cat sleep\n\nsimple\tplur\tcats sleep\tcats sleeps\n")
    names = ["condition", "case", "sentence_good", "sentence_bad"]
    read = read_agreement(path, ["case"], FormColumns(header=names))
    assert (read.good, read.bad) == (["the cat sleeps", "cats sleep"], ["the cat sleep", "cats sleeps"])
    assert read.groups == {"case": ["sing", "plur"]}
    assert read_agreement(path, columns=FormColumns(header=names)).groups == {"condition": ["simple", "simple"]}
    with pytest.raises(RequestError, match=r"ml.tsv:1 has 4 cells separated by tabs; the columns are a, b\. Name"):
        read_agreement(path, columns=FormColumns(header=["a", "b"]))


def test_jsonl_with_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "the dogs [MASK] here", "yes": "are", "no": "is", "attractors": 0}) + "\n")
    read = read_agreement(path, columns=FormColumns("text", "yes", "no"))
    assert (read.good, read.bad, read.groups) == (["the dogs are here"], ["the dogs is here"], {"attractors": ["0"]})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence": "no place", "good": "is", "bad": "are"}, "a.jsonl:1: column 'sentence' has 0 masked words"),
        (
            {"sentence": "[MASK] and ***mask***", "good": "a", "bad": "b"},
            "has 2 masked words; it needs exactly one",
        ),
        ({"sentence": "the cat [MASK]", "good": "is"}, "a.jsonl has no column 'bad'."),
        ({"sentence_good": "the cat is"}, "a.jsonl has no column 'sentence'. Did you mean 'sentence_good'?"),
    ],
)
def test_invalid_items_are_reported_with_their_line(row: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(RequestError) as error:
        read_agreement(path)
    assert message in str(error.value)


def test_only_pairs_that_differ_in_one_token_are_kept(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_vocabulary(tmp_path))
    items = masked_forms(
        tokenizer,
        pairs(
            ("The cat sleeps.", "The cat sleep."),
            ("The cat runs.", "The cat run."),  # one form has two pieces
            ("The cat runs.", "The cat running."),  # both forms have two pieces, and only the second differs
            ("the cat is here", "the cats are here"),  # two words differ
            ("the cat flies", "the cat is"),  # one form is not in the vocabulary
            ("the cat is", "THE CAT IS"),  # equal tokens
            ("the dogs are here", "the dogs is here"),
        ),
    )
    assert items.kept.tolist() == [0, 6]
    assert items.positions.position.tolist() == [3, 3]
    forms = [[VOCABULARY[token] for token in two] for two in items.positions.candidates]
    assert forms == [["sleeps", "sleep"], ["are", "is"]]


def test_a_unigram_model_prefers_the_more_frequent_form(tmp_path: Path) -> None:
    opened = opened_frequencies(tmp_path, **{"is": 2.0, "are": 0.5})
    model = PairModel(opened, load_tokenizer(write_vocabulary(tmp_path)), batch_size=4)
    encoded = model.encode_forms(
        pairs(
            ("the cat is here", "the cat are here"),
            ("the dogs are here", "the dogs is here"),
            ("the cat sleeps", "the cat sleep"),
        )
    )
    (result,) = model.compare([encoded])
    assert result.right.tolist() == [True, False, False]  # the last is a tie
    assert result.ties == 1
    assert (result.scores[:, 0] - result.scores[:, 1]).tolist() == pytest.approx([1.5, -1.5, 0.0])
