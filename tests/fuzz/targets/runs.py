"""The files of runs, suites and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from bigs_cli.checkpoints import checksums
from bigs_cli.checkpoints.resolve import find_model
from bigs_cli.checkpoints.resume import run_recipe
from bigs_cli.checkpoints.run import RunFolder, runs
from bigs_cli.checkpoints.sweep import read_plan
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.evaluation.paired import example_table
from bigs_cli.evaluation.predictions import example_scores, read_predictions
from bigs_cli.evaluation.suite import suite_lines
from bigs_cli.recipe import recipe_text
from bigs_cli.reporting import runs as reporting
from bigs_cli.tasks import get_task
from bigs_cli.tasks.types import type_of
from tests.fuzz.targets.target import Seeds, Target

_RESULTS = {"metrics": {"accuracy": 0.5, "f1": 0.6}, "step": 4, "steps": 6, "seconds": 1.5, "parameters": 100}
_RUN: dict[str, bytes] = {
    "recipe.yaml": recipe_text("mrpc").encode(),
    "environment.json": json.dumps({"python": "3.11", "packages": {"jax": "1"}, "devices": ["cpu"]}).encode(),
    "resume.json": b'{"recipe": "mrpc", "data": "/glue", "validation": null, "start": "base", "files": {}}',
    "results.json": json.dumps(_RESULTS).encode(),
    "metrics.jsonl": b'{"step": 1, "loss": 2.5, "learning_rate": 0.1}\n{"step": 2, "loss": 2.0, "dev_accuracy": 0.5}\n',
    "predictions.jsonl": b'{"split": "dev", "label": "not_equivalent", "prediction": "equivalent", "text": "a"}\n'
    b'{"split": "dev", "label": "equivalent", "prediction": "equivalent", "text": "b", "scores": {"other": 0.7}}\n',
}


def _run(name: str) -> Callable[[Path], tuple[Path, Seeds]]:
    def prepare(folder: Path) -> tuple[Path, Seeds]:
        for run in ("one", "two"):
            (folder / run).mkdir()
            for file, content in _RUN.items():
                (folder / run / file).write_bytes(content)
        return folder / "one" / name, [_RUN[name]]

    return prepare


def _read_run(path: Path) -> None:
    one, two = RunFolder(path.parent), RunFolder(path.parent.with_name("two"))
    _run_all(
        lambda: reporting.summary(one),
        lambda: run_recipe(one.path),
        lambda: reporting.compare([one, two]),
        lambda: example_scores(get_task("mrpc"), read_predictions(one.predictions_file)),
        lambda: [
            example_table(type_of(get_task(task)), "", [[line]], ["a"])
            for line in read_predictions(one.predictions_file)
            for task in ("mrpc", "wikiann", "squad", "codah")
        ],
    )


def _find_run(path: Path) -> None:
    _run_all(
        lambda: _read_run(path),
        lambda: reporting.list_table(runs(path.parent.parent)),
        lambda: find_model(str(path.parent)),
    )


_SUITE: dict[str, bytes] = {
    "sweep.json": b'{"command": "finetune", "axes": [["task", ["mrpc", "rte"]]], "seeds": 2, "first_seed": 42, '
    b'"arguments": {"start": "base", "sets": ["epochs=1"]}}',
    "mrpc/seeds.json": b'{"kind": "seeds", "best": "seed-42", "seeds": [42, 43], "metrics": '
    b'{"f1": {"mean": 0.5, "std": 0.1, "best": 0.6, "values": [0.4, 0.6], "interval": [0.3, 0.7]}}}',
    "mrpc/seed-42/results.json": _RUN["results.json"],
}


def _suite(name: str) -> Callable[[Path], tuple[Path, Seeds]]:
    def prepare(folder: Path) -> tuple[Path, Seeds]:
        for file, content in _SUITE.items():
            place = folder / "glue" / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return folder / "glue" / name, [_SUITE[name]]

    return prepare


def _show_suite(path: Path) -> None:
    root = next(parent for parent in path.parents if parent.name == "glue")
    _run_all(lambda: suite_lines(root), lambda: read_plan(root))


def _checksums(folder: Path) -> tuple[Path, Seeds]:
    place = folder / "10"
    (place / "params").mkdir(parents=True)
    (place / "params" / "data").write_bytes(b"abc")
    checksums.write_checksums(place, 0.5)
    return place / checksums.CHECKSUMS, [(place / checksums.CHECKSUMS).read_bytes()]


def _read_checksums(path: Path) -> None:
    checksums.read_score(path.parent)
    if problem := checksums.find_corruption(path.parent):
        raise RequestError(problem)


def _run_all(*steps: Callable[[], object]) -> None:
    """Run every step, even after an error; then raise the first error, if any."""
    errors = []
    for step in steps:
        try:
            step()
        except BigsError as error:
            errors.append(error)
    if errors:
        raise errors[0]


TARGETS = (
    *(Target(f"run {name}", _run(name), _find_run if name == "recipe.yaml" else _read_run) for name in _RUN),
    *(Target(f"suite {name}", _suite(name), _show_suite) for name in ("sweep.json", "mrpc/seeds.json")),
    Target("seal.json", _checksums, _read_checksums),
)
