"""What a form of task needs to be learned and judged, whatever its head (`Form`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from bigs_cli.data.encode import Encoded
from bigs_cli.models.config import Head
from bigs_cli.models.heads import Outputs

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


class Form(Protocol):
    """One task as the model meets it: from examples to its input, from its output to a loss, figures and answers.

    `examples` are those of the task's form (`tasks/examples.py`), `inputs` what `encode` made of them. `scores` are
    what the model gave: `[n, K]`, a row for each row of `inputs`, or, `by_token`, `[all tokens, K]` as `inputs.ids`.
    """

    @property
    def head(self) -> Head:
        """The head of a model for the task."""
        ...

    @property
    def outputs(self) -> int:
        """K, the scores of a row or token."""
        ...

    @property
    def by_token(self) -> bool:
        """Whether every token has scores, or every row."""
        ...

    def encode(self, tokenizer: Tokenizer, examples: Any, length: int) -> Encoded:
        """Return the examples as the model reads them, in at most `length` tokens, with labels where there are any."""
        ...

    def scores(self, outputs: Outputs) -> jax.Array:
        """Return what counts of a batch's outputs: `[B, K]`, or `[B, L, K]` by token."""
        ...

    def loss(self, scores: jax.Array, labels: jax.Array, weights: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return the summed loss of a batch, and further sums, as `models/losses.py` does."""
        ...

    def metrics(self, examples: Any, inputs: Encoded, scores: Array) -> dict[str, float]:
        """Return every metric of the task, as fractions; the first one chooses between checkpoints."""
        ...

    def predictions(self, examples: Any, inputs: Encoded, scores: Array) -> Iterator[dict[str, Any]]:
        """Yield each example's record with labels by name, and its `prediction` and `scores`, for predictions.jsonl."""
        ...


def softmax(scores: Array) -> Array:
    """Return probabilities along the last axis, float64."""
    likely = np.exp(scores - scores.max(-1, keepdims=True), dtype=np.float64)
    return likely / likely.sum(-1, keepdims=True)
