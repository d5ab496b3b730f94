"""What several verbs do before their work: quiet libraries, a compilation cache, a model opened and announced."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from bigs_cli.core.cache import cache_root

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.checkpoints.resolve import Found, OpenModel
    from bigs_cli.data.corpus import Corpus


def prepare_jax() -> None:
    """Turn on JAX's compilation cache, so that the second start of the same shapes compiles nothing; keep memory."""
    from bigs_cli.core.memory import keep_freed_memory

    keep_freed_memory()
    import jax

    # Of a cache that cannot be read or written, or a full disk: nothing is lost by it but time.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def open_and_announce(name: str | None, form: str | None = None) -> OpenModel:
    """Find and read MODEL, of several weights files that in the format `form`; say on stderr which one it was."""
    from bigs_cli.checkpoints.resolve import find_model, open_model
    from bigs_cli.core.devices import find_devices
    from bigs_cli.reporting.console import err

    found = find_model(name)
    find_devices()
    err.print(f"Model: {found.why}")
    model = open_model(found, form)
    for note in model.notes:
        err.print(f"  {note}")
    return model


def refuse_untrained(model: OpenModel) -> None:
    """Refuse to use the answers of a head that was never trained.

    Raises:
        RequestError: the model has such a head.
    """
    from bigs_cli.checkpoints.untrained import check_trained, untrained_layers

    check_trained(untrained_layers(model.flat, model.config), model.config, model.source, "pass --allow-untrained")


def lasting_name(found: Found) -> str:
    """Return a name that finds the same model later, whatever runs there are by then: what a recipe records."""
    folder = found.folder if found.run is None else found.run.path
    return str(folder or found.repo)


def tokenizer_of(model: OpenModel) -> Tokenizer:
    """Return the model's tokenizer; published models without one have BERT's.

    Raises:
        RequestError: its vocabulary is larger than the model's.
    """
    from bigs_cli.prediction import settings

    return settings.tokenizer_of(model.config, settings.Origin.of(model))


def check_tokenizer(tokenizer: Path | None, owner: str, shards: Corpus) -> None:
    """Refuse to show a model (`owner`) text that another tokenizer than its own has cut; None: it has none with it.

    Raises:
        RequestError: the shards are of another tokenizer.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.tokenizer import fingerprint, load_tokenizer

    if tokenizer is not None and fingerprint(load_tokenizer(tokenizer)) != shards.manifest.tokenizer:
        raise RequestError(
            f"The shards in {shards.folder} were made with another tokenizer than {owner}: the same ids are other "
            f"words there. Make shards for it: bigs tokenize … --vocab {tokenizer}"
        )
