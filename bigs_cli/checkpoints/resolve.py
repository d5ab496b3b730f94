"""Finding and loading MODEL: a run, a folder, a hub id or a short name."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bigs_cli.checkpoints.arrays import Flat, digest
from bigs_cli.checkpoints.checksums import steps
from bigs_cli.checkpoints.config_json import read_config
from bigs_cli.checkpoints.folder import CONFIG, TOKENIZER_CONFIG, TOKENIZER_FILES, read_model, tokenizer_file
from bigs_cli.checkpoints.remote_run import needed_by_model
from bigs_cli.checkpoints.run import RunFolder, runs, runs_root
from bigs_cli.checkpoints.weights import candidates, choose, missing_parts, needed, parts, weights_in
from bigs_cli.core.errors import RequestError, did_you_mean, listed
from bigs_cli.core.folders import check_link
from bigs_cli.core.paths import check_local, is_url, scheme_of
from bigs_cli.core.places import local_of
from bigs_cli.core.remote import fetch
from bigs_cli.models.config import BiGSConfig
from bigs_cli.recipe import FinetuneRecipe, Recipe, load_run_recipe
from bigs_cli.recipe.groups import Compute

# Short names of published models. A finished local run of that task takes precedence.
PUBLISHED = {
    "mnli": "JunxiongWang/BiGS_512_MNLI",
    "mnli-128": "JunxiongWang/BiGS_128_MNLI",
    "bigs-128": "JunxiongWang/BiGS_128",
    "bigs-512": "JunxiongWang/BiGS_512",
    "bigs-1024": "JunxiongWang/BiGS_1024",
    "bigs-4096": "JunxiongWang/BiGS_4096",
}
_STEP = re.compile(r"(.*)@(\d+)")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True)
class ResolvedModel:
    """The location of a model: one of `run`, `folder`, `url` and `repo`; `step` selects a checkpoint of a run.

    `why` describes it and how it was chosen.
    """

    why: str
    run: RunFolder | None = None
    step: int | None = None
    folder: Path | None = None
    url: str | None = None
    repo: str | None = None


@dataclass(frozen=True)
class OpenModel:
    """A model in memory: its parameters by published name, and its origin."""

    name: str  # short name: that of the run, the folder or the repository
    config: BiGSConfig
    flat: Flat
    tokenizer: Path | None
    source: str
    notes: tuple[str, ...] = ()
    run: RunFolder | None = None
    repo: str | None = None  # on the hub, with @revision if one was requested

    @property
    def digest(self) -> str:
        """The first 16 digits of a SHA-256 of the parameters; see `arrays.digest`."""
        return digest(self.flat)

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe of the model's run; None without a run."""
        return None if self.run is None else load_run_recipe(self.run.recipe_file)

    @property
    def compute(self) -> Compute:
        """The `compute` settings of the model's run; without a run, the defaults."""
        return Compute() if self.recipe is None else self.recipe.compute

    @property
    def trained_length(self) -> int:
        """The row length in training, in tokens; without a run, the maximum length of the model."""
        longest = self.config.max_position_embeddings
        return longest if self.recipe is None else min(self.recipe.sequence_length, longest)


def find_model(name: str | None) -> ResolvedModel:
    """Find the model called `name`, without loading it or using the network. None means the newest run.

    It may be a URL of a run or a model folder. Otherwise, the following are tried in order: a folder (of a run or a
    model), the name of a run in the runs folder, a task with a finished local run, a short name of a published model,
    a hub id `owner/name[@revision]`. A run can be followed by `@step`.

    Raises:
        RequestError: `name` is none of these, for example another URL, or it is None and there is no finished run.
    """
    if name is None:
        return _newest_run()
    if (copy := local_of(name)) is not None and (local := _find_local(str(copy))) is not None:
        return local
    if is_url(name) and scheme_of(name) not in ("file", "hf", "http", "https") and "::" not in name:
        at = _STEP.fullmatch(name)
        return ResolvedModel(name, url=name) if at is None else ResolvedModel(name, url=at[1], step=int(at[2]))
    check_local(name)
    if (local := _find_local(name)) is not None:
        return local
    base, at, revision = name.rpartition("@")
    base = base if at else name
    revision = revision if at else ""
    if revision and (local := _find_local(base)) is not None:
        if local.run is not None and revision.isascii() and revision.isdigit():
            step = int(revision)
            return ResolvedModel(f"{local.run.path}, step {step:,} (a run)", run=local.run, step=step)
        raise RequestError(
            f"{local.why} is local and has no revision '{revision}': only models on the hub have revisions, and only "
            f"runs have steps (@500). Leave out '@{revision}'."
        )
    task_run = _newest_of_task(name)
    if task_run is not None:
        return ResolvedModel(f"{task_run.path} (the newest finished {name} run)", run=task_run)
    if base.lower() in PUBLISHED:
        repo = PUBLISHED[base.lower()] + name.removeprefix(base)
        why = "published" if revision else f"published; there is no finished {name} run in {runs_root()}/"
        return ResolvedModel(f"{repo} ({why})", repo=repo)
    if Path(name).is_dir():
        raise RequestError(
            f"The folder {name} contains neither a run (recipe.yaml) nor a model (config.json and weights). {needed()}"
        )
    if _HUB_ID.fullmatch(name):
        return ResolvedModel(f"{name} (on the hub)", repo=name)
    known = [run.path.name for run in runs()] + list(PUBLISHED)
    raise RequestError(
        f"There is no model '{name}'.{did_you_mean(name, known)} Name a run, a model folder, a hub id such as "
        f"JunxiongWang/BiGS_512, or a short name ({', '.join(PUBLISHED)}); `bigs runs list` lists the runs."
    )


