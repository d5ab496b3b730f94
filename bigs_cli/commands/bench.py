"""`bigs bench`: benchmarks of this machine."""

from __future__ import annotations

from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bigs_cli.commands import compare_recipes
from bigs_cli.commands import options as opt
from bigs_cli.core.wording import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from bigs_cli.recipe import BiGSConfig

app = typer.Typer(
    no_args_is_help=True,
    help="Benchmark bigs on this machine.",
    epilog="[bold]Example:[/bold] bigs bench train",
    rich_markup_mode="rich",
)


@app.command(epilog="[bold]Example:[/bold] bigs bench load --tokens 1e8 --json load.json")
def load(
    data: Annotated[
        Path | None,
        opt.path_option("--data", help="Token shards whose rows are repeated.", show_default="random tokens"),
    ] = None,
    lengths: Annotated[list[int] | None, opt.lengths_option("128 and 512")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows per batch.")] = 32,
    tokens: Annotated[float, typer.Option(min=1000, help="Tokens in the largest corpus.")] = 1e9,
    sizes: Annotated[int, typer.Option(min=2, help="Number of corpus sizes, from --tokens / 1000 to --tokens.")] = 10,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds of reading per size.")] = 2.5,
    json_file: opt.JsonFile = None,
) -> None:
    """Measure how fast token shards open and load, and whether that depends on the size of the corpus.

    Creates corpora of increasing size in the temporary folder ($TMPDIR), one at a time, and removes them. The defaults
    need 2 GB of disk space and a few minutes.
    """
    from bigs_cli.bench.corpus import check_space, source_rows
    from bigs_cli.bench.load import as_json, corpus_sizes, flatness, measure_sizes, sizes_table, summary_line
    from bigs_cli.bench.report import heading, show
    from bigs_cli.data.shards import open_shards
    from bigs_cli.reporting.console import err, progress

    shards = open_shards(data) if data else None
    sources = [source_rows(shards, length) for length in lengths or (128, 512)]
    corpora = corpus_sizes(int(tokens), sizes)
    needed = check_space(corpora[-1], sources[0][1])
    report = heading("load", data=data and str(data), batch=batch, tokens=int(tokens), seconds=seconds)
    err.print(f"Needs up to {needed / 1e9:.2f} GB of disk space while it runs.")
    with progress("loading", len(sources) * sizes, "size") as advance:
        runs = [measure_sizes(rows, vocab, corpora, batch, seconds, advance) for rows, vocab in sources]
    report["sizes"] = [size for measured in runs for size in as_json(measured)]
    report["summary"] = [flatness(measured) for measured in runs]
    show(report, [sizes_table(measured, batch) for measured in runs], [summary_line(one) for one in runs], json_file)


@app.command(
    epilog="[bold]Example:[/bold] bigs bench tokenize --input articles.jsonl.gz --vocab vocab.txt --times 1 --times 10"
)
def tokenize(
    inputs: Annotated[
        list[str],
        typer.Option("--input", "-i", metavar="SOURCE", help="Text, as in bigs tokenize. Repeatable."),
    ],
    vocab: Annotated[str, opt.name_option("--vocab", metavar="FILE", help="Vocabulary, as in bigs tokenize.")],
    length: Annotated[int, typer.Option("--length", "-l", min=8, help="Tokens per row.")] = 128,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of processes, and of tokenizer threads.", show_default="one per core"),
    ] = None,
    times: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of times the text is repeated. Repeatable.", show_default="1 and 10"),
    ] = None,
    rounds: opt.Rounds = 3,
    json_file: opt.JsonFile = None,
) -> None:
    """Measure the speed and memory of tokenization, compared with the tokenizer library alone."""
    import os

    from bigs_cli.bench.report import as_json, heading, show
    from bigs_cli.bench.tokenize import measure, tokenize_table
    from bigs_cli.data.sources import find_parts
    from bigs_cli.data.tokenizer import load_tokenizer
    from bigs_cli.reporting.console import err, progress

    find_parts(inputs, say=err.print)
    load_tokenizer(vocab)
    workers, times = workers or os.cpu_count() or 1, times or [1, 10]
    report = heading("tokenize", inputs=inputs, vocab=vocab, length=length, workers=workers, rounds=rounds)
    with progress("tokenizing", len(times), "size") as advance:
        measured = []
        for repeats in times:
            measured.append(measure(inputs, vocab, length, workers, repeats, rounds))
            advance(1)
    report["sizes"] = as_json(measured)
    show(report, [tokenize_table(measured, workers)], [], json_file)


