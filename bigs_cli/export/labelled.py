"""What a changed model costs in accuracy, on the examples that its own fine-tuning was measured on."""

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

MOST = 1000  # a figure right to some percent, in seconds
_ROWS = 16  # at once


class _Example(BaseModel):
    """What is read of a line of predictions.jsonl."""

    text: str
    pair: str | None = None
    label: str | float | None = None


@dataclass(frozen=True)
class Labelled:
    """Texts as model inputs, and their labels: ids of classes, or scores."""

    encoded: Encoded
    labels: Array

    def first_batch(self) -> Inputs:
        """Return up to 16 texts as one batch."""
        rows = np.arange(min(_ROWS, len(self.encoded)))
        return _inputs(self.encoded.batch(rows, len(rows)))


def labelled_examples(model: OpenModel, length: int) -> Labelled | None:
    """Return the first 1,000 texts and labels of the run's predictions.jsonl, cut to `length` tokens.

    None where the model comes from no run, or answers with something else than a class or a score.

    Raises:
        RequestError: a line is no example of the model's: it has no text, or none of its labels.
    """
    config, run = model.config, model.run
    if run is None or config.head != "sequence-classification" or model.tokenizer is None:
        return None
    if not run.predictions_file.is_file():
        return None
    with run.predictions_file.open("rb") as file:
        lines = list(itertools.islice(file, MOST))
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
                f"{run.predictions_file}:{number} is no example that the model was measured on. Mend the line, or "
                "remove the file: the accuracy is then not measured."
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


def agreement(config: BiGSConfig, examples: Labelled, exact: Run, changed: Run) -> str:
    """Say how a changed model does beside the exact one: accuracy and same answers, or the correlation with scores."""
    labels, n = examples.labels, len(examples.labels)
    scores = [_answers(examples.encoded, run) for run in (exact, changed)]
    if config.num_labels == 1:
        before, after = (100 * np.corrcoef(score[:, 0], labels)[0, 1] for score in scores)
        return f"Pearson {after:.1f} instead of {before:.1f} on {n:,} dev examples."
    ours, theirs = (score.argmax(1) for score in scores)
    before, after, same = (100 * float((a == b).mean()) for a, b in ((ours, labels), (theirs, labels), (ours, theirs)))
    return f"accuracy {after:.1f}% instead of {before:.1f}% on {n:,} dev examples; {same:.1f}% of the answers the same."


def _answers(encoded: Encoded, run: Run) -> Array:
    rows = np.arange(len(encoded))
    batches = [encoded.batch(rows[start : start + _ROWS], _ROWS) for start in range(0, len(rows), _ROWS)]
    return np.concatenate([run(_inputs(batch))[0] for batch in batches])[: len(encoded)]


def _inputs(batch: dict[str, Array]) -> Inputs:
    return Inputs(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
