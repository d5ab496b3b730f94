"""Evaluation of a model on a labelled task, for `bigs eval TASK` and for the dev sets in fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.resume import locate, read_record
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.checkpoints.transfer import label_order
from bigs_cli.core.errors import RequestError
from bigs_cli.core.remote import local_copy
from bigs_cli.core.wording import counted
from bigs_cli.data.encode import Encoded, check_token_types
from bigs_cli.inference import Batch, Engine, forward, ignore
from bigs_cli.models.config import length_within
from bigs_cli.models.functional import Apply, Parameters, make_apply, memoize
from bigs_cli.models.published import to_tree
from bigs_cli.recipe import FinetuneRecipe
from bigs_cli.recipe.groups import Compute
from bigs_cli.tasks.examples import Examples
from bigs_cli.tasks.splits import dev_splits, load_examples
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import TASK_TYPES, TaskType, type_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Split:
    """A split of a task, and its examples encoded for the model."""

    name: str
    examples: Examples
    inputs: Encoded


@memoize
def _batch_scores(apply: Apply, task_type: TaskType, order: tuple[int, ...] | None) -> Callable[..., Any]:
    """Return a function from (params, batch) to the scores of a batch, with the labels in the task's order."""

    def scores(params: Parameters, batch: Batch) -> Any:
        all_scores = task_type.scores(forward(apply, params, batch))
        return all_scores if order is None else all_scores[..., np.asarray(order)]

    return scores


class TaskEvaluator:
    """Evaluates a model function on splits of a task; compiled once and called with any parameters."""

    def __init__(
        self,
        apply: Apply,
        task_type: TaskType,
        batch_size: int,
        trim: bool,
        order: Sequence[int] | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> None:
        """`trim` and `mesh` are arguments of `Engine`.

        `order` has the index of each task label in the model's outputs; None: the order is the same.
        """
        self.task_type = task_type
        scores = _batch_scores(apply, task_type, None if order is None else tuple(order))
        self.engine = Engine(scores, batch_size, trim, task_type.by_token, mesh)

    def measure(
        self, params: Parameters, splits: Sequence[Split], advance: Callable[[int], None] = ignore
    ) -> tuple[dict[str, dict[str, float]], dict[str, Array]]:
        """Return split → metric → value of labelled splits, and the scores of each split."""
        scores = self.scores(params, splits, advance)
        metrics = {
            split.name: self.task_type.metrics(split.examples, split.inputs, scores[split.name]) for split in splits
        }
        return metrics, scores

    def scores(
        self, params: Parameters, splits: Sequence[Split], advance: Callable[[int], None] = ignore
    ) -> dict[str, Array]:
        """Return the scores of each split, which may be unlabelled."""
        return {split.name: self.engine(params, split.inputs, advance) for split in splits}

    def predictions(self, splits: Sequence[Split], scores: dict[str, Array]) -> Iterator[dict[str, Any]]:
        """Yield one line of predictions.jsonl per example of `splits`."""
        for split in splits:
            for record in self.task_type.predictions(split.examples, split.inputs, scores[split.name]):
                yield {"split": split.name, **record}


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation; `data` is the folder of the task (None: the hub), `trim` is `trim_padding`."""

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
    """Return the settings to evaluate `opened` on `task`.

    Options that are None default to the settings of its run or, without one, to the model's full length and a batch
    size of 32. The settings of the run reproduce its results.

    Raises:
        RequestError: the model has another head or number of labels, or fewer positions than `length`; or the data of
            the run is at a URL without anything.
        BigsError: the data of the run is at a URL that cannot be reached.
    """
    config, task_type = opened.config, type_of(task)
    labels = task.num_labels if task_type.has_labels else config.num_labels
    own, needed = (config.head, config.multi_label, config.num_labels), (task_type.head, task_type.multi_label, labels)
    if own != needed:
        raise RequestError(
            f"{opened.source} is a {_describe_model(*own)}; {task.title} needs a {_describe_model(*needed)}. "
            f"Train one: bigs finetune {task.name} --from MODEL"
        )
    run, recipe = opened.run, opened.recipe
    if run is not None and isinstance(recipe, FinetuneRecipe) and (recipe.task == task.name or task.name == "ax"):
        batch_size, trim = batch_size or recipe.eval_batch_size, recipe.trim_padding if trim is None else trim
        if data is None and (place := _data_of(run)) is not None:
            data = local_copy(place)
    trim = config.ignores_padding if trim is None else trim
    length = length_within(config, length or opened.trained_length)
    return Settings(data, length, batch_size or 32, trim, opened.compute)


def _data_of(run: RunFolder) -> str | None:
    """Return the folder or URL of the data of a fine-tuning run, which may be unfinished; None: there is none."""
    recorded = read_record(run.path).data
    if not run.finished:
        return recorded
    path = run.results().get("data", {}).get("path")
    return locate(str(path), recorded) if path else None


def _describe_model(head: str, multi_label: bool, labels: int) -> str:
    kind = TASK_TYPES.get(head)
    name = f"multi-label {head}" if multi_label else head
    return f"{name} model with {counted(labels, 'label')}" if kind is not None and kind.has_labels else f"{name} model"


class ModelOnTask(TaskEvaluator):
    """A model with its parameters and tokenizer, to evaluate on splits of a task."""

    def __init__(self, opened: OpenModel, tokenizer: Tokenizer, task: Task, settings: Settings) -> None:
        """Take the parameters of `opened`, which loses its arrays to save memory; do not use it afterwards.

        If its labels are in a different order from those of the task, its outputs are reordered.

        Raises:
            RequestError: the labels of the model differ from those of the task.
        """
        order = None
        if opened.config.labels and task.labels and opened.config.labels != task.labels:
            order = label_order(task.labels, opened.config.labels)
            if order is None:
                raise RequestError(
                    f"The labels of {opened.source} ({', '.join(opened.config.labels)}) are not the task's "
                    f"({', '.join(task.labels)}): it was trained for another task."
                )
        apply = make_apply(opened.config, settings.compute)
        super().__init__(apply, type_of(task), settings.batch_size, settings.trim, order)
        self.params = to_tree(opened.flat, opened.config)
        self._settings, self._tokenizer, self._config = settings, tokenizer, opened.config

    def splits(self, names: Sequence[str] = ()) -> list[Split]:
        """Read and encode the splits `names`, by default every dev split.

        Raises:
            RequestError: one cannot be found or read.
        """
        task, data = self.task_type.task, self._settings.data
        splits = []
        for name in names or dev_splits(task, data):
            examples = load_examples(task, name, data)
            inputs = self.task_type.encode(self._tokenizer, examples, self._settings.length)
            check_token_types(inputs, self._config)
            splits.append(Split(name, examples, inputs))
        return splits