@app.command(
    epilog="[bold]Example:[/bold] bigs bench train --shape 128x16 --shape 512x4 --shape 4096x1 --json train.json"
)
def train(
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="LENGTHxBATCH",
            help="Tokens per row × rows. Repeatable.",
            show_default="128x16, 512x4 and 4096x1",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            metavar="NAME",
            help="reference (the original implementation), float32 or bfloat16. The first is the baseline. Repeatable.",
            show_default="all three",
        ),
    ] = None,
    peer: Annotated[
        Literal["bert"] | None,
        typer.Option(
            help="Also measure an alternative: bert is BertForMaskedLM in PyTorch, of the same width and with about as "
            "many parameters.",
            show_default="no",
        ),
    ] = None,
    layers: opt.Layers = 4,
    hidden: opt.Hidden = 256,
    vocab_size: opt.VocabSize = 30522,
    what: Annotated[
        Literal["train", "forward", "encode"],
        typer.Option(
            "--pass",
            help="What to measure: a training step, a forward pass with logits at every position, or a forward pass of "
            "the encoder.",
        ),
    ] = "train",
    rounds: opt.Rounds = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps per repetition.")] = 5,
    profile: opt.Profile = None,
    json_file: opt.JsonFile = None,
) -> None:
    """Measure training steps or forward passes: time, MFU, and speed-up over the original implementation."""
    from bigs_cli.bench.report import as_json, heading, show
    from bigs_cli.bench.train import (
        OWN,
        PASSES,
        SETTINGS,
        all_peak_flops,
        measure,
        peer_settings,
        shape_of,
        train_table,
    )
    from bigs_cli.reporting.console import err, progress

    names = list(settings or OWN)
    _check_known("setting", names, OWN)
    if peer is not None:
        names += peer_settings(peer, names)
    sizes = [shape_of(shape) for shape in shapes or ("128x16", "512x4", "4096x1")]
    config = _config(layers, hidden, vocab_size)
    report = heading("train", model=config.model_dump(), shapes=sizes, rounds=rounds, steps=steps, measured=what)
    with progress("measuring", len(sizes), "shape") as advance:
        rates = all_peak_flops(names)
        for dtype, rate in rates.items():
            err.print(f"{dtype} matrix products: {rate / 1e9:,.0f} GFLOP/s")
        peaks = {name: rates[SETTINGS[name][1].dtype] for name in names}
        measured = []
        for shape in sizes:
            measured += measure(config, peaks, shape, what, rounds, steps, profile)
            advance(1)
    report["peak_flops"], report["shapes"] = rates, as_json(measured)
    title = f"{PASSES[what]}, {counted(layers, 'layer')}, H = {hidden}, V = {vocab_size:,}"
    show(report, [train_table(measured, title)], [], json_file)


