"""What several verbs do before their work: quiet libraries, a compilation cache, a model opened and announced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.checkpoint.resolve import Found, OpenModel


def cache_root() -> Path:
    """Return where bigs keeps what it can make again: $BIGS_CACHE, else `bigs` in the user's cache folder."""
    given = os.environ.get("BIGS_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bigs"


def prepare_jax() -> None:
    """Turn on JAX's compilation cache, so that the second start of the same shapes compiles nothing; keep memory."""
    from bigs_cli.core.memory import keep_freed_memory

    keep_freed_memory()
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def open_and_announce(name: str | None) -> OpenModel:
    """Find and read MODEL, and say on stderr which one it was."""
    from bigs_cli.checkpoint.resolve import find_model, open_model
    from bigs_cli.reporting.console import err

    found = find_model(name)
    err.print(f"Model: {found.why}")
    model = open_model(found)
    for note in model.notes:
        err.print(f"  {note}")
    return model


def lasting_name(found: Found) -> str:
    """Return a name that finds the same model later, whatever runs there are by then: what a recipe records."""
    folder = found.folder if found.run is None else found.run.path
    return str(folder or found.repo)


def tokenizer_of(model: OpenModel) -> Tokenizer:
    """Return the model's tokenizer; published models without one have BERT's.

    Raises:
        RequestError: its vocabulary is larger than the model's.
    """
    from bigs_cli.checkpoint.hub import PUBLISHED_TOKENIZER
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.tokenizer import load_tokenizer

    source = model.tokenizer or PUBLISHED_TOKENIZER
    tokenizer = load_tokenizer(source)
    size = tokenizer.get_vocab_size()
    if size > model.config.vocab_size:
        raise RequestError(
            f"The tokenizer {source} has {size} tokens; the model {model.source} has {model.config.vocab_size}. "
            "Put the model's own tokenizer.json into its folder."
        )
    return tokenizer
