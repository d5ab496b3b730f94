"""`bigs bench predict`: the time of `bigs predict`, including input and output, compared with its forward passes.

Run as a script, it measures both in turn, after a warm-up pass that compiles.
"""

from __future__ import annotations

import functools
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.table import Table

from bigs_cli.bench.child import run_child
from bigs_cli.checkpoints.resolve import OpenModel, find_model, open_model
from bigs_cli.data.python_docs import read_python_docs
from bigs_cli.data.tokenizer import MASK, train_tokenizer
from bigs_cli.inference import windows_of
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize
from bigs_cli.models.published import to_flat, to_unstacked
from bigs_cli.prediction.items import items_of
from bigs_cli.prediction.output import write_answers
from bigs_cli.prediction.predictor import Predictor
from bigs_cli.prediction.settings import settings_for, tokenizer_of
from bigs_cli.reporting.console import table
from bigs_cli.tasks.items import InputFormat, Item

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SMALL = BiGSConfig(
    head="sequence-classification",
    vocab_size=8192,
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=4,
    max_position_embeddings=128,
    mask_padding=True,
)
"""The size of the recipe `small`, with a smaller vocabulary."""
_MIN_WORDS, _MAX_WORDS = 5, 40
_DOCUMENTS = 400  # enough text for a vocabulary of this size


@dataclass(frozen=True)
class Measured:
    """Seconds for all texts; `overhead` is the median over rounds of predict_s / forward_s - 1."""

    texts: int
    tokens: int
    predict_s: float
    forward_s: float
    overhead: float


def measure(model: str | None, source: Path | None, texts: int, rounds: int) -> Measured:
    """Measure a model on `texts` texts: the lines of `source`, repeated as needed, or random words of its vocabulary.

    If `model` is None, an untrained model of the size `SMALL` is measured, with a vocabulary trained on Python's
    documentation.

    Raises:
        BigsError: the measurement failed.
    """
    arguments = {"model": model, "source": source and str(source), "texts": texts, "rounds": rounds}
    return Measured(**json.loads(run_child("bigs_cli.bench.predict", json.dumps(arguments))))


def predict_table(measured: Measured, title: str) -> Table:
    """Return a table with one row for `bigs predict` and one for the forward passes."""
    headers = ("seconds", "texts/s", "tokens/s")
    rows = table(title, "measured", *headers, right=headers)
    for name, seconds in (("bigs predict", measured.predict_s), ("forward pass alone", measured.forward_s)):
        rows.add_row(name, f"{seconds:.2f}", f"{measured.texts / seconds:,.0f}", f"{measured.tokens / seconds:,.0f}")
    return rows


def random_texts(tokenizer: Tokenizer, count: int) -> Iterator[str]:
    """Yield texts of 5 to 40 random words of the vocabulary, with a fixed seed."""
    words = np.array(sorted(word for word in tokenizer.get_vocab() if word.isalpha()))
    random = np.random.default_rng(0)
    for _ in range(count):
        yield " ".join(random.choice(words, random.integers(_MIN_WORDS, _MAX_WORDS + 1)))


def inputs_of(texts: list[str], takes: InputFormat) -> list[Any]:
    """Return texts as inputs of a model; if it takes two texts, each is paired with the next one."""
    pairs = list(zip(texts, [*texts[1:], *texts[:1]], strict=True))
    if takes.endings:
        return [{"text": text, "endings": [text, other]} for text, other in pairs]
    return pairs if takes.text_b == "required" else texts


def _measure(model: str | None, source: str | None, texts: int, rounds: int) -> Measured:
    opened, tokenizer = _untrained() if model is None else _open(model)
    config = opened.config
    predictor = Predictor(config, to_unstacked(opened.flat), tokenizer, settings_for(opened))
    pipeline = predictor.pipeline
    if source is None:
        lines = list(random_texts(tokenizer, texts))
    else:
        source_lines = [line for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
        lines = [source_lines[i % len(source_lines)] for i in range(texts)]
    if config.head in ("masked-lm", "pretraining"):
        lines = [line if MASK in line else f"{MASK} {line}" for line in lines]
    inputs = inputs_of(lines, pipeline.takes)

    def items() -> Iterator[Item]:
        return items_of(inputs, pipeline.takes, predictor.settings.task)

    encoded = [predictor.encode(window) for window in windows_of(items())]
    batches = [batch for window in encoded for _, batch in predictor.engine.batches(window)]
    tokens = sum(len(row.ids) for row in encoded)
    scores = functools.partial(predictor.engine.function, predictor.params)

    def forward() -> None:
        jax.block_until_ready([scores(batch) for batch in batches])

    with tempfile.TemporaryDirectory() as folder:

        def predict() -> None:
            write_answers(predictor.answers(items()), pipeline, "jsonl", Path(folder) / "answers.jsonl")

        times: list[tuple[float, float]] = []
        predict()
        for _ in range(rounds):
            times.append((_seconds(predict), _seconds(forward)))
    predict_s, forward_s = zip(*times, strict=True)
    overhead = statistics.median(a / b - 1 for a, b in times)
    return Measured(texts, tokens, statistics.median(predict_s), statistics.median(forward_s), overhead)


def _open(name: str) -> tuple[OpenModel, Tokenizer]:
    opened = open_model(find_model(name))
    return opened, tokenizer_of(opened)


def _untrained() -> tuple[OpenModel, Tokenizer]:
    flat = to_flat(initialize(SMALL, seed=0), SMALL)
    opened = OpenModel("untrained", SMALL, flat, None, "initial parameters")
    return opened, train_tokenizer(itertools.islice(read_python_docs(), _DOCUMENTS), SMALL.vocab_size)


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(asdict(_measure(**json.loads(sys.argv[1])))))