@app.command(epilog="[bold]Example:[/bold] bigs bench mixing --length 128 --length 1024 --length 8192")
def mixing(
    lengths: Annotated[list[int] | None, opt.lengths_option("128 to 65536, doubling")] = None,
    mixers: Annotated[
        list[str] | None,
        typer.Option(
            "--mixer",
            metavar="NAME",
            help="dense or chunked (values of compute.mixing), or fft (the original method). Repeatable.",
            show_default="dense, chunked, fft",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens per batch, at every length.")] = 16384,
    channels: Annotated[int, typer.Option(min=1, help="Number of channels H.")] = 256,
    states: Annotated[int, typer.Option(min=1, help="Number of states N.")] = 64,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Type of the activations.")] = "float32",
    json_file: opt.JsonFile = None,
) -> None:
    """Measure the cost per token of each mixer at each length, on which `mixing: auto` is based.

    Each length is measured in its own process. With the defaults, this takes several minutes.
    """
    from bigs_cli.bench.mixing import LONGEST_DENSE, measure, mixing_table
    from bigs_cli.bench.reference import ALL_MIXERS
    from bigs_cli.bench.report import as_json, heading, show
    from bigs_cli.reporting.console import progress

    names = mixers or ["dense", "chunked", "fft"]
    _check_known("mixer", names, ALL_MIXERS)
    lengths = lengths or [128 << power for power in range(10)]
    report = heading("mixing", mixers=names, tokens=tokens, channels=channels, states=states, dtype=dtype)
    measured = []
    with progress("measuring", len(lengths), "length") as advance:
        for length in lengths:
            feasible = [name for name in names if name != "dense" or length <= LONGEST_DENSE]
            measured += measure(feasible, length, tokens, channels, states, dtype)
            advance(1)
    report["lengths"] = as_json(measured)
    title = f"Mixing, nanoseconds per token and channel, forward and backward; H = {channels}, N = {states}, {dtype}"
    show(report, [mixing_table(measured, title)], [], json_file)


@app.command(
    name="export",
    epilog="[bold]Example:[/bold] bigs bench export --layers 23 --hidden 1024 --shape 512x1 --json out.json",
)
def export(
    shape: Annotated[str, typer.Option(metavar="LENGTHxBATCH", help="Tokens per row × rows.")] = "512x1",
    runners: Annotated[
        list[str] | None,
        typer.Option(
            "--runner",
            metavar="NAME",
            help="bigs, stablehlo, onnx, transformers or bert. The first is the baseline. Repeatable.",
            show_default="those whose packages are installed",
        ),
    ] = None,
    layers: opt.Layers = 4,
    hidden: opt.Hidden = 256,
    vocab_size: opt.VocabSize = 30522,
    rounds: opt.Rounds = 3,
    json_file: opt.JsonFile = None,
) -> None:
    """Measure a float32 forward pass of exported models, with logits at every position, compared with bigs."""
    import tempfile

    from bigs_cli.bench.export import RUNNERS, export_table, installed, measure
    from bigs_cli.bench.report import as_json, heading, show
    from bigs_cli.bench.train import shape_of
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err, progress

    _check_known("runner", runners or (), RUNNERS)
    length, batch = shape_of(shape)
    names, missing = installed(runners or list(RUNNERS))
    if missing and names:
        err.print(f"Skipped, because not installed: {', '.join(missing)}. Install with: pip install 'bigs[onnx,torch]'")
    if not names:
        raise RequestError(
            f"Not installed: {', '.join(missing)}. Install with: pip install 'bigs[onnx,torch]', or change --runner."
        )
    config = _config(layers, hidden, vocab_size, length)
    report = heading("export", model=config.model_dump(), length=length, batch=batch, rounds=rounds)
    with (
        tempfile.TemporaryDirectory() as folder,
        progress("measuring", len(names) * rounds, "measurement") as advance,
    ):
        measured = measure(config, names, (length, batch), rounds, Path(folder), advance)
    report["runners"] = as_json(measured)
    sizes = f"{counted(layers, 'layer')}, H = {hidden}, V = {vocab_size:,}"
    title = f"Forward pass of {batch} × {length} tokens, {sizes}, float32"
    show(report, [export_table(measured, title)], [], json_file)


@app.command(epilog="[bold]Example:[/bold] bigs bench predict --model sst2 --texts 10000")
def predict(
    model: Annotated[str | None, opt.model_option("a small untrained model")] = None,
    texts: Annotated[int, typer.Option(min=1, help="Number of texts.")] = 10_000,
    source: Annotated[
        Path | None,
        opt.path_option(
            "--input", "-i", metavar="FILE", help="One text per line, repeated as needed.", show_default="random texts"
        ),
    ] = None,
    rounds: opt.Rounds = 3,
    json_file: opt.JsonFile = None,
) -> None:
    """Measure bigs predict, including reading and writing, compared with the forward passes alone."""
    from bigs_cli.bench.report import heading, show
    from bigs_cli.checkpoints.resolve import find_model
    from bigs_cli.core.errors import RequestError
    from bigs_cli.reporting.console import err

    if source is not None and not source.is_file():
        raise RequestError(f"--input {source} does not exist. Name a text file.")
    if model is not None:
        err.print(f"Model: {find_model(model).why}")
    from bigs_cli.bench.predict import measure, predict_table

    report = heading("predict", model=model, texts=texts, input=source and str(source), rounds=rounds)
    measured = measure(model, source, texts, rounds)
    report["measured"] = asdict(measured)
    summary = f"bigs predict takes {measured.overhead:.1%} more time than the forward pass alone."
    show(report, [predict_table(measured, f"{texts:,} texts of {measured.tokens:,} tokens")], [summary], json_file)


@app.command(epilog="[bold]Example:[/bold] bigs bench mesh wiki-books-512 --set mesh.fsdp=64 --set mesh.data=1")
def mesh(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Pretraining recipe: a name or a file.")],
    sets: opt.Sets = None,
    mfu: opt.Mfu = None,
    json_file: opt.JsonFile = None,
) -> None:
    """Count what each device of a mesh holds and sends in a training step, and plan its time, without these devices.

    The step is compiled for as many simulated devices as the sizes in `mesh` multiply to (−1 counts as 1). Compilers
    for accelerators may need less: they sum gradients only where they are stored, and send bfloat16 where this one
    sends float32.
    """
    from bigs_cli.bench.mesh import measure, mesh_table, plan_of, plan_table
    from bigs_cli.bench.report import heading, show
    from bigs_cli.core.accelerators import MFU
    from bigs_cli.core.errors import RequestError
    from bigs_cli.models.sharding import check_batch, planned_mesh
    from bigs_cli.recipe import PretrainRecipe, load_recipe
    from bigs_cli.training.batch_schedule import base_batch_size

    chosen = load_recipe(recipe, sets or ())
    if not isinstance(chosen, PretrainRecipe):
        raise RequestError(f"The recipe {recipe} is for fine-tuning. Name one for pretraining.")
    if chosen.teacher is not None:
        raise RequestError("The step is compiled without a teacher. Leave it out: --set teacher=null")
    sizes = {axis: max(1, size) for axis, size in chosen.mesh.model_dump().items()}
    dtype = "bfloat16" if chosen.compute.dtype == "auto" else chosen.compute.dtype
    compute = chosen.compute.model_copy(update={"dtype": dtype})
    chosen = chosen.model_copy(update={"mesh": type(chosen.mesh)(**sizes), "compute": compute})
    rows = base_batch_size(chosen) // chosen.gradient_accumulation_steps
    check_batch(planned_mesh(chosen.mesh), rows, chosen.data.sequence_length)
    devices = prod(sizes.values())
    measured = measure(chosen, devices)
    mfu = mfu or MFU
    plan = plan_of(chosen, measured, devices, mfu)
    report = heading("mesh", recipe=recipe, mesh=sizes) | asdict(measured)
    report["mfu"] = mfu
    report["seconds_per_step"] = {name: asdict(one) for name, one in plan.items()}
    shape = " × ".join(f"{axis} {size}" for axis, size in sizes.items())
    tables = [mesh_table(measured, f"{recipe}, {shape}, {dtype}"), plan_table(plan, chosen, devices, mfu)]
    show(report, tables, [], json_file)


app.command("recipes", epilog=compare_recipes.EPILOG)(compare_recipes.compare_recipes)


def _check_known(kind: str, names: Iterable[str], known: Collection[str]) -> None:
    """Check the `names` of things of a `kind`.

    Raises:
        RequestError: one is not in `known`.
    """
    from bigs_cli.core.errors import RequestError, did_you_mean

    for name in names:
        if name not in known:
            raise RequestError(f"There is no {kind} {name}.{did_you_mean(name, known)} Choose from {', '.join(known)}.")


def _config(layers: int, hidden: int, vocab_size: int, length: int = 512) -> BiGSConfig:
    """Return the config of a model with the published ratio I / H, for at most `length` tokens."""
    from bigs_cli.recipe import BiGSConfig

    return BiGSConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        max_position_embeddings=length,
    )
