"""MODEL on the command line: a run, a folder, a hub id or a short name, to a model in memory."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from bigs_cli.checkpoints.arrays import Flat, digest
from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.config_json import read_config
from bigs_cli.checkpoints.folder import CONFIG, TOKENIZER_CONFIG, TOKENIZER_FILES, read_model, tokenizer_file
from bigs_cli.checkpoints.run import RunFolder, runs, runs_root
from bigs_cli.checkpoints.weights import candidates, choose, missing_parts, needed, parts, weights_in
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.folders import check_link
from bigs_cli.core.paths import check_local
from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe import FinetuneRecipe, load_run_recipe

# Short names of published models; a finished run of that task here comes first.
PUBLISHED = {
    "mnli": "JunxiongWang/BiGS_512_MNLI",
    "mnli-128": "JunxiongWang/BiGS_128_MNLI",
    "bigs-128": "JunxiongWang/BiGS_128",
    "bigs-512": "JunxiongWang/BiGS_512",
    "bigs-1024": "JunxiongWang/BiGS_1024",
    "bigs-4096": "JunxiongWang/BiGS_4096",
}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class Found:
    """Where a model is: one of `run`, `folder`, `repo`, and `why` it was chosen, to be printed."""

    why: str
    run: RunFolder | None = None
    folder: Path | None = None
    repo: str | None = None


@dataclass(frozen=True)
class OpenModel:
    """A model in memory: its parameters by published name, and where it came from."""

    name: str  # short: the run's, the folder's, or the repository's
    config: BiGSConfig
    flat: Flat
    tokenizer: Path | None
    source: str
    notes: tuple[str, ...] = ()
    run: RunFolder | None = None
    repo: str | None = None  # on the hub, with @revision if one was asked for

    @property
    def digest(self) -> str:
        """The beginning of a SHA-256 of the parameters; see `arrays.digest`."""
        return digest(self.flat)


def find_model(name: str | None) -> Found:
    """Find what `name` means, without reading it or asking the network. None means the newest run.

    In this order: a folder on disk (a run's or a model's), a run's name under the runs folder, a task with a finished
    run here, a published short name, a hub id `owner/name[@revision]`.

    Raises:
        RequestError: `name` is none of these, such as an address, or there is no run yet.
    """
    if name is None:
        return _newest_run()
    check_local(name)
    if (found := _here(name)) is not None:
        return found
    base, _, revision = name.partition("@")
    if revision and (found := _here(base)) is not None:
        raise RequestError(
            f"{found.why} is on this disk, and only models on the hub have revisions. Leave out '{revision}'."
        )
    task_run = _newest_of_task(name)
    if task_run is not None:
        return Found(f"{task_run.path} (the newest finished {name} run here)", run=task_run)
    if base.lower() in PUBLISHED:
        repo = PUBLISHED[base.lower()] + name.removeprefix(base)
        why = "published" if revision else f"published; there is no finished {name} run under {runs_root()}/"
        return Found(f"{repo} ({why})", repo=repo)
    if Path(name).is_dir():
        raise RequestError(
            f"The folder {name} holds neither a run (recipe.yaml) nor a model (config.json and weights). {needed()}"
        )
    if _HUB_ID.fullmatch(name):
        return Found(f"{name} (on the hub)", repo=name)
    known = [run.path.name for run in runs()] + list(PUBLISHED)
    raise RequestError(
        f"There is no model '{name}'.{did_you_mean(name, known)} Give a run, a model folder, a hub id such as "
        f"JunxiongWang/BiGS_512, or a short name ({', '.join(PUBLISHED)}); `bigs runs list` shows the runs here."
    )


def open_model(found: Found, form: str | None = None) -> OpenModel:
    """Read the model that `find_model` found; a hub model is fetched first.

    Of several weights files, the one of the format named `form` (flax, safetensors, torch) is read, else the preferred.

    Raises:
        RequestError: files are missing or malformed, there are no weights in that format, or the run has no
            checkpoint yet.
        BigsError: the hub cannot be reached.
    """
    candidates(form)  # A word that names no format is refused before anything is fetched.
    if found.run is not None and form is not None:
        raise RequestError(
            f"{found.run.path} is a run, whose checkpoints have one format only. Leave out --from-format {form}."
        )
    if found.run is not None:
        return _open_run(found.run)
    folder = found.folder
    if folder is None:
        repo, _, revision = (found.repo or "").partition("@")
        folder = fetch_model(repo, revision or None, form)
    loaded = read_model(folder, choose(folder, form).name)
    notes = [f"not used: {name}" for name in loaded.ignored]
    notes += [f"not in the file: {name}" for name in loaded.absent]
    name = (found.repo or folder.resolve().name).rpartition("/")[2].partition("@")[0]
    source = str(loaded.source_file)
    return OpenModel(name, loaded.config, loaded.flat, loaded.tokenizer_path, source, tuple(notes), repo=found.repo)


def fetch_model(repo: str, revision: str | None = None, form: str | None = None) -> Path:
    """Return the folder in the hub's cache with the config, the tokenizer and the weights of `repo`.

    The weights are one file, or an index and the shards it names: of the format named `form` if given, else of the
    preferred one there. What the cache holds is not fetched again; without a network, the cached copy is used.

    Raises:
        RequestError: there is no such model, revision or format, no access to it, or a shard is missing.
        BigsError: the hub cannot be reached.
    """
    from bigs_cli.core.hub import fetch_files, fetch_first

    wanted = candidates(form)
    folder = fetch_files(repo, [CONFIG, *TOKENIZER_FILES, TOKENIZER_CONFIG], revision)
    if any((folder / name).is_file() and not missing_parts(folder / name) for name in wanted):
        return folder
    source = fetch_first(repo, wanted, folder.name)
    if source is None:
        at = f"{repo}@{revision}" if revision else repo
        raise RequestError(
            f"{at} on the hub holds no weights{f' in the format {form}' if form else ''}. {needed(form)}"
        )
    if missing_parts(source):
        fetch_files(repo, parts(source), folder.name)
    if missing := missing_parts(source):
        raise RequestError(
            f"{repo} on the hub lacks shards that its {source.name} names: {listed(missing)}. "
            "Tell its owner, or choose another format with --from-format."
        )
    return folder


def _here(name: str) -> Found | None:
    """The run or the model folder on this disk that is at `name`, or has that name under the runs folder."""
    for place in (Path(name), runs_root() / name):
        check_link(place)
        if RunFolder(place).is_run:
            return Found(f"{place} (a run)", run=RunFolder(place))
        if (place / CONFIG).is_file() or weights_in(place):
            return Found(f"{place} (a model folder)", folder=place)
    return None


def _newest_run() -> Found:
    for run in runs():
        if run.finished:
            return Found(f"{run.path} (the newest finished run)", run=run)
    raise RequestError(
        f"There is no finished run under {runs_root()}/. Name a model with --model, or make one: bigs demo"
    )


def _newest_of_task(name: str) -> RunFolder | None:
    for run in runs():
        if run.finished:
            with contextlib.suppress(RequestError):  # One run's spoilt recipe is no reason to find nothing.
                recipe = load_run_recipe(run.recipe_file)
                if isinstance(recipe, FinetuneRecipe) and recipe.task == name.lower():
                    return run
    return None


def _open_run(run: RunFolder) -> OpenModel:
    from bigs_cli.checkpoints.orbax import has_average, read_params
    from bigs_cli.models.functional import parameter_shapes
    from bigs_cli.models.published import to_flat

    config = read_config(run.path / CONFIG)
    kept = run.best if steps(run.best) else run.checkpoints
    notes: list[str] = []
    step, params = read_params(kept, parameter_shapes(config), notes.append)
    which = "best" if kept == run.best else "last"
    what = ", averaged parameters" if has_average(kept, step) else ""
    return OpenModel(
        run.path.resolve().name,
        config,
        to_flat(params, config),
        tokenizer_file(run.path),
        f"{run.path}, {which} checkpoint (step {step}){what}",
        tuple(notes),
        run,
    )
