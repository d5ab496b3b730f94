"""Steps shared by several commands: set up JAX, open a model and print its name, check its tokenizer."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.core.cache import cache_root
from bigs_cli.core.places import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokenizers import Tokenizer

    from bigs_cli.checkpoints.resolve import OpenModel, ResolvedModel
    from bigs_cli.data.corpus import Corpus
    from bigs_cli.recipe import BiGSConfig


def prepare_jax() -> None:
    """Set up memory handling and the persistent compilation cache of JAX."""
    from bigs_cli.core.memory import keep_freed_memory

    keep_freed_memory()
    import jax

    # A cache that cannot be read or written only costs time.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_root() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def join_processes(
    coordinator: str | None = None, process: int | None = None, processes: int | None = None
) -> tuple[str, ...]:
    """Join the other processes of this command, if there are any; only process 0 prints.

    Returns the given options as words, for the command that resumes the run.

    Raises:
        RequestError, BigsError: as `processes.join`.
    """
    from bigs_cli.core import processes as group
    from bigs_cli.reporting.console import err, out

    group.join(coordinator, process, processes)
    if not group.is_main_process():
        err.quiet = out.quiet = True
    if group.several():
        prepare_jax()  # Before the processes first exchange values.
    options = {"--coordinator": coordinator, "--process": process, "--processes": processes}
    return tuple(word for name, value in options.items() if value is not None for word in (name, str(value)))


def check_dimensions(dimensions: int, config: BiGSConfig) -> None:
    """Check the number of dimensions to which embeddings are to be truncated.

    Raises:
        RequestError: the model has fewer.
    """
    from bigs_cli.core.errors import RequestError

    if dimensions > config.hidden_size:
        raise RequestError(f"--dimensions {dimensions}: the embeddings have only {config.hidden_size}. Use fewer.")


def train_at_url(command: str, call: Callable[..., None], arguments: dict[str, Any]) -> None:
    """Call the function of a command, with these `arguments`, in a folder of this process for the run at the URL `run`.

    Raises:
        RequestError, BigsError: as `join_processes` and `folder_of_run`, or several processes would train several runs.
    """
    from bigs_cli.checkpoints.remote_run import folder_of_run
    from bigs_cli.checkpoints.sweep import is_sweep
    from bigs_cli.commands.glue import is_suite
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.processes import launched_as_one_of_several, several
    from bigs_cli.reporting.console import err

    url, resume = arguments["run"], arguments["resume"]
    if arguments["dry_run"]:
        _dry_run_at_url(url, call, arguments)
        return
    many = arguments["sweep"] or (arguments["seeds"] or 1) > 1 or is_suite(arguments.get("task"))
    only_one = RequestError(
        f"--run {url}: several processes train only a single run at a URL. For several runs, name a folder on a file "
        "system that all processes share."
    )
    if many and (launched_as_one_of_several(os.environ) or arguments["coordinator"] is not None):
        raise only_one
    join_processes(*(arguments[name] for name in ("coordinator", "process", "processes")))
    with folder_of_run(url, command, resume, err.print) as folder:
        if several() and is_sweep(folder):
            raise only_one
        call(**{**arguments, "run": str(folder)})


def _dry_run_at_url(url: str, call: Callable[..., None], arguments: dict[str, Any]) -> None:
    """Call the function of a command with a folder that is empty or, to resume, has the small files of the run."""
    import tempfile

    from bigs_cli.checkpoints.remote_run import small_files
    from bigs_cli.core.places import copy_of
    from bigs_cli.core.remote import fetch

    with tempfile.TemporaryDirectory(prefix="bigs-") as name:
        folder = fetch(url, small_files) if arguments["resume"] else Path(name) / "run"
        with copy_of(url, folder):
            call(**{**arguments, "run": str(folder)})


def download(place: str | Path) -> Path:
    """Return a local path unchanged, and the copy in the cache of what is at a URL; downloads are shown.

    Raises:
        RequestError, BigsError: as `remote.fetch`.
    """
    from bigs_cli.core.remote import local_copy
    from bigs_cli.reporting.console import progress

    return local_copy(place, lambda size: progress(f"downloading {place}", size, "bytes"))


@contextmanager
def uploaded(url: str, *, is_folder: bool) -> Iterator[Path]:
    """Yield a path in a temporary folder; the file or folder that was written there is uploaded to `url`.

    A folder must be new.

    Raises:
        RequestError, BigsError: as `remote.upload`, the former before anything is written. What could not be uploaded
            stays in the temporary folder.
    """
    import shutil
    import tempfile

    from bigs_cli.core.errors import BigsError, RequestError
    from bigs_cli.core.places import copy_of
    from bigs_cli.core.remote import remote, upload

    place = remote(url)
    if is_folder and place.files():
        raise RequestError(f"{url} is in use. Name another place, or remove it first.")
    place.check_writable()
    folder = Path(tempfile.mkdtemp(prefix="bigs-"))
    path = folder / (url.rstrip("/").rpartition("/")[2] or "output")
    kept = False
    try:
        with copy_of(url, path):
            yield path
        try:
            upload(path, url)
        except (BigsError, OSError) as error:
            kept = True
            raise BigsError(f"The result could not be uploaded. {error} It is in {path}.") from error
    finally:
        if not kept:
            shutil.rmtree(folder)


def open_and_announce(name: str | None, form: str | None = None, title: str = "Model") -> OpenModel:
    """Open MODEL and print its name on stderr after `title`; `form` selects one of several weights files."""
    from bigs_cli.checkpoints.resolve import find_model, open_model
    from bigs_cli.core.devices import find_devices
    from bigs_cli.reporting.console import err

    resolved = find_model(name)
    find_devices()
    err.print(f"{title}: {resolved.why}")
    model = open_model(resolved, form)
    for note in model.notes:
        err.print(f"  {note}")
    return model


def check_untrained(model: OpenModel) -> None:
    """Check that the head of a model was trained.

    Raises:
        RequestError: the head was not trained.
    """
    from bigs_cli.checkpoints.untrained import check_trained, untrained_layers

    check_trained(untrained_layers(model.flat, model.config), model.config, model.source, "pass --allow-untrained")


def lasting_name(model: ResolvedModel) -> str:
    """Return the folder, URL or hub id of a model to record in a recipe: the meaning of a short name can change."""
    if model.run is not None:
        run = place_of(model.run.path)
        return run if model.step is None else f"{run}@{model.step}"
    if model.url is not None:
        return model.url if model.step is None else f"{model.url}@{model.step}"
    return str(model.repo) if model.folder is None else place_of(model.folder)


def tokenizer_of(model: OpenModel) -> Tokenizer:
    """Return the model's tokenizer; for published models without one, BERT's.

    Raises:
        RequestError: the vocabulary of the tokenizer is larger than that of the model.
    """
    from bigs_cli.prediction import settings

    return settings.tokenizer_of(model)


def check_tokenizer(tokenizer: Path | None, owner: str, shards: Corpus) -> None:
    """Check that `shards` were made with `tokenizer` (None: not checked), that of the model or run `owner`.

    Raises:
        RequestError: they were made with another tokenizer.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.tokenizer import fingerprint, load_tokenizer

    if tokenizer is not None and fingerprint(load_tokenizer(tokenizer)) != shards.manifest.tokenizer:
        raise RequestError(
            f"The shards in {shards.folder} were made with a different tokenizer than that of {owner}, so their ids "
            f"stand for other tokens. Tokenize the text again with: bigs tokenize … --vocab {tokenizer}"
        )
