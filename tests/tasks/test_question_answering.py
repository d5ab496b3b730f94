"""Question answering: windows that cover every token, answers recovered from labels, and the best of all windows."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import train_tokenizer
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.question_answering import (
    DOC_STRIDE,
    MAX_ANSWER_LENGTH,
    N_BEST,
    QuestionExamples,
    encode_questions,
    find_answers,
    window_starts,
)
from tests.tiny import DOCUMENTS

SQUAD, SQUAD2 = type_of(get_task("squad")), type_of(get_task("squad2"))
TOKENIZER = train_tokenizer(DOCUMENTS, 300)


def about(contexts: list[str], answers: list[list[tuple[str, int]]] | None) -> QuestionExamples:
    return QuestionExamples(
        [f"q{i}" for i in range(len(contexts))], ["Where to, over the hills?"] * len(contexts), contexts, answers
    )


def long_text(words: int, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    return " ".join(random.choice(" ".join(DOCUMENTS).split(), words))


@given(st.integers(0, 2000), st.integers(1, 500))
def test_windows_cover_every_token_and_overlap(tokens: int, room: int) -> None:
    starts = list(window_starts(tokens, room))
    assert starts[0] == 0
    held = np.zeros(tokens, int)
    for start in starts:
        held[start : start + room] += 1
    assert (held > 0).all()
    shared = min(DOC_STRIDE, room // 2)
    assert all(second - first == room - shared for first, second in itertools.pairwise(starts))
    assert len(starts) == 1 or starts[-2] + room < tokens  # the last window is needed


@pytest.mark.parametrize("length", [8, 24, 64])
def test_every_row_is_a_question_and_a_window_of_its_text(length: int) -> None:
    contexts = [long_text(90), "", "Ünïcode — “the sea”,\n\tnorth…", long_text(90)]
    examples = about(contexts, None)
    made = encode_questions(TOKENIZER, examples.questions, contexts, None, length)
    assert made.labels is None
    assert made.lengths.max() <= length
    assert sorted(set(made.examples.tolist())) == [0, 1, 2, 3]
    question = TOKENIZER.encode(examples.questions[0], add_special_tokens=False).ids[: (length - 3) // 2]
    cls, sep = (TOKENIZER.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    seen: list[set[tuple[int, int]]] = [set() for _ in contexts]
    for row, example in enumerate(made.examples):
        start, end, first = made.starts[row], made.starts[row + 1], made.text_a_lengths[row]
        tokens, places = made.ids[start:end], made.places[start:end]
        assert tokens[:first].tolist() == [cls, *question, sep]
        assert tokens[-1] == sep
        assert (places[:first] == -1).all()
        assert (places[-1] == -1).all()
        whole = TOKENIZER.encode(contexts[example], add_special_tokens=False)
        at = whole.offsets.index(tuple(places[first].tolist())) if end - start > first + 1 else 0
        assert tokens[first:-1].tolist() == whole.ids[at : at + end - start - first - 1]
        seen[example] |= set(map(tuple, places[first:-1].tolist()))
    for found, context in zip(seen, contexts, strict=True):
        assert found == set(TOKENIZER.encode(context, add_special_tokens=False).offsets)


def test_answers_are_recovered_from_their_labels() -> None:
    random = np.random.default_rng(1)
    contexts, answers = [], []
    for seed in range(40):
        words = long_text(60, seed).split()
        first = int(random.integers(0, 58))
        text = " ".join(words[first : first + int(random.integers(1, 4))])
        contexts.append(" ".join(words))
        answers.append([(text, len(" ".join(words[:first])) + (first > 0)), ("other", 0)])
    contexts[0], answers[0] = "To the,sea,north.", [("sea", 7)]  # adjacent punctuation is not part of the answer
    made = encode_questions(TOKENIZER, ["Who?"] * 40, contexts, answers, 32)
    learned = set()
    for row, (start, end) in enumerate(made.labels):
        example = int(made.examples[row])
        text, at = answers[example][0]
        places = made.places[made.starts[row] : made.starts[row + 1]]
        inside = places[(places[:, 0] >= 0) & (places[:, 1] > at) & (places[:, 0] < at + len(text))]
        if start == 0:
            assert end == 0
            assert len(inside) == 0 or inside[0, 0] > at or inside[-1, 1] < at + len(text)
            continue
        assert contexts[example][places[start, 0] : places[end, 1]] == text
        learned.add(example)
    assert len(learned) == 40


def brute_force(made: Any, contexts: list[str], scores: np.ndarray, example: int) -> list[tuple[str, float]]:
    best: dict[str, float] = {}
    for row in np.flatnonzero(made.examples == example):
        start = made.starts[row]
        last = made.starts[row + 1] - 1
        for s in range(start + made.text_a_lengths[row], last):
            for e in range(s, min(s + MAX_ANSWER_LENGTH, last)):
                text = contexts[example][made.places[s, 0] : made.places[e, 1]]
                best[text] = max(best.get(text, -np.inf), float(scores[s, 0] + scores[e, 1]))
    return sorted(best.items(), key=lambda item: -item[1])


def test_the_best_answers_match_brute_force() -> None:
    contexts = [long_text(70, seed) for seed in range(5)] + ["sea", ""]
    for length in (24, 64):
        made = encode_questions(TOKENIZER, ["Who?"] * 7, contexts, None, length)
        scores = np.random.default_rng(length).normal(size=(len(made.ids), 2)).astype(np.float32)
        found = find_answers(contexts, made, scores)
        for example, one in enumerate(found):
            expected = brute_force(made, contexts, scores, example)[:N_BEST]
            assert [text for text, _ in one.best[:5]] == [text for text, _ in expected[:5]]
            assert [score for _, score in one.best] == pytest.approx([score for _, score in expected])
            rows = np.flatnonzero(made.examples == example)
            assert one.null == min(scores[made.starts[row]].sum() for row in rows)
        assert len(found[0].best) == N_BEST
        assert found[6].best == []


def measured(
    task_type: Any, examples: QuestionExamples, starts_at: list[int], null: float
) -> tuple[dict[str, float], list[Any]]:
    """Return metrics and predictions if the token at `starts_at` of each question (a single window) is its answer."""
    inputs = task_type.encode(TOKENIZER, examples, 64)
    scores = np.zeros((len(inputs.ids), 2), np.float32)
    for row, place in enumerate(starts_at):
        scores[inputs.starts[row] + inputs.text_a_lengths[row] + place] = 3
        scores[inputs.starts[row]] = null / 2
    return task_type.metrics(examples, inputs, scores), list(task_type.predictions(examples, inputs, scores))


def test_no_answer_is_predicted_only_if_the_task_allows_it() -> None:
    examples = about(["the sea", "the sea"], [[("sea", 4)], []])
    place = 1
    for null, expected in ((5.9, {"f1": 0.5, "exact": 0.5}), (6.1, {"f1": 0.5, "exact": 0.5})):
        metrics, lines = measured(SQUAD2, examples, [place, place], null)
        assert metrics == expected
        assert [line["prediction"] for line in lines] == (["sea"] * 2 if null < 6 else [""] * 2)
        assert lines[0]["null_score"] == pytest.approx(null, abs=1e-4)
        assert lines[0]["label"] == ["sea"]
        assert sum(one["probability"] for one in lines[0]["nbest"]) < 1
    one = about(["the sea"], [[("sea", 4)]])
    metrics, lines = measured(SQUAD, one, [place], 9.0)
    assert metrics == {"f1": 1.0, "exact": 1.0}
    assert "null_score" not in lines[0]
    best = lines[0]["nbest"][0]
    assert best == {"text": "sea", "score": 6.0, "probability": best["probability"], "start": 4, "end": 7}
    assert sum(found["probability"] for found in lines[0]["nbest"]) == pytest.approx(1, abs=1e-4)


def test_the_loss_is_the_mean_over_start_and_end_without_padding() -> None:
    made = encode_questions(TOKENIZER, ["Who?"] * 2, ["the sea", "a town of stone"], [[("sea", 4)], [("town", 2)]], 48)
    batch = made.batch(np.arange(2), 3)
    assert batch["weights"].sum(-1).tolist() == [*made.lengths.tolist(), 0]
    scores = np.random.default_rng(0).normal(size=(3, 48, 2))
    total, sums = SQUAD.loss(jnp.asarray(scores), jnp.asarray(batch["labels"]), jnp.asarray(batch["weights"]), Loss())
    expected = 0.0
    for row, length in enumerate(made.lengths):
        for side in (0, 1):
            own = scores[row, :length, side]
            expected += 0.5 * (np.log(np.exp(own).sum()) - own[made.labels[row, side]])
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert float(sums["weight"]) == 2
    right = np.full((3, 48, 2), -5.0)
    for row in (0, 1):
        for side in (0, 1):
            right[row, made.labels[row, side], side] = 5
    right[1, made.labels[1, 1], 1] = -9
    sums = SQUAD.loss(jnp.asarray(right), jnp.asarray(batch["labels"]), jnp.asarray(batch["weights"]), Loss())[1]
    assert float(sums["accuracy"]) == 1


def test_too_short_a_length_is_refused() -> None:
    with pytest.raises(RequestError, match="Length 7 is too short"):
        encode_questions(TOKENIZER, ["Who?"], ["the sea"], None, 7)
