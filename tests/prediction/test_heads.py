"""The predictions of each head, compared with the outputs of the model."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli import load_model
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import load_tokenizer
from bigs_cli.tasks.types.token_classification import is_iob, split_words
from tests.prediction.models import TAGS, outputs, probabilities
from tests.tiny import bigs

TEXTS = ["The river runs to the sea.", "Bread needs water", "An old house stands among the trees in winter."]
OTHERS = ["The sea is near.", "The baker mixes flour.", "People walk over the ice."]


@pytest.mark.parametrize("head", ["masked-lm", "pretraining"])
def test_fill_mask(models: Path, head: str) -> None:
    texts = ["The goal of life is [MASK].", "[MASK] rises in the [MASK]", "the sea " + "[MASK] " * 11]
    answers = load_model(models / head).predict(texts, top=3)
    given_, encoded = outputs(models / head, texts)
    shares = probabilities(given_["prediction_logits" if head == "pretraining" else "logits"])
    tokenizer = load_tokenizer(models / head / "tokenizer.json")
    for i, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        ids = encoded.ids[encoded.starts[i] : encoded.starts[i + 1]]
        places = np.flatnonzero(ids == tokenizer.token_to_id("[MASK]"))
        assert len(answer["masks"]) == len(places) == text.count("[MASK]")
        for place, mask in zip(places, answer["masks"], strict=True):
            best = np.argsort(-shares[i, place])[:3]
            assert [word["token"] for word in mask] == [tokenizer.id_to_token(int(word)) for word in best]
            assert [word["probability"] for word in mask] == pytest.approx(shares[i, place, best], abs=2e-6)
        assert "[MASK]" not in answer["filled"]
    assert answers[0]["filled"].startswith("The goal of life is")


def test_word_pieces_are_joined_to_the_preceding_word() -> None:
    from bigs_cli.prediction.fill_mask import _fill

    assert _fill("play [MASK] the [MASK].", ["##ing", "house"]) == "playing the house."


def test_classification_probabilities(models: Path) -> None:
    answers = load_model(models / "sequence-classification").predict(TEXTS)
    shares = probabilities(outputs(models / "sequence-classification", TEXTS)[0].logits)
    for answer, row in zip(answers, shares, strict=True):
        assert list(answer["scores"]) == ["bad", "fair", "good"]
        assert list(answer["scores"].values()) == pytest.approx(row, abs=2e-6)
        assert answer["prediction"] == ("bad", "fair", "good")[row.argmax()]


def test_pairs_and_regression(models: Path) -> None:
    pairs = list(zip(TEXTS, OTHERS, strict=True))
    answers = load_model(models / "score").predict(pairs)
    expected = np.asarray(outputs(models / "score", TEXTS, OTHERS)[0].logits)[:, 0]
    assert [answer["prediction"] for answer in answers] == pytest.approx(expected, abs=1e-5)


def test_next_sentence_prediction(models: Path) -> None:
    answers = load_model(models / "next-sentence").predict(list(zip(TEXTS, OTHERS, strict=True)))
    shares = probabilities(outputs(models / "next-sentence", TEXTS, OTHERS)[0].logits)[:, 0]
    assert [answer["probability"] for answer in answers] == pytest.approx(shares, abs=2e-6)
    assert [answer["prediction"] for answer in answers] == [bool(share > 0.5) for share in shares]


def test_entities_are_spans_of_the_text(models: Path) -> None:
    texts = ["Old people, of the village.", "The teacher wrote"]
    answers = load_model(models / "token-classification").predict(texts)
    words = [["Old", "people", ",", "of", "the", "village", "."], ["The", "teacher", "wrote"]]
    by_words = load_model(models / "token-classification").predict(words)
    for text, answer, of_words in zip(texts, answers, by_words, strict=True):
        assert answer["entities"]
        for part in answer["entities"]:
            assert text[part["start"] : part["end"]] == part["text"]
            assert part["type"] in ("PER", "LOC")
        assert [part["type"] for part in answer["entities"]] == [part["type"] for part in of_words["entities"]]


def test_table_rows_align_words_and_tags(models: Path) -> None:
    texts = ["Old people, of the village.", "The teacher wrote"]
    for model, key, heading in (("token-classification", "entities", "entity"), ("parts", "words", "word")):
        answers = load_model(models / model).predict(texts)
        shown = bigs("predict", *texts, "--model", models / model).fine().out.splitlines()
        starts = [shown[0].index(name) for name in ("text", heading, "type", "probability", "characters")]
        assert starts == sorted(starts)
        parts = [part for answer in answers for part in answer[key]]
        assert len(shown) == 1 + len(parts)
        for line, part in zip(shown[1:], parts, strict=True):
            assert line[starts[1] :].split()[: len(part["text"].split())] == part["text"].split()
            assert line.split()[-1] == f"{part['start']}–{part['end']}"
        assert [line[: starts[1]].strip() for line in shown[1:] if line[: starts[1]].strip()] == texts


def test_tags_without_entities(models: Path) -> None:
    (answer,) = load_model(models / "parts").predict("The teacher wrote")
    given_, encoded = outputs(models / "parts", ["The teacher wrote"])
    tokenizer = load_tokenizer(models / "parts" / "tokenizer.json")
    pieces = [tokenizer.id_to_token(int(i)) for i in encoded.ids]
    firsts = [i for i, piece in enumerate(pieces) if not piece.startswith("##") and piece[0] != "["]
    shares = probabilities(given_.logits)[0]
    assert [word["text"] for word in answer["words"]] == ["The", "teacher", "wrote"]
    assert [word["tag"] for word in answer["words"]] == [("noun", "verb")[shares[i].argmax()] for i in firsts]
    assert [word["probability"] for word in answer["words"]] == pytest.approx(shares[firsts].max(-1), abs=2e-6)


def test_answers_are_spans_of_the_text(models: Path) -> None:
    inputs = [{"question": "where?", "context": text, "id": i} for i, text in enumerate(TEXTS)]
    answers = load_model(models / "question-answering").predict(inputs, top=2)
    given_, encoded = outputs(models / "question-answering", ["where?"] * 3, TEXTS)
    for i, (answer, text) in enumerate(zip(answers, TEXTS, strict=True)):
        assert text[answer["start"] : answer["end"]] == answer["prediction"]
        assert len(answer["nbest"]) == 2
        assert (answer["id"], answer["context"]) == (i, text)
        # The best pair with start ≤ end in the text, before its [SEP].
        start, end = np.asarray(given_.start_logits)[i], np.asarray(given_.end_logits)[i]
        first, last = encoded.text_a_lengths[i], encoded.starts[i + 1] - encoded.starts[i] - 1
        best = max(start[a] + end[b] for a in range(first, last) for b in range(a, min(a + 30, last)))
        assert answer["score"] == pytest.approx(best, abs=1e-3)


def test_long_texts_are_split_into_windows(models: Path) -> None:
    long = " ".join(TEXTS * 8)
    (answer,) = load_model(models / "question-answering").predict({"question": "where?", "context": long})
    assert long[answer["start"] : answer["end"]] == answer["prediction"]


def test_multiple_choice_probabilities(models: Path) -> None:
    inputs = [{"text": TEXTS[0], "endings": OTHERS}, {"text": TEXTS[1], "endings": OTHERS[:2]}]
    answers = load_model(models / "multiple-choice").predict(inputs)
    for item, answer in zip(inputs, answers, strict=True):
        endings = item["endings"]
        logits = np.asarray(outputs(models / "multiple-choice", [item["text"]] * len(endings), endings)[0].logits)
        assert answer["scores"] == pytest.approx(probabilities(logits[:, 0]), abs=2e-6)
        assert endings[answer["prediction"]] == answer["ending"]


def test_embeddings_are_means_over_tokens(models: Path) -> None:
    for head in ("masked-lm", "encoder"):
        vectors = load_model(models / head).embed(TEXTS)
        given_, encoded = outputs(models / head, TEXTS)
        hidden = np.asarray(given_.hidden_states[-1])
        expected = [hidden[i, : encoded.starts[i + 1] - encoded.starts[i]].mean(0) for i in range(3)]
        np.testing.assert_allclose(vectors, expected, atol=2e-5 * np.abs(hidden).max())
    assert load_model(models / "encoder").embed([]).shape == (0, 16)


def test_masked_padding_is_trimmed(models: Path) -> None:
    model = load_model(models / "trimmed")
    cut, whole = (model.predict(TEXTS, trim_padding=trim) for trim in (None, False))
    for one, other in zip(cut, whole, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


def test_invalid_inputs_are_rejected(models: Path) -> None:
    for head, inputs, sentence in (
        ("encoder", "a text", "it has no predictions, only embeddings"),
        ("masked-lm", "no mask", r"text 1 has no \[MASK\]: write"),
        ("masked-lm", "a [mask]", r"\(in capitals\)"),
        ("masked-lm", "the sea " * 40 + "[MASK]", r"beyond the 32 tokens"),
        ("question-answering", "a text", "takes a question about a text"),
        ("multiple-choice", [{"text": "a", "endings": ["b"]}], "two or more are needed"),
        ("next-sentence", "a text", "takes a pair of texts"),
        ("sequence-classification", ["one", ("two", "texts")], "is a single text, but others are pairs"),
        (
            "next-sentence",
            [{"text": "a", "other": "b"}],
            "columns are text, other. Put the texts under 'text' and 'pair'",
        ),
        ("multiple-choice", [{"text": "a"}], "no endings; its columns are text. Put them under 'endings'"),
        ("sequence-classification", [{"text": 7}], "'text' is 7, which is not text"),
        ("sequence-classification", [{"text": "a", "pair": "b"}, {"text": "a"}], "is a single text|has no 'pair'"),
    ):
        with pytest.raises(RequestError, match=sentence):
            load_model(models / head).predict(inputs)


def test_every_call_warns_about_truncated_texts(models: Path) -> None:
    model = load_model(models / "token-classification")
    for method in (model.predict, model.embed):
        with pytest.warns(UserWarning, match="Texts truncated to 32 tokens: 1") as record:
            method(["the sea " * 40, "the sea"])
        assert record[0].filename == __file__
        method("the sea")


def test_a_model_without_a_tokenizer_rejects_texts(models: Path) -> None:
    from bigs_cli import BiGSForMaskedLM

    config = load_model(models / "masked-lm").config
    with pytest.raises(RequestError, match="has no tokenizer, because the model was created from a config, not loaded"):
        BiGSForMaskedLM(config).predict("[MASK]")


@given(st.text(max_size=40))
def test_split_words_cover_all_but_white_space(text: str) -> None:
    spans = list(split_words(text))
    assert "".join(text[start:end] for start, end in spans) == re.sub(r"\s", "", text)
    assert all(start < end for start, end in spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


def test_words_are_split_as_in_entity_corpora() -> None:
    text = "\"Mr. O'Brien's well-known U.S. house,\" she said..."
    assert [text[a:b] for a, b in split_words(text)] == [
        *('"', "Mr", ".", "O'Brien's", "well-known", "U.S", ".", "house", ",", '"', "she", "said", "..."),
    ]
    assert is_iob(TAGS)
    assert not is_iob(("noun", "verb"))


def test_save_pretrained_writes_the_tokenizer(models: Path, tmp_path: Path) -> None:
    loaded = load_model(models / "masked-lm")
    loaded.save_pretrained(tmp_path / "saved")
    text = "the [MASK] wrote"
    assert load_model(tmp_path / "saved").predict(text) == loaded.predict(text)
