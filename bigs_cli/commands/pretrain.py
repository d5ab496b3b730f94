"""`bigs pretrain`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigs_cli.commands import local

if TYPE_CHECKING:
    from bigs_cli.checkpoint.resolve import Found
    from bigs_cli.recipe import PretrainRecipe

EPILOG = (
    "[bold]Example:[/bold] bigs pretrain --recipe small --data shards/wiki-128 --run runs/small "
    "--set steps=1500 --set optimizer.learning_rate=1e-3"
)


def pretrain(
    recipe: Annotated[
        str,
        typer.Option("--recipe", "-r", help="A shipped recipe (bigs recipes list) or a YAML file.", parser=local.name),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder of token shards, or of the BiGS authors' HDF5 files.",
            show_default="the recipe's",
            parser=local.path,
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Folder of the run, with its checkpoints and results.",
            show_default="runs/RECIPE",
            parser=local.path,
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. Repeat it for more."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Start from a run, folder, hub id or short name.", parser=local.name
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the run folder, bit for bit.")] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track", metavar="NAME", help="Send the figures to tensorboard or wandb too. Repeat it for both."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the recipe in full, sizes, FLOPs, shardings and a masked row; write nothing."
        ),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where process 0 of several waits for the others.")
    ] = None,
    process: Annotated[
        int | None, typer.Option(metavar="I", help="Which of several processes this is, from 0.")
    ] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", help="How many processes train together.")] = None,
) -> None:
    """Train a masked language model on token shards, or on HDF5 files with the masks that are in them.

    Ctrl-C saves and stops; --resume continues exactly where it stopped, as if it had never done so. Under Slurm (srun),
    Open MPI (mpirun) and on TPU pods the processes find one another; elsewhere start each with --coordinator, --process
    and --processes. Prints the path of the run folder.

    A longer model may start --from a shorter one, as wiki-books-4096 does from the 512 model: its position table is
    that one's, repeated from its start until it is long enough. One that is too long is cut.
    """
    from bigs_cli.checkpoint.run import RunFolder, runs_root
    from bigs_cli.core import processes as group
    from bigs_cli.core.errors import RequestError
    from bigs_cli.data.hdf5 import is_hdf5_folder, open_corpus
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.recipe import PretrainRecipe, load_recipe
    from bigs_cli.reporting.trackers import check_trackers

    folder = RunFolder(run or runs_root() / Path(recipe).stem)
    source = str(folder.recipe_file) if resume and folder.is_run else recipe
    chosen = load_recipe(source, sets or ())
    if not isinstance(chosen, PretrainRecipe):
        raise RequestError(
            f"The recipe {recipe} is for fine-tuning. Use it so: bigs finetune {chosen.task} --recipe {recipe}"
        )
    group.join(coordinator, process, processes)
    if group.is_first():
        folder.check(resume)
    if resume and not all(change.startswith("mesh.") for change in sets or ()):
        raise RequestError(
            "A run goes on with its own recipe, except for mesh: leave out --set, or start a new run --from this one."
        )
    if track:
        chosen = chosen.model_copy(update={"track": tuple(track)})
    check_trackers(chosen.track)
    if start is not None:
        chosen = chosen.model_copy(update={"from_": start})
    place = data or Path(chosen.data.path)
    chosen = chosen.model_copy(update={"data": chosen.data.model_copy(update={"path": str(place)})})
    if not (place / MANIFEST).is_file() and not is_hdf5_folder(place):
        length = chosen.data.sequence_length
        raise RequestError(
            f"There are no token shards at {place}. Name them with --data, or make them: bigs tokenize --input "
            f"wikimedia/wikipedia:20231101.en --length {length} --vocab google-bert/bert-large-uncased --output {place}"
        )

    from bigs_cli.checkpoint.hub import PUBLISHED_TOKENIZER
    from bigs_cli.checkpoint.resolve import find_model, open_model
    from bigs_cli.commands.shared import check_tokenizer, lasting_name, prepare_jax
    from bigs_cli.core.devices import find_devices
    from bigs_cli.reporting.console import err, out

    found = find_model(chosen.from_) if chosen.from_ is not None and not resume else None
    if dry_run:
        _dry_run(chosen, place, folder.path if resume else None, found)
        return
    prepare_jax()
    find_devices()
    err.quiet = out.quiet = not group.is_first()
    model = None
    tokenizer = folder.path if resume else None
    if found is not None:
        err.print(f"Model to start from: {found.why}")
        model = open_model(found)
        tokenizer = model.tokenizer
        chosen = chosen.model_copy(update={"from_": lasting_name(found)})
    shards = open_corpus(place, tokenizer or PUBLISHED_TOKENIZER, err.print)
    check_tokenizer(tokenizer, str(folder.path) if model is None else model.source, shards)

    from bigs_cli.training.pretrain import pretrain as train

    result = train(chosen, shards, folder, model, resume)
    err.print(f"Done in {result.seconds / 60:.1f} minutes: validation loss {result.heldout['loss']:.4f}.")
    # The published settings are for H = 1024; a narrow model learns next to nothing with them.
    settings = "--recipe sst2-small " if chosen.model.hidden_size < 512 else ""
    made = shlex.quote(str(folder.path))
    err.print(f"Next: bigs eval mlm --model {made}   or   bigs finetune sst2 {settings}--from {made}")
    out.print(str(folder.path))


def _dry_run(recipe: PretrainRecipe, data: Path, run: Path | None, start: Found | None) -> None:
    """Print what would be trained, and one of the rows; `run` is that to resume, `start` the model to start from.

    Nothing is written or fetched: a model on the hub is not asked for, and JAX's cache is not turned on.
    """
    from bigs_cli.checkpoint.config_json import read_config
    from bigs_cli.checkpoint.folder import CONFIG, tokenizer_file
    from bigs_cli.checkpoint.hub import PUBLISHED_TOKENIZER
    from bigs_cli.checkpoint.transfer import check_encoders
    from bigs_cli.commands.shared import check_tokenizer
    from bigs_cli.data.hdf5 import open_corpus
    from bigs_cli.recipe import dump_recipe
    from bigs_cli.reporting.console import err, out
    from bigs_cli.reporting.examples import print_examples
    from bigs_cli.training.preview import preview

    model, tokenizer = None, run
    if start is not None:
        err.print(f"Model to start from: {start.why}")
        model = start.folder if start.run is None else start.run.path
        tokenizer = None if model is None else tokenizer_file(model)
    if model is not None and (model / CONFIG).is_file():
        check_encoders(read_config(model / CONFIG), recipe.model)
    shards = open_corpus(data, tokenizer or PUBLISHED_TOKENIZER, err.print)
    check_tokenizer(tokenizer, str(run or model), shards)
    tables = preview(recipe, shards)
    out.print(dump_recipe(recipe))
    for part in tables:
        out.print(part, "", sep="\n")
    print_examples(shards, recipe.masking, 1, recipe.seed)
    err.print("A dry run: nothing was written. Leave out --dry-run to train.")