def open_model(model: ResolvedModel, form: str | None = None) -> OpenModel:
    """Load the model returned by `find_model`; one on the hub or at a URL is downloaded first.

    `form` (flax, safetensors, torch or onnx) selects one of several weights files, by default the preferred one.

    Raises:
        RequestError: files are missing or malformed, there are no weights in that format, or the run has no
            checkpoint yet.
        BigsError: the hub cannot be reached.
    """
    candidates(form)  # Raises an error for an unknown format before anything is downloaded.
    if model.run is not None and form is not None:
        raise RequestError(
            f"{model.run.path} is a run, whose checkpoints have a single format. Leave out --from-format {form}."
        )
    if model.run is not None:
        return _open_run(model.run, model.step)
    if model.url is not None:
        return _open_copy(model.url, model.step, form)
    folder = model.folder
    if folder is None:
        repo, _, revision = (model.repo or "").partition("@")
        folder = fetch_model(repo, revision or None, form)
    loaded = read_model(folder, choose(folder, form).name)
    notes = [f"not used: {name}" for name in loaded.ignored]
    notes += [f"not in the file: {name}" for name in loaded.absent]
    name = (model.repo or folder.resolve().name).rpartition("/")[2].partition("@")[0]
    source = str(loaded.source_file)
    return OpenModel(name, loaded.config, loaded.flat, loaded.tokenizer_path, source, tuple(notes), repo=model.repo)


def fetch_model(repo: str, revision: str | None = None, form: str | None = None) -> Path:
    """Return the cache folder with the config, the tokenizer and the weights of `repo`, downloaded if necessary.

    The weights are one file, or an index and its shards, in the format `form` or by default the preferred one. Cached
    files are not downloaded again; without network access, the cached copy is used.

    Raises:
        RequestError: the model, revision or format does not exist or is not accessible, or a shard is missing.
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
        raise RequestError(f"{at} on the hub has no weights{f' in the format {form}' if form else ''}. {needed(form)}")
    if missing_parts(source):
        fetch_files(repo, parts(source), folder.name)
    if missing := missing_parts(source):
        raise RequestError(
            f"{repo} on the hub lacks shards listed in {source.name}: {listed(missing)}. Choose another format with "
            "--from-format, or contact the owner of the repository."
        )
    return folder


def _open_copy(url: str, step: int | None, form: str | None) -> OpenModel:
    """Load the run or the model folder at a URL from a copy in the cache."""
    copy = fetch(url, lambda names: needed_by_model(names, step))
    local = _find_local(str(copy))
    if local is None:
        raise RequestError(
            f"{url} contains neither a run (recipe.yaml) nor a model (config.json and weights). {needed()}"
        )
    opened = open_model(local if step is None else replace(local, step=step), form)
    return replace(opened, source=opened.source.replace(str(copy), url))


def _find_local(name: str) -> ResolvedModel | None:
    """Return the run or the model folder at the path `name`, or with that name in the runs folder, if any."""
    for path in (Path(name), runs_root() / name):
        check_link(path)
        if RunFolder(path).is_run:
            return ResolvedModel(f"{path} (a run)", run=RunFolder(path))
        if (path / CONFIG).is_file() or weights_in(path):
            return ResolvedModel(f"{path} (a model folder)", folder=path)
    return None


def _newest_run() -> ResolvedModel:
    for run in runs():
        if run.finished:
            return ResolvedModel(f"{run.path} (the newest finished run)", run=run)
    raise RequestError(
        f"There is no finished run in {runs_root()}/. Name a model with --model, or train one with: bigs demo"
    )


def _newest_of_task(name: str) -> RunFolder | None:
    for run in runs():
        if run.finished:
            with contextlib.suppress(RequestError):  # Skip runs with a corrupt recipe.
                recipe = load_run_recipe(run.recipe_file)
                if isinstance(recipe, FinetuneRecipe) and recipe.task == name.lower():
                    return run
    return None


def _open_run(run: RunFolder, step: int | None) -> OpenModel:
    from bigs_cli.checkpoints.orbax import has_ema, read_params
    from bigs_cli.models.functional import parameter_shapes
    from bigs_cli.models.published import to_flat

    config = read_config(run.path / CONFIG)
    folder = run.best if step is None and steps(run.best) else run.checkpoints
    which = "best checkpoint" if folder == run.best else "last checkpoint" if step is None else "checkpoint"
    notes: list[str] = []
    step, params = read_params(folder, parameter_shapes(config), notes.append, step)
    average = ", averaged parameters" if has_ema(folder, step) else ""
    return OpenModel(
        run.path.resolve().name,
        config,
        to_flat(params, config),
        tokenizer_file(run.path),
        f"{run.path}, {which} (step {step}){average}",
        tuple(notes),
        run,
    )
