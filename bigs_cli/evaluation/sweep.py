"""The results of a sweep: a table of its settings, and whether the best one is better than the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.checkpoints.sweep import Setting, read_plan, short_key
from bigs_cli.core.errors import RequestError
from bigs_cli.core.metric_names import by_split, is_fraction, key_in_words, metric_in_words, percent
from bigs_cli.evaluation.bootstrap import bootstrap, paired_bootstrap
from bigs_cli.evaluation.paired import paired_t_test
from bigs_cli.evaluation.predictions import example_scores, read_predictions
from bigs_cli.recipe import FinetuneRecipe, Recipe, load_run_recipe
from bigs_cli.reporting.console import table
from bigs_cli.tasks import task_of
from bigs_cli.tasks.types.base import Metric

Array = np.ndarray[Any, Any]
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Outcome:
    """The finished runs of a setting, one per seed, and their metrics: name → one value per run."""

    setting: Setting
    runs: tuple[RunFolder, ...]
    metrics: Mapping[str, tuple[float, ...]]

    def mean(self, metric: str) -> float:
        """Return the mean over the seeds."""
        return statistics.fmean(self.metrics[metric])


def outcome(setting: Setting, runs: Sequence[RunFolder]) -> Outcome:
    """Read the metrics of the finished `runs` of a setting: of the dev set, or of held-out text.

    Raises:
        RequestError: a run is not finished, or one of its files is invalid.
    """
    scores = [by_split(run.results()).get("dev", {}) for run in runs]
    shared = [name for name in scores[0] if all(isinstance(one.get(name), int | float) for one in scores)]
    return Outcome(setting, tuple(runs), {name: tuple(float(one[name]) for one in scores) for name in shared})


def read_sweep(root: Path) -> Sweep:
    """Return the outcomes of the settings of the sweep in `root` that have finished runs.

    Raises:
        RequestError: there is none, or a file is invalid.
    """
    plan = read_plan(root)
    runs = [(setting, plan.finished_runs(root, setting)) for setting in plan.settings]
    outcomes = [outcome(setting, of) for setting, of in runs if of]
    if not outcomes:
        raise RequestError(f"No run of the sweep in {root} is finished.")
    return Sweep(outcomes)


class Sweep:
    """The outcomes of all settings of a sweep, of which `best` is the best.

    Raises:
        RequestError: the recipe of a run is invalid, or a run was not evaluated, or on other data.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = outcomes
        recipe: Recipe = load_run_recipe(outcomes[0].runs[0].recipe_file)
        self.task = task_of(recipe) if isinstance(recipe, FinetuneRecipe) else None
        self.metrics = ("heldout_loss", "heldout_accuracy") if self.task is None else self.task.metrics
        self.first = self.metrics[0]
        for one in outcomes:
            if not set(self.metrics) <= set(one.metrics):
                raise RequestError(
                    f"{one.runs[0].path} has no {key_in_words(self.first)}, so settings cannot be compared. Are there "
                    "held-out rows?"
                )
        check_same_data([run for one in outcomes for run in one.runs])
        self._pick = min if self.task is None else max
        self.best = self._pick(outcomes, key=lambda one: one.mean(self.first))

    @property
    def best_run(self) -> RunFolder:
        """The run of the best setting with the best first metric."""
        values = self.best.metrics[self.first]
        return self.best.runs[values.index(self._pick(values))]

    @property
    def measures(self) -> dict[str, dict[str, list[float]]]:
        """Metric in words → setting → one value per seed; fractions are in percent."""

        def scaled(metric: str, of: Outcome) -> list[float]:
            scale = 100 if self.task or is_fraction(metric) else 1
            return [scale * value for value in of.metrics[metric]]

        return {
            self._in_words(metric): {one.setting.name or "all seeds": scaled(metric, one) for one in self.outcomes}
            for metric in self.metrics
        }

    def _in_words(self, metric: str) -> str:
        return metric_in_words(metric) if self.task else key_in_words(metric)

    def table(self, title: str) -> Table:
        """Return a table with one row per setting: mean ± sample standard deviation of each metric."""
        keys = list(self.outcomes[0].setting.values)
        headers = [self._in_words(name) for name in self.metrics]
        result = table(title, *map(short_key, keys), *headers, "", right=(*map(short_key, keys), *headers))
        for one in self.outcomes:
            cells = [self._cell(name, one.metrics[name]) for name in self.metrics]
            result.add_row(
                *one.setting.values.values(), *cells, "best" if one is self.best and len(self.outcomes) > 1 else ""
            )
        return result

    def _cell(self, metric: str, values: Sequence[float]) -> str:
        def text(value: float) -> str:
            return percent(value) if self.task or is_fraction(metric) else f"{value:,.4g}"

        mean = text(statistics.fmean(values))
        return mean if len(values) == 1 else f"{mean} ± {text(statistics.stdev(values))}"

    def notes(self) -> list[str]:
        """Return sentences about the best setting: its confidence interval, and which settings may be as good."""
        name = " ".join(self.best.setting.sets)
        types = {load_run_recipe(run.recipe_file).compute.dtype for one in self.outcomes for run in one.runs}
        mixed = [f"The runs have different data types: {', '.join(sorted(types))}."] if len(types) > 1 else []
        if len(self.outcomes) == 1:
            return mixed
        if self.task is None:
            notes = [f"The lowest {key_in_words(self.first)} is that of {name}.", *mixed]
            return [*notes, *self._over_seeds()]
        scores = {one.setting.name: self._example_metric(one) for one in self.outcomes}
        metric, count = scores[self.best.setting.name]
        low, high = (percent(edge, 1) for edge in bootstrap([metric], count))
        notes = [
            f"The best {metric_in_words(self.first)} is that of {name}; 95% interval over the dev set: {low} to {high}."
        ]
        notes += mixed
        equal = []
        for one in self.outcomes:
            if one is not self.best:
                (edge, _), _ = paired_bootstrap(scores[one.setting.name][0], metric, count)
                equal += [" ".join(one.setting.sets)] if edge <= 0 else []
        if equal:
            notes.append(
                "On a dev set of this size, the best setting is not significantly better than "
                f"{'; '.join(equal)} (paired bootstrap: the 95% interval of the difference contains 0)."
            )
        return [*notes, *self._over_seeds()]

    def _over_seeds(self) -> list[str]:
        """Return a sentence on which settings may be as good as the best with other seeds, if any."""
        if len(self.best.runs) == 1:
            return ["There is one seed per setting, so small differences may be chance."]

        def by_seed(of: Outcome) -> dict[str, float]:
            return {run.path.name: value for run, value in zip(of.runs, of.metrics[self.first], strict=True)}

        equal = []
        for one in self.outcomes:
            p = paired_t_test(by_seed(self.best), by_seed(one))
            if one is not self.best and (p is None or p >= _SIGNIFICANT):
                equal.append(" ".join(one.setting.sets) + ("" if p is None else f" (p {p:.2f})"))
        if not equal:
            return []
        return [
            f"With these seeds, the best setting is not significantly better than {'; '.join(equal)} (paired t-test)."
        ]

    def _example_metric(self, of: Outcome) -> tuple[Metric, int]:
        """Return the mean of the first metric over the seeds, as a function of examples, and the number of these."""
        assert self.task is not None
        runs = [example_scores(self.task, read_predictions(run.predictions_file)) for run in of.runs]
        return lambda rows: float(np.mean([run.metrics[self.first](rows) for run in runs])), runs[0].count


def check_same_data(runs: Sequence[RunFolder]) -> None:
    """Check that all runs were evaluated on the same data, because their metrics are to be compared.

    Raises:
        RequestError: a run was evaluated on other data.
    """

    def evaluated_on(run: RunFolder) -> dict[str, str]:
        data = run.results().get("data", {})
        names = [name for name in data if name.startswith("dev")]
        return {name: data[name] for name in names or [one for one in ("validation", "shards") if one in data][:1]}

    for run in runs[1:]:
        if evaluated_on(run) != evaluated_on(runs[0]):
            raise RequestError(
                f"{run.path} was not evaluated on the data of {runs[0].path}, so they cannot be compared. Remove the "
                "folders of the runs with the old data, and resume the sweep."
            )
