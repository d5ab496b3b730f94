"""How a model reads texts (`Settings`), and where it came from (`Origin`), for the command line and Python alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER, load_tokenizer
from bigs_cli.recipe import BiGSConfig, FinetuneRecipe, load_run_recipe
from bigs_cli.recipe.schema import Compute
from bigs_cli.tasks import task_of
from bigs_cli.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BATCH = 32


@dataclass(frozen=True)
class Origin:
    """Where a loaded model came from: `source` for messages, and its tokenizer's file and its run, if it has these."""

    source: str
    tokenizer: Path | None
    run: RunFolder | None

    @classmethod
    def of(cls, opened: OpenModel) -> Origin:
        """Return where `opened` came from."""
        return cls(opened.source, opened.tokenizer, opened.run)


@dataclass(frozen=True)
class Settings:
    """`length` in tokens, `batch_size` in rows, `trim` as in a recipe; `task` is what the model was trained for.

    `top` is the number of candidates where there are many.
    """

    length: int
    batch_size: int
    trim: bool
    compute: Compute
    task: Task | None
    top: int


def settings_for(
    config: BiGSConfig,
    origin: Origin,
    length: int | None = None,
    batch_size: int | None = None,
    trim: bool | None = None,
    top: int = 5,
) -> Settings:
    """Return the settings: as asked for, else as its run did it, else in full length, 32 at once.

    Raises:
        RequestError: the model has fewer positions than `length`.
    """
    compute, task = Compute(), None
    recipe = None if origin.run is None else load_run_recipe(origin.run.recipe_file)
    if recipe is not None:
        compute = recipe.compute
    if isinstance(recipe, FinetuneRecipe) and task_of(recipe).type == config.head:
        task = task_of(recipe)
        length = length or min(recipe.sequence_length, config.max_position_embeddings)
        trim = recipe.trim_padding if trim is None else trim
    length = length or config.max_position_embeddings
    if length > config.max_position_embeddings:
        raise RequestError(
            f"Length {length} is too long: {origin.source} takes at most {config.max_position_embeddings} tokens."
        )
    return Settings(length, batch_size or BATCH, config.mask_padding if trim is None else trim, compute, task, top)


def tokenizer_of(config: BiGSConfig, origin: Origin) -> Tokenizer:
    """Return the tokenizer of a model; published models without one have BERT's.

    Raises:
        RequestError: its vocabulary is larger than the model's.
        BigsError: it is the published one, which is neither in the hub's cache nor to be had from the hub.
    """
    source = origin.tokenizer or PUBLISHED_TOKENIZER
    tokenizer = load_tokenizer(source)
    size = tokenizer.get_vocab_size()
    if size > config.vocab_size:
        raise RequestError(
            f"The tokenizer {source} has {size} tokens; the model {origin.source} has {config.vocab_size}. "
            "Put the model's own tokenizer.json into its folder."
        )
    return tokenizer
