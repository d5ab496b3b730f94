"""The accuracy of a quantized model, on the dev examples of its fine-tuning run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from bigs_cli.checkpoints.arrays import Array
from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import RequestError
from bigs_cli.data.encode import Encoded, encode_texts
from bigs_cli.data.tokenizer import load_tokenizer
from bigs_cli.export.settings import Inputs, Run
from bigs_cli.models.config import BiGSConfig
from bigs_cli.tasks.types import type_of_model

MAX_EXAMPLES = 1000  # gives the accuracy to within a few percent, in seconds
_BATCH = 16


class _Example(BaseModel):
    """The fields of a line of predictions.jsonl that are read."""

    text: str
    pair: str | None = None
    label: str | float | None = None


@dataclass(frozen=True)
class Labelled:
    """Encoded texts and their labels: class ids or scores."""

    encoded: Encoded
    labels: Array

    def first_batch(self) -> Inputs:
        """Return up to 16 texts as one batch."""
        rows = np.arange(min(_BATCH, len(self.encoded)))
        return _inputs(self.encoded.batch(rows, len(rows)))


def labelled_examples(model: OpenModel, length: int) -> Labelled | None:
    """Return the first 1,000 texts and labels in predictions.jsonl of the model's run, truncated to `length` tokens.

    Return None for a model without a run, and for a head whose task type does not label texts.

    Raises:
        RequestError: a line has no text, or a label that the model does not have.
    """
    config, run, kind = model.config, model.run, type_of_model(model.config)
    if run is None or kind is None or not kind.labels_texts or model.tokenizer is None:
        return None
    if not run.predictions_file.is_file():
        return None
    with run.predictions_file.open("rb") as file:
        lines = list(itertools.islice(file, MAX_EXAMPLES))
    names = config.labels or ()
    examples: list[_Example] = []
    labels: list[float] = []
    for number, line in enumerate(lines, 1):
        try:
            example = _Example.model_validate_json(line)
            if example.label is not None:
                labels.append(float(names.index(example.label) if example.label in names else example.label))
                examples.append(example)
        except ValueError:
            raise RequestError(
                f"{run.predictions_file}:{number} is not a labelled example of this model. Correct the line, or remove "
                "the file to skip the measurement of the accuracy."
            ) from None
    if not examples:
        return None
    pairs = [example.pair for example in examples if example.pair is not None]
    encoded = encode_texts(
        load_tokenizer(model.tokenizer),
        [example.text for example in examples],
        pairs if len(pairs) == len(examples) else None,
        length,
    )
    return Labelled(encoded, np.asarray(labels, np.float64))


def agreement(config: BiGSConfig, examples: Labelled, exact: Run, quantized: Run) -> str:
    """Describe the accuracy of a quantized model and its agreement with the exact one, or the correlation of scores."""
    labels, n = examples.labels, len(examples.labels)
    scores = [_scores(examples.encoded, run) for run in (exact, quantized)]
    if config.num_labels == 1:
        before, after = (100 * np.corrcoef(score[:, 0], labels)[0, 1] for score in scores)
        return f"Pearson {after:.1f} instead of {before:.1f} on {n:,} dev examples."
    ours, theirs = (score.argmax(1) for score in scores)
    before, after, same = (100 * float((a == b).mean()) for a, b in ((ours, labels), (theirs, labels), (ours, theirs)))
    accuracy = f"accuracy {after:.1f}% instead of {before:.1f}% on {n:,} dev examples"
    return f"{accuracy}; {same:.1f}% of the predictions are the same."


def _scores(encoded: Encoded, run: Run) -> Array:
    rows = np.arange(len(encoded))
    batches = [encoded.batch(rows[start : start + _BATCH], _BATCH) for start in range(0, len(rows), _BATCH)]
    return np.concatenate([run(_inputs(batch))[0] for batch in batches])[: len(encoded)]


def _inputs(batch: dict[str, Array]) -> Inputs:
    return Inputs(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
