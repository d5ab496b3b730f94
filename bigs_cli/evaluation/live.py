"""The pages of `bigs runs serve`: the list of runs, and one page for each run or sweep, while they are trained."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
import numpy as np

from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.checkpoints.resume import run_recipe
from bigs_cli.checkpoints.run import RunFolder, runs
from bigs_cli.checkpoints.sweep import PLAN, find_sweep
from bigs_cli.core.errors import BigsError
from bigs_cli.core.paths import is_url
from bigs_cli.data.corpus import Validation, holds_corpus, open_corpus
from bigs_cli.data.tokenizer_config import CLS
from bigs_cli.evaluation.mlm import SEED
from bigs_cli.evaluation.report import report_on, run_section, sweep_section
from bigs_cli.evaluation.sweep import read_sweep
from bigs_cli.models.functional import Apply, make_apply
from bigs_cli.models.published import to_tree
from bigs_cli.recipe import PretrainRecipe
from bigs_cli.recipe.groups import VALIDATION
from bigs_cli.reporting.examples import masked_rows, pieces, token_name
from bigs_cli.reporting.page import Markup, element, html_table, page
from bigs_cli.reporting.runs import list_table

REFRESH = 10
"""Seconds after which browsers load the page of an unfinished run again. Chosen by this project."""
_ROWS, _TOKENS, _EXAMPLES = 3, 100, 10
"""Rows with predicted words, tokens shown of each, and wrong predictions shown of a dev set."""


class Pages:
    """The pages of the runs in the folder `root`, by path. A page is made again only when its run has changed."""

    def __init__(self, root: Path) -> None:
        self._root, self._lock = root, threading.Lock()
        self._made: dict[str, tuple[object, str]] = {}
        self._words: dict[Path, tuple[int, Markup]] = {}

    def __call__(self, path: str) -> str | None:
        """Return the page at `path`, relative to that of the list; None if there is no such run or sweep."""
        with self._lock:
            found = {run.path.relative_to(self._root).as_posix(): run for run in runs(self._root)}
            sweeps = {file.parent.name: file.parent for file in self._root.glob(f"*/{PLAN}") if self._is_sweep(file)}
            if path == "":
                return self._index(found, sweeps)
            if path in sweeps:
                inside = [_state(run) for name, run in found.items() if name.startswith(f"{path}/")]
                return self._kept(path, inside, lambda: self._sweep(path, sweeps[path]))
            if path in found:
                return self._kept(path, _state(found[path]), lambda: self._run(path, found[path]))
            return None

    def _is_sweep(self, plan: Path) -> bool:
        try:
            return find_sweep(str(plan.parent)) is not None
        except BigsError:
            return False

    def _kept(self, path: str, state: object, make: Callable[[], str]) -> str:
        if path not in self._made or self._made[path][0] != state:
            try:
                text = make()
            except BigsError as error:
                text = page(path, _back(), element("h1", path), element("p", str(error)), refresh=REFRESH)
            self._made[path] = state, text
        return self._made[path][1]

    def _index(self, found: dict[str, RunFolder], sweeps: dict[str, Path]) -> str:
        content: list[str] = [element("h1", f"Runs in {self._root}")]
        content += [element("p", _link(name, f"Sweep {name}")) for name in sweeps]
        if found:
            content.append(html_table(list_table(found.values(), list(found)), {name: _url(name) for name in found}))
        else:
            content.append(element("p", "There are no runs yet."))
        return page("Runs", *content, refresh=REFRESH)

    def _sweep(self, name: str, root: Path) -> str:
        return page(name, _back(), *sweep_section(name, read_sweep(root), itertools.count()), refresh=REFRESH)

    def _run(self, name: str, run: RunFolder) -> str:
        report = report_on(name, run, None)
        content = [_back(), element("h1", name), *run_section(report, False, _EXAMPLES, itertools.count())]
        if report.task is None and (known := steps(run.checkpoints)):
            if self._words.get(run.path, (None, ""))[0] != known[-1]:
                self._words[run.path] = known[-1], element("section", *_predicted_words(run, known[-1]))
            content.append(self._words[run.path][1])
        return page(name, *content, refresh=None if run.finished else REFRESH)


def _state(run: RunFolder) -> object:
    """Return a value that changes when the page of a run does."""

    def version(path: Path) -> object:
        try:
            return path.stat().st_mtime_ns, path.stat().st_size
        except OSError:
            return None

    files = (run.metrics_file, run.results_file, run.predictions_file, run.recipe_file)
    return [*map(version, files), steps(run.checkpoints), run.running]


def _predicted_words(run: RunFolder, step: int) -> Iterator[Markup]:
    """Yield rows of the validation data with the words that the model of a pretraining run predicts, if possible."""
    recipe = run_recipe(run.path)
    assert isinstance(recipe, PretrainRecipe)
    place = recipe.data.validation or recipe.data.path
    if is_url(place) or not holds_corpus(Path(place)):
        return
    validation = Validation.of(open_corpus(Path(place), run.path, lambda note: None))
    corpus = validation.corpus
    if corpus.static_masks:
        return
    model = open_model(find_model(str(run.path)))
    _, batch = masked_rows(corpus, validation.split, VALIDATION, _ROWS, SEED)
    predict = _predictor(make_apply(model.config, recipe.compute))
    inputs = (batch.input_ids, batch.attention_mask, batch.positions)
    predicted = np.asarray(predict(to_tree(model.flat, model.config), *inputs))
    tokenizer = corpus.tokenizer()
    yield element("h3", f"Words predicted after step {step:,}")
    for n in range(len(predicted)):
        at = {
            int(place): int(word)
            for place, word, weight in zip(batch.positions[n], predicted[n], batch.weights[n], strict=True)
            if weight > 0
        }
        ids = batch.input_ids[n].copy()
        ids[batch.positions[n][batch.weights[n] > 0]] = batch.labels[n][batch.weights[n] > 0]
        shown = ids[: min(_TOKENS, int(batch.attention_mask[n].sum()))].tolist()
        parts: list[str] = []
        for position, piece in pieces(tokenizer, shown):
            word = piece.lstrip()
            space = piece[: len(piece) - len(word)]
            if piece == CLS:
                continue
            if position not in at:
                parts.append(piece)
            elif at[position] == shown[position]:
                parts += [space, element("span", word, class_="hit")]
            else:
                wrong = element("s", token_name(tokenizer, at[position]).removeprefix("##"))
                parts.append(element("span", " ", wrong, " ", word, class_="miss"))
        yield element("p", *parts, class_="words")
    yield element(
        "p",
        "Underlined: predicted correctly. Crossed out: the prediction, before the word that is there.",
        class_="quiet",
    )


@functools.cache
def _predictor(apply: Apply) -> Callable[..., jax.Array]:
    def predict(params: Any, input_ids: jax.Array, attention_mask: jax.Array, positions: jax.Array) -> jax.Array:
        return apply(params, input_ids, attention_mask, None, positions=positions).logits.argmax(-1)

    return jax.jit(predict)


def _url(name: str) -> str:
    return f"/{quote(name)}"


def _link(name: str, text: str) -> Markup:
    return element("a", text, href=_url(name))


def _back() -> Markup:
    return element("nav", element("a", "All runs", href="/"))
