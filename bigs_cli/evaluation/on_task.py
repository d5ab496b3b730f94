"""A model of any origin on a task of any form: what `bigs eval TASK` measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.resume import locate, read_record
from bigs_cli.core.errors import RequestError
from bigs_cli.core.wording import counted
from bigs_cli.data.encode import check_token_types
from bigs_cli.evaluation.forms import form_of
from bigs_cli.evaluation.task import Split, TaskEvaluator
from bigs_cli.models.functional import make_apply
from bigs_cli.models.published import to_tree
from bigs_cli.recipe import FinetuneRecipe, load_recipe
from bigs_cli.recipe.schema import Compute
from bigs_cli.tasks.read import available_splits, load_examples
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Settings:
    """How a model is measured on a task: `data` is where the task lies (None: the hub), `trim` as in a recipe."""

    data: Path | None
    length: int
    batch_size: int
    trim: bool
    compute: Compute


def settings_for(
    opened: OpenModel,
    task: Task,
    data: Path | None = None,
    length: int | None = None,
    batch_size: int | None = None,
    trim: bool | None = None,
) -> Settings:
    """Return how to measure `opened` on `task`: as asked, else as its run did it, else in full length, 32 at once.

    The same arithmetic on the same data gives the run's own figure again.

    Raises:
        RequestError: the model has another head, other labels, or fewer positions than `length`.
    """
    config, form = opened.config, form_of(task)
    if config.head != form.head or (task.form in ("texts", "tagged") and config.num_labels != task.num_labels):
        raise RequestError(
            f"{opened.source} is a {_described(config.head, config.num_labels)}; {task.title} needs a "
            f"{_described(form.head, task.num_labels)}. Train one: bigs finetune {task.name} --from MODEL"
        )
    compute = Compute()
    if opened.run is not None:
        recipe, results = load_recipe(str(opened.run.recipe_file)), opened.run.results()
        compute, length = recipe.compute, length or results.get("length")
        if isinstance(recipe, FinetuneRecipe) and (recipe.task == task.name or task.name == "ax"):
            batch_size, trim = batch_size or recipe.eval_batch_size, recipe.trim_padding if trim is None else trim
            if data is None and (path := results.get("data", {}).get("path")):
                data = Path(locate(str(path), read_record(opened.run.path).data))
    length = length or config.max_position_embeddings
    if length > config.max_position_embeddings:
        raise RequestError(
            f"--length {length} is too long: the model takes at most {config.max_position_embeddings} tokens."
        )
    return Settings(data, length, batch_size or 32, config.mask_padding if trim is None else trim, compute)


def _described(head: str, labels: int) -> str:
    has_labels = head in ("sequence-classification", "token-classification")
    return f"{head} model with {counted(labels, 'label')}" if has_labels else f"{head} model"


class ModelOnTask:
    """A model ready to be run on splits of a task."""

    def __init__(self, opened: OpenModel, tokenizer: Tokenizer, task: Task, settings: Settings) -> None:
        """Consume `opened`, read for `task` as `settings` say; labels in another order than the task's are mended.

        Raises:
            RequestError: the model's labels are not the task's.
        """
        self.task, self.settings, self._tokenizer = task, settings, tokenizer
        self._form, self._config = form_of(task), opened.config
        order = None
        if opened.config.labels and task.labels and opened.config.labels != task.labels:
            order = places_of(task.labels, opened.config.labels, opened.source)
        apply = make_apply(opened.config, settings.compute)
        self._params = to_tree(opened.flat, opened.config)
        self._evaluator = TaskEvaluator(apply, self._form, settings.batch_size, settings.trim, order)

    def splits(self, names: Sequence[str] = ()) -> list[Split]:
        """Read the splits `names`, by default every dev split there is, as the model takes them.

        Raises:
            RequestError: one cannot be found or read.
        """
        data = self.settings.data
        found = [name for name in available_splits(self.task, data) if name.startswith("dev")] or ["dev"]
        made = []
        for name in names or found:
            examples = load_examples(self.task, name, data)
            inputs = self._form.encode(self._tokenizer, examples, self.settings.length)
            check_token_types(inputs, self._config)
            made.append(Split(name, examples, inputs))
        return made

    def measure(
        self, splits: Sequence[Split], advance: Callable[[int], None] = lambda n: None
    ) -> tuple[dict[str, dict[str, float]], dict[str, Array]]:
        """Return the task's metrics by labelled split, and each split's scores."""
        return self._evaluator.measure(self._params, splits, advance)

    def scores(self, splits: Sequence[Split], advance: Callable[[int], None] = lambda n: None) -> dict[str, Array]:
        """Return each split's scores, labelled or not."""
        return {split.name: self._evaluator.scores(self._params, split.inputs, advance) for split in splits}

    def predictions(self, splits: Sequence[Split], scores: dict[str, Array]) -> Iterator[dict[str, Any]]:
        """Yield what predictions.jsonl says of every example."""
        return self._evaluator.predictions(splits, scores)


def places_of(task_labels: tuple[str, ...], model_labels: tuple[str, ...], source: str) -> list[int]:
    """Return each task label's place among the model's, matched by name; another order of the same names is common.

    Raises:
        RequestError: the names are others.
    """
    known = [label.casefold() for label in model_labels]
    if sorted(known) != sorted(label.casefold() for label in task_labels):
        raise RequestError(
            f"The labels of {source} ({', '.join(model_labels)}) are not the task's ({', '.join(task_labels)}): "
            "it was trained for something else."
        )
    return [known.index(label.casefold()) for label in task_labels]
