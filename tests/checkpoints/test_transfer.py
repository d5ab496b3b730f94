from __future__ import annotations

import numpy as np
import pytest

from bigs_cli.checkpoints.arrays import Array
from bigs_cli.checkpoints.transfer import transfer
from bigs_cli.core.errors import RequestError
from bigs_cli.models.published import published_shapes
from tests.checkpoints.tiny import HEADS, config, parameters

WORDS = "s4_bert/embeddings/word_embeddings/embedding"
POSITIONS = "s4_bert/embeddings/position_embeddings/embedding"
NLI = ("entailment", "neutral", "contradiction")


def zeros(path: str, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape, np.float32)


def classifier(labels: tuple[str, ...] | None = None, num_labels: int = 3, head: str = "sequence-classification"):
    return config(head=head, num_labels=num_labels, labels=labels)


@pytest.mark.parametrize("source", HEADS)
@pytest.mark.parametrize("target", HEADS)
def test_transfer_between_all_heads(source: str, target: str) -> None:
    of, to = config(head=source), config(head=target)
    flat = parameters(of)
    result, report = transfer(flat, of, to, zeros)
    assert {path: array.shape for path, array in result.items()} == published_shapes(to)
    assert sorted([*report.loaded, *report.new, *report.changed]) == sorted(published_shapes(to))
    inside = {path.removeprefix("s4_bert/"): array for path, array in flat.items()}
    assert all(result[path] is inside[path.removeprefix("s4_bert/")] for path in report.loaded)
    assert not any("encoder" in path or "embeddings" in path for path in [*report.new, *report.unused])
    taken = {path.removeprefix("s4_bert/") for path in report.loaded}
    assert inside.keys() - taken == {path.removeprefix("s4_bert/") for path in report.unused}, (
        "a parameter of the source is missing from the report"
    )
    if source == target:
        assert [report.new, report.unused, report.changed] == [[], [], {}]


def test_transfer_from_an_encoder_to_a_classifier() -> None:
    of, to = config(head="encoder"), classifier()
    flat = {path: array for path, array in parameters(of).items() if not path.startswith("pooler")}
    _, report = transfer(flat, of, to, zeros)
    assert report.new == [
        "classifier/bias",
        "classifier/kernel",
        "s4_bert/pooler/dense/bias",
        "s4_bert/pooler/dense/kernel",
    ]
    assert report.unused == []


def test_a_pooler_for_pairs_is_transferred_only_to_its_kind() -> None:
    means, pairs = classifier(), classifier().model_copy(update={"pooler_type": "pair"})
    poolers = ["s4_bert/pooler/dense/bias", "s4_bert/pooler/dense/kernel"]
    assert sorted(set(transfer(parameters(means), means, pairs, zeros)[1].new)) == poolers
    assert sorted(set(transfer(parameters(pairs), pairs, means, zeros)[1].new)) == poolers
    assert transfer(parameters(pairs), pairs, pairs, zeros)[1].new == []


def test_shared_heads_are_transferred() -> None:
    of, to = config(head="pretraining"), config(head="masked-lm")
    _, report = transfer(parameters(of), of, to, zeros)
    assert not report.new
    assert sorted(report.unused) == [
        "cls/seq_relationship/bias",
        "cls/seq_relationship/kernel",
        "s4_bert/pooler/dense/bias",
        "s4_bert/pooler/dense/kernel",
    ]


@pytest.mark.parametrize(
    ("of", "to"),
    [
        (classifier(NLI), classifier(("not_entailment", "entailment"), num_labels=2)),
        (classifier(NLI), classifier(("a", "b", "c"))),
        (classifier(NLI), classifier(num_labels=1)),
        (classifier(), classifier(head="token-classification")),
    ],
)
def test_the_classifier_of_another_task_is_initialized(of, to) -> None:
    _, report = transfer(parameters(of), of, to, zeros)
    assert [path for path in report.new if "pooler" not in path] == ["classifier/bias", "classifier/kernel"]
    assert {"classifier/kernel", "classifier/bias"} <= set(report.unused)


@pytest.mark.parametrize("of", [classifier(NLI), classifier()])
@pytest.mark.parametrize("to", [classifier(NLI), classifier()])
def test_a_classifier_with_compatible_labels_is_transferred(of, to) -> None:
    _, report = transfer(parameters(of), of, to, zeros)
    assert [report.new, report.unused, report.changed] == [[], [], {}]


def test_labels_in_another_order_are_mapped_by_name() -> None:
    of, to = classifier(("CONTRADICTION", "neutral", "Entailment")), classifier(NLI)
    flat = parameters(of)
    result, report = transfer(flat, of, to, zeros)
    assert np.array_equal(result["classifier/kernel"], flat["classifier/kernel"][:, [2, 1, 0]])
    assert np.array_equal(result["classifier/bias"], flat["classifier/bias"][[2, 1, 0]])
    assert report.changed.keys() == {"classifier/kernel", "classifier/bias"}
    assert not report.new


@pytest.mark.parametrize("rows", [12, 3])
def test_the_position_table_is_repeated_or_truncated(rows: int) -> None:
    of, to = config(), config(max_position_embeddings=rows)
    flat = parameters(of)
    result, report = transfer(flat, of, to, zeros)
    table = flat[POSITIONS]
    assert np.array_equal(result[POSITIONS], np.concatenate([table, table, table])[:rows])
    assert report.changed.keys() == {POSITIONS}
    assert f"from 5 to {rows} rows" in report.describe()


def test_an_untied_decoder_is_initialized_with_the_embedding() -> None:
    of, to = config(), config(tie_word_embeddings=False)
    flat = parameters(of)
    result, report = transfer(flat, of, to, zeros)
    assert np.array_equal(result["cls/predictions/decoder/kernel"], flat[WORDS].T)
    assert report.changed == {"cls/predictions/decoder/kernel": "copied from the word embeddings"}
    assert transfer(parameters(to), to, of, zeros)[1].unused == ["cls/predictions/decoder/kernel"]
    assert transfer(flat, of, classifier(), zeros)[1].changed == {}


def test_differing_encoder_fields_are_reported() -> None:
    of, to = config(), config(hidden_size=8, pre_norm=False)
    with pytest.raises(RequestError, match=r"hidden_size 8 instead of 4; pre_norm False instead of True"):
        transfer(parameters(of), of, to, zeros)


def test_the_description_lists_new_and_unused_parameters() -> None:
    of, to = config(), classifier()
    text = transfer(parameters(of), of, to, zeros)[1].describe()
    assert text.splitlines() == [
        "loaded 57 tensors",
        "new (4): classifier/bias, classifier/kernel, s4_bert/pooler/dense/bias, s4_bert/pooler/dense/kernel",
        "unused (5): cls/predictions/transform/dense/kernel, cls/predictions/transform/dense/bias, "
        "cls/predictions/transform/LayerNorm/scale, cls/predictions/transform/LayerNorm/bias, cls/predictions/bias",
    ]
