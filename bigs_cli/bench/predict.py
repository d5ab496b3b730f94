"""What `bigs predict` takes beside the bare forward pass of the same batches: reading, tokenizing and writing included.

Run as a script, it measures both in turns, in a process of its own, after one pass that compiles.
"""

from __future__ import annotations

import functools
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
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.data.python_docs import read_python_docs
from bigs_cli.data.tokenizer import MASK, train_tokenizer
from bigs_cli.inference import windows_of
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import Parameters, initialize, unstack_layers
from bigs_cli.models.published import to_unstacked
from bigs_cli.prediction.items import items_of
from bigs_cli.prediction.output import write_answers
from bigs_cli.prediction.predictor import Predictor
from bigs_cli.prediction.settings import Origin, settings_for, tokenizer_of
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
"""As large as the recipe `small`, but for the vocabulary."""
_FEWEST_WORDS, _MOST_WORDS = 5, 40


@dataclass(frozen=True)
class Measured:
    """Seconds for all texts; `overhead` is predict's time by that of the forward pass, less 1: the rounds' median."""

    texts: int
    tokens: int
    predict_s: float
    forward_s: float
    overhead: float


def measure(model: str | None, source: Path | None, texts: int, rounds: int) -> Measured:
    """Measure a model on `texts` texts: the lines of `source`, over and over, else made up of words it knows.

    Without `model`, of the size `SMALL` with fresh parameters and a vocabulary trained on Python's documentation.

    Raises:
        BigsError: the measuring process failed.
    """
    asked = {"model": model, "source": source and str(source), "texts": texts, "rounds": rounds}
    return Measured(**json.loads(run_child("bigs_cli.bench.predict", json.dumps(asked))))


def predict_table(measured: Measured, title: str) -> Table:
    """Return a table of both."""
    headers = ("seconds", "texts/s", "tokens/s")
    made = table(title, "what", *headers, right=headers)
    for name, seconds in (("bigs predict", measured.predict_s), ("forward pass alone", measured.forward_s)):
        made.add_row(name, f"{seconds:.2f}", f"{measured.texts / seconds:,.0f}", f"{measured.tokens / seconds:,.0f}")
    return made


def figures(measured: Measured) -> dict[str, Any]:
    """Return the figures for JSON."""
    return asdict(measured)


def made_up(tokenizer: Tokenizer, count: int) -> Iterator[str]:
    """Yield texts of 5 to 40 words of the vocabulary, always the same."""
    words = np.array(sorted(word for word in tokenizer.get_vocab() if word.isalpha()))
    random = np.random.default_rng(0)
    for _ in range(count):
        yield " ".join(random.choice(words, random.integers(_FEWEST_WORDS, _MOST_WORDS + 1)))


def inputs_of(texts: list[str], takes: InputFormat) -> list[Any]:
    """Return texts as a model takes them, each beside the next one where it takes two."""
    pairs = list(zip(texts, [*texts[1:], *texts[:1]], strict=True))
    if takes.endings:
        return [{"text": text, "endings": [text, other]} for text, other in pairs]
    return pairs if takes.text_b == "required" else texts


def _measure(model: str | None, source: str | None, texts: int, rounds: int) -> Measured:
    config, origin, params, tokenizer = _fresh() if model is None else _opened(model)
    predictor = Predictor(config, params, tokenizer, settings_for(config, origin))
    pipeline = predictor.pipeline
    if source is None:
        lines = list(made_up(tokenizer, texts))
    else:
        held = [line for line in Path(source).read_text(encoding="utf-8").splitlines() if line.strip()]
        lines = [held[i % len(held)] for i in range(texts)]
    if config.head in ("masked-lm", "pretraining"):
        lines = [line if MASK in line else f"{MASK} {line}" for line in lines]
    given = inputs_of(lines, pipeline.takes)

    def items() -> Iterator[Item]:
        return items_of(given, pipeline.takes, predictor.settings.task)

    encoded = [predictor.encode(window) for window in windows_of(items())]
    batches = [batch for inputs in encoded for _, batch in predictor.engine.batches(inputs)]
    tokens = sum(len(inputs.ids) for inputs in encoded)
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
    whole, bare = zip(*times, strict=True)
    overhead = statistics.median(a / b - 1 for a, b in times)
    return Measured(texts, tokens, statistics.median(whole), statistics.median(bare), overhead)


def _opened(name: str) -> tuple[BiGSConfig, Origin, Parameters, Tokenizer]:
    opened = open_model(find_model(name))
    origin = Origin.of(opened)
    return opened.config, origin, to_unstacked(opened.flat), tokenizer_of(opened.config, origin)


def _fresh() -> tuple[BiGSConfig, Origin, Parameters, Tokenizer]:
    params = unstack_layers(initialize(SMALL, seed=0))
    return SMALL, Origin("fresh parameters", None, None), params, train_tokenizer(read_python_docs(), SMALL.vocab_size)


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(figures(_measure(**json.loads(sys.argv[1])))))
