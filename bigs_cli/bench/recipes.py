"""`bigs bench recipes`: pretrain with several recipes and seeds, then evaluate and fine-tune each model, and compare.

The first recipe is the baseline. Runs of the same seed are paired: their data order and, up to shapes, their initial
parameters are the same.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from bigs_cli.bench.steps import Step, json_of, run_step
from bigs_cli.checkpoints.resume import absolute
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.error_messages import read_error
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import parse_json, to_json, write_json
from bigs_cli.core.metric_names import by_split, metric_in_words
from bigs_cli.data.manifest import MANIFEST
from bigs_cli.data.shards import open_shards
from bigs_cli.evaluation.paired import paired_t_test
from bigs_cli.recipe import FinetuneRecipe, PretrainRecipe, load_recipe
from bigs_cli.reporting.console import markdown_table, table
from bigs_cli.reporting.metrics_log import curve, read_metrics
from bigs_cli.tasks import task_of

PLAN, PAIRS, SPEED = "plan.json", "blimp.json", "speed.json"
_TEXTS = 1000
"""Number of random texts with which the speed of prediction is measured."""


@dataclass(frozen=True)
class Plan:
    """What is compared: pretraining `recipes`, and fine-tuning recipes (`tasks`), by name.

    Results are in `root`/RECIPE/seed-N. `options` are the values for `--recipe`, by name. `sets` (KEY=VALUE) are
    already applied to `recipes`. `glue` is the folder with the files of the tasks (None: the hub), and `blimp` that of
    BLiMP (None: not evaluated), of which at most `blimp_limit` pairs per file are used.
    """

    root: Path
    recipes: dict[str, PretrainRecipe]
    tasks: dict[str, FinetuneRecipe]
    options: dict[str, str]
    shards: Path
    seeds: int
    sets: tuple[str, ...] = ()
    glue: Path | None = None
    blimp: Path | None = None
    blimp_limit: int | None = None

    def parts(self) -> dict[str, Any]:
        """Return all that determines results, as strings and JSON objects, by a name for messages."""
        places = {"--data": self.shards, "--task-data": self.glue, "--blimp": self.blimp}
        parts: dict[str, Any] = {option: absolute(place) for option, place in places.items() if place is not None}
        if self.blimp is not None:
            parts["--blimp-limit"] = self.blimp_limit
        for name, recipe in (self.recipes | self.tasks).items():
            parts[f"recipe {name}"] = recipe.model_dump(mode="json", by_alias=True)
        return parts

    def digests(self) -> dict[str, str]:
        """Return a SHA-256 of each recipe but its seed, and of the token shards if they are on this machine."""
        digests = {}
        for name, recipe in (self.recipes | self.tasks).items():
            # Without defaults, so that a key of a later release changes nothing.
            left_out = {"seed": True, "data": {"path"}}
            values = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=left_out)
            digests[f"recipe {name}"] = hashlib.sha256(to_json(values, sort_keys=True).encode()).hexdigest()
        if (self.shards / MANIFEST).is_file():
            digests["--data"] = open_shards(self.shards).digest
        return digests


Values = dict[str, dict[int, float]]
"""Recipe → seed → value."""


@dataclass(frozen=True)
class Measure:
    """The values of one measure: recipe → seed → value. `scale` converts them to the unit of the table.

    `is_result` is false for a measure that the recipes determine, such as the number of parameters.
    """

    name: str
    values: Values
    scale: float = 1.0
    digits: int = 1
    is_result: bool = True

    @property
    def scaled(self) -> dict[str, list[float]]:
        """The values in the unit of the table, without recipes that have none."""
        found = {recipe: [self.scale * value for value in of.values()] for recipe, of in self.values.items()}
        return {recipe: values for recipe, values in found.items() if values}

    def p_value(self, recipe: str) -> float | None:
        """Return the p-value of a two-sided paired t-test against the first recipe, with their common seeds as pairs.

        None for the first recipe, for fewer than two common seeds, or if all differences are equal.
        """
        first = next(iter(self.values))
        return None if recipe == first else paired_t_test(self.values[recipe], self.values[first])

    def as_dict(self) -> dict[str, Any]:
        """Return the object for JSON; scores are fractions there."""
        p_values = {recipe: self.p_value(recipe) for recipe in self.values}
        return {"measure": self.name, "values": self.values, "p_values": p_values}


def make_plan(root: Path, recipes: Sequence[str], tasks: Sequence[str], **others: Any) -> Plan:
    """Return a plan, after checking its recipes.

    Raises:
        RequestError: a recipe is invalid, of the wrong kind, or named twice, or the plan contradicts the results that
            are already in its folder.
    """
    plan = Plan(root, {}, {}, {}, **others)
    for name in recipes:
        recipe = load_recipe(name, plan.sets)
        if not isinstance(recipe, PretrainRecipe):
            raise RequestError(f"The recipe {name} is for fine-tuning. Name pretraining recipes, and {name} as --task.")
        plan.recipes[_noted(plan, name)] = recipe
    for name in tasks:
        recipe = load_recipe(name)
        if not isinstance(recipe, FinetuneRecipe):
            raise RequestError(f"The recipe {name} is for pretraining. Name fine-tuning recipes with --task.")
        plan.tasks[_noted(plan, name)] = recipe
    before = _recorded(plan)
    changed = [what for what, now in plan.parts().items() if before.get(what, now) != now]
    if changed:
        raise RequestError(
            f"The results in {plan.root} were made with another value of {', '.join(changed)}. Use the same value, or "
            f"another folder: --output {plan.root}-2"
        )
    return plan


def _noted(plan: Plan, option: str) -> str:
    """Note a recipe that was given as `option` in the options of a plan; return its name."""
    name = Path(option).stem
    if name in plan.options:
        raise RequestError(f"Two recipes have the name {name}. Name each recipe once.")
    plan.options[name] = option
    return name


def _recorded(plan: Plan) -> dict[str, Any]:
    """Return the `parts` that were recorded with the results in the folder of a plan; more may be added to them."""
    file = plan.root / PLAN
    return parse_json(file.read_bytes()) if file.is_file() else {}


def run(plan: Plan) -> list[Measure]:
    """Run every step that is not complete, all recipes of a seed before the next seed; return the measures.

    Raises:
        BigsError, typer.Exit: a step failed (`run_step`).
    """
    if plan.seeds:
        write_json(plan.root / PLAN, _recorded(plan) | plan.parts())
    for number in range(plan.seeds):
        for recipe in plan.recipes:
            _run_seed(plan, recipe, number)
    return list(_measures(plan))


def _seed(plan: Plan, recipe: str, number: int) -> int:
    return plan.recipes[recipe].seed + number


def _folder(plan: Plan, recipe: str, number: int) -> Path:
    return plan.root / recipe / f"seed-{_seed(plan, recipe, number)}"


def _run_seed(plan: Plan, recipe: str, number: int) -> None:
    """Pretrain with one recipe and seed; measure the speed of the model, evaluate it on BLiMP, and fine-tune it."""
    folder = _folder(plan, recipe, number)
    seed = ["--set", f"seed={_seed(plan, recipe, number)}"]
    base = RunFolder(folder / "pretrained")
    sets = [word for value in plan.sets for word in ("--set", value)]
    pretrain = ["pretrain", "--recipe", plan.options[recipe], "--data", str(plan.shards), "--run", str(base.path)]
    run_step(Step([*pretrain, *sets, *seed], base.results_file, run=True))
    speed = ["bench", "predict", "--model", str(base.path), "--texts", str(_TEXTS), "--json", str(folder / SPEED)]
    run_step(Step(speed, folder / SPEED))
    if plan.blimp is not None and not (folder / PAIRS).is_file():
        pairs = ["eval", "blimp", "--model", str(base.path), "--data", str(plan.blimp)]
        pairs += [] if plan.blimp_limit is None else ["--limit", str(plan.blimp_limit)]
        write_json(folder / PAIRS, json_of(pairs))
    data = [] if plan.glue is None else ["--data", str(plan.glue)]
    for name in plan.tasks:
        tuned = RunFolder(folder / name)
        finetune = [
            "finetune",
            "--recipe",
            plan.options[name],
            "--from",
            str(base.path),
            *data,
            "--run",
            str(tuned.path),
        ]
        run_step(Step([*finetune, *seed], tuned.results_file, run=True))


def _measures(plan: Plan) -> Iterator[Measure]:
    numbers = range(plan.seeds)
    folders = {
        name: {_seed(plan, name, number): _folder(plan, name, number) for number in numbers} for name in plan.recipes
    }

    def measure(name: str, value: Callable[[Path], float], scale: float = 1.0, digits: int = 1) -> Measure:
        values = {recipe: {seed: float(value(one)) for seed, one in of.items()} for recipe, of in folders.items()}
        return Measure(name, values, scale, digits)

    def pretrained(folder: Path) -> RunFolder:
        return RunFolder(folder / "pretrained")

    for name in ("parameters", "tokens"):
        count = measure(f"{name}, millions", lambda one, name=name: pretrained(one).results()[name], 1e-6, 2)
        yield replace(count, is_result=False)
    if all("heldout_loss" in pretrained(one).results()["metrics"] for of in folders.values() for one in of.values()):
        yield measure("validation loss, nats", lambda one: pretrained(one).results()["metrics"]["heldout_loss"], 1, 3)
    if plan.blimp is not None:
        yield measure(
            "BLiMP accuracy, %", lambda one: parse_json((one / PAIRS).read_bytes())["metrics"]["accuracy"], 100
        )
    for name, recipe in plan.tasks.items():
        task = task_of(recipe)
        for metric in task.metrics:
            yield measure(
                f"{task.title} {metric_in_words(metric)}, %",
                lambda one, name=name, metric=metric: by_split(RunFolder(one / name).results())["dev"][metric],
                100,
            )
    yield measure("training, 1,000 tokens/s", lambda one: _training_speed(pretrained(one)), 1e-3)
    yield measure("prediction, 1,000 tokens/s", lambda one: _prediction_speed(one / SPEED), 1e-3)


def _training_speed(run: RunFolder) -> float:
    return statistics.median(curve(read_metrics(run.metrics_file), "tokens_per_second")[1])


def _prediction_speed(file: Path) -> float:
    measured = parse_json(file.read_bytes())["measured"]
    return measured["tokens"] / measured["forward_s"]


def read_results(files: Sequence[Path], settings: Mapping[str, Any]) -> list[dict[str, Values]]:
    """Read the values in JSON files of the same comparison, run elsewhere: measure → values.

    A file may have other seeds, and only some of the recipes.

    Raises:
        RequestError: a file cannot be read, or its tasks, values, data or recipes differ from those in `settings`.
    """
    found = []
    for file in files:
        try:
            report = parse_json(file.read_bytes())
            values = {
                one["measure"]: {
                    recipe: {int(seed): float(value) for seed, value in of.items()}
                    for recipe, of in one["values"].items()
                }
                for one in report["measures"]
            }
            same = _but_seeds(report["settings"]) == _but_seeds(settings)
            theirs = report["settings"].get("digests", {})  # Files of earlier releases have none.
            changed = [what for what, one in settings["digests"].items() if theirs.get(what, one) != one]
        except OSError as error:
            raise read_error(file, error) from error
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RequestError(f"{file} was not written by `bigs bench recipes --json`.") from None
        if not same:
            raise RequestError(f"{file} belongs to another comparison: its --task, --set or --blimp-limit differ.")
        if changed:
            raise RequestError(
                f"The results in {file} were made with another value of {', '.join(changed)}, so they cannot be "
                "compared. Leave the file out."
            )
        found.append(values)
    return found


def _but_seeds(settings: Mapping[str, Any]) -> list[Any]:
    """Return the settings of a comparison that determine its results, except for recipes and seeds."""
    sets = [value for value in map(str, settings["sets"]) if not value.startswith("seed=")]
    return [list(settings["tasks"]), sets, settings.get("blimp_limit")]


def with_results(measures: Sequence[Measure], others: Sequence[Mapping[str, Values]]) -> list[Measure]:
    """Return the measures with the values of `others` for the same recipes added."""
    return [
        replace(
            one,
            values={
                recipe: {
                    seed: value
                    for values in (*(other.get(one.name, {}).get(recipe, {}) for other in others), own)
                    for seed, value in values.items()
                }
                for recipe, own in one.values.items()
            },
        )
        for one in measures
    ]


def recipes_table(measures: Sequence[Measure]) -> Table:
    """Return a table of measures with one column per recipe: mean ± sample standard deviation, and the p-value."""
    recipes = list(measures[0].values)
    result = table("", "", *recipes, right=tuple(recipes))
    for row in _rows(measures):
        result.add_row(*row)
    return result


def markdown(measures: Sequence[Measure]) -> str:
    """Return the table of measures as Markdown."""
    return markdown_table(["", *measures[0].values], _rows(measures), 1)


def explanation(measures: Sequence[Measure]) -> str:
    """Return a sentence about the numbers in a table of measures."""
    first = next(iter(measures[0].values))
    counts = sorted({len(of) for one in measures for of in one.values.values()})
    if counts[-1] < 2:
        return "One seed, so there are no standard deviations and no p-values."
    seeds = f"{counts[0]} to {counts[-1]}" if counts[0] < counts[-1] else str(counts[0])
    return f"Means ± standard deviations over {seeds} seeds; p: paired t-test against {first}."


def _rows(measures: Sequence[Measure]) -> list[list[str]]:
    return [[one.name, *(_cell(one, recipe) for recipe in one.values)] for one in measures]


def _cell(measure: Measure, recipe: str) -> str:
    values = measure.scaled.get(recipe, [])
    if not values:
        return "–"
    text = f"{statistics.fmean(values):.{measure.digits}f}"
    if len(set(values)) > 1:
        text += f" ± {statistics.stdev(values):.{measure.digits}f}"
    p = measure.p_value(recipe)
    return text if p is None else f"{text} (p {p:.2f})" if p >= 0.01 else f"{text} (p {p:.1g})"
