"""Multiple choice: the inputs of the model, and loss, metrics and predictions from its scores."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.data.tokenizer import train_tokenizer
from bigs_cli.recipe.groups import Loss
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from bigs_cli.tasks.types.multiple_choice import ChoiceExamples
from tests.tiny import DOCUMENTS

CODAH = type_of(get_task("codah"))
EXAMPLES = ChoiceExamples(
    ["The river", "A lake of salt and stone"],
    [["runs.", "sings.", "", "eats the old bridges."], ["a", "b", "c", "d"]],
    np.array([0, 3], np.int32),
)


def test_each_ending_follows_its_beginning() -> None:
    tokenizer = train_tokenizer(DOCUMENTS, 300)
    made = CODAH.encode(tokenizer, EXAMPLES, 32)
    assert len(made) == 2
    batch = made.batch(np.array([1, 0]), 3)
    assert batch["input_ids"].shape == batch["token_type_ids"].shape == (3, 4, 32)
    assert batch["labels"].tolist() == [3, 0, 0]
    assert batch["weights"].tolist() == [1, 1, 0]
    for place, row in enumerate((1, 0)):
        for choice in range(4):
            first, ending = (
                tokenizer.encode(text, add_special_tokens=False).ids
                for text in (EXAMPLES.text_a[row], EXAMPLES.endings[row][choice])
            )
            cls, sep = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
            expected = [cls, *first, sep, *ending, sep]
            length = len(expected)
            assert batch["input_ids"][place, choice, :length].tolist() == expected
            assert batch["attention_mask"][place, choice].sum() == length
            assert batch["token_type_ids"][place, choice].sum() == len(ending) + 1
    assert CODAH.encode(tokenizer, EXAMPLES, 8).lengths.max() == 8


def test_loss_metrics_and_predictions() -> None:
    scores = np.array([[2.0, 0, 0, 0], [1, 3, 0, 2]], np.float32)
    assert EXAMPLES.labels is not None
    loss, sums = CODAH.loss(jnp.asarray(scores), jnp.asarray(EXAMPLES.labels), jnp.ones(2), Loss())
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log(shares[0, 0]) - np.log(shares[1, 3]), rel=1e-5)
    assert (float(sums["weight"]), float(sums["accuracy"])) == (2, 1)
    tokenizer = train_tokenizer(DOCUMENTS, 300)
    inputs = CODAH.encode(tokenizer, EXAMPLES, 32)
    assert CODAH.metrics(EXAMPLES, inputs, scores) == {"accuracy": 0.5}
    first, second = CODAH.predictions(EXAMPLES, inputs, scores)
    assert (first["label"], first["prediction"], second["label"], second["prediction"]) == (0, 0, 3, 1)
    assert second["choices"] == ["a", "b", "c", "d"]
    assert second["scores"] == pytest.approx(shares[1].tolist(), abs=1e-5)
