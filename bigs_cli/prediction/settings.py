"""The settings of a `Predictor`, and the tokenizer of a model, for `bigs predict` and the Python API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER, load_tokenizer
from bigs_cli.models.config import length_within
from bigs_cli.recipe import FinetuneRecipe
from bigs_cli.recipe.groups import Compute
from bigs_cli.tasks import task_of
from bigs_cli.tasks.task import Task
from bigs_cli.tasks.types import type_of, type_of_model

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH = 32


@dataclass(frozen=True)
class Settings:
    """Settings of a `Predictor`.

    `length` is in tokens, `batch_size` in rows, `trim` is `trim_padding` of a recipe, `task` is the task of the model's
    run, and `top` is the number of candidates to return.
    """

    length: int
    batch_size: int
    trim: bool
    compute: Compute
    task: Task | None
    top: int


def settings_for(
    model: OpenModel,
    length: int | None = None,
    batch_size: int | None = None,
    trim: bool | None = None,
    top: int = 5,
) -> Settings:
    """Return the settings of a predictor.

    Options that are None default to the settings of the model's run or, without one, to its full length and a batch
    size of 32.

    Raises:
        RequestError: the model has fewer positions than `length`.
    """
    config, recipe, task = model.config, model.recipe, None
    if isinstance(recipe, FinetuneRecipe) and type(type_of(task_of(recipe))) is type_of_model(config):
        task = task_of(recipe)
        trim = recipe.trim_padding if trim is None else trim
    trim = config.ignores_padding if trim is None else trim
    length = length_within(config, length or model.trained_length)
    return Settings(length, batch_size or BATCH, trim, model.compute, task, top)


def tokenizer_of(model: OpenModel) -> Tokenizer:
    """Return the tokenizer of a model; published models without a tokenizer use BERT's.

    Raises:
        RequestError: its vocabulary is larger than that of the model.
        BigsError: BERT's tokenizer is neither in the hub's cache nor available from the hub.
    """
    source = model.tokenizer or PUBLISHED_TOKENIZER
    tokenizer = load_tokenizer(source)
    size = tokenizer.get_vocab_size()
    if size > model.config.vocab_size:
        raise RequestError(
            f"The tokenizer {source} has {size} tokens; the model {model.source} has {model.config.vocab_size}. "
            "Put the model's own tokenizer.json into its folder."
        )
    return tokenizer
