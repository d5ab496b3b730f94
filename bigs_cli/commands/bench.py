"""`bigs bench`: what bigs does on this machine, in figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure bigs on this machine.", rich_markup_mode="rich")

JsonTarget = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON; -: to stdout, and no table.")
]


@app.command(epilog="[bold]Example:[/bold] bigs bench load --tokens 1e8 --json load.json")
def load(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Token shards whose rows are repeated.", show_default="made-up tokens"),
    ] = None,
    lengths: Annotated[
        list[int] | None,
        typer.Option("--length", "-l", min=1, help="Tokens in a row. Repeat it for more.", show_default="128 and 512"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows in a batch.")] = 32,
    tokens: Annotated[float, typer.Option(min=1000, help="Tokens in the largest corpus.")] = 1e9,
    sizes: Annotated[int, typer.Option(min=2, help="How many sizes, from a thousandth of --tokens up to it.")] = 10,
    seconds: Annotated[float, typer.Option(min=0, help="How long to read from each.")] = 2.5,
    json_file: JsonTarget = None,
) -> None:
    """Measure how fast token shards start and load, and whether that depends on how many there are.

    Makes corpora of growing size in the folder for temporary files ($TMPDIR), one at a time, and removes them. With the
    default settings: 2 GB, and some minutes.
    """
    from bigs_cli.bench.corpus import check_space, source_rows
    from bigs_cli.bench.load import corpus_sizes, figures, flatness, measure_sizes, sizes_table, summary_line
    from bigs_cli.bench.report import check_target, heading, show
    from bigs_cli.commands.shared import stoppable
    from bigs_cli.data.shards import open_shards
    from bigs_cli.reporting.console import err, progress

    check_target(json_file)
    shards = open_shards(data) if data else None
    sources = [source_rows(shards, length) for length in lengths or (128, 512)]
    wanted = corpus_sizes(int(tokens), sizes)
    needed = check_space(wanted[-1], sources[0][1])
    made = heading("load", data=data and str(data), batch=batch, tokens=int(tokens), seconds=seconds)
    err.print(f"Takes up to {needed / 1e9:.2f} GB of disk, for as long as it runs.")
    with stoppable(), progress("loading", len(sources) * sizes, "size") as advance:
        runs = [measure_sizes(rows, vocab, wanted, batch, seconds, advance) for rows, vocab in sources]
    made["sizes"] = [size for measured in runs for size in figures(measured)]
    made["summary"] = [flatness(measured) for measured in runs]
    show(made, [sizes_table(measured, batch) for measured in runs], [summary_line(one) for one in runs], json_file)


@app.command(
    epilog="[bold]Example:[/bold] bigs bench tokenize --input articles.jsonl.gz --vocab vocab.txt --times 1 --times 10"
)
def tokenize(
    inputs: Annotated[
        list[str],
        typer.Option("--input", "-i", metavar="SOURCE", help="Text, as for bigs tokenize. Repeat it for more."),
    ],
    vocab: Annotated[str, typer.Option(metavar="FILE", help="Vocabulary, as for bigs tokenize.")],
    length: Annotated[int, typer.Option("--length", "-l", min=8, help="Tokens in a row.")] = 128,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, and threads of the tokenizer.", show_default="one a core")
    ] = None,
    times: Annotated[
        list[int] | None,
        typer.Option(min=1, help="How often the text is read. Repeat it for more.", show_default="1 and 10"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Measurements of each; the median counts.")] = 3,
    json_file: JsonTarget = None,
) -> None:
    """Measure tokenizing beside the tokenizer alone on the same text and cores, and the memory it takes."""
    import os

    from bigs_cli.bench.report import check_target, heading, show
    from bigs_cli.bench.tokenize import figures, measure, tokenize_table
    from bigs_cli.commands.shared import stoppable
    from bigs_cli.data.corpus import find_parts
    from bigs_cli.data.tokenizer import load_tokenizer
    from bigs_cli.reporting.console import progress

    check_target(json_file)
    find_parts(inputs)
    load_tokenizer(vocab)
    workers, times = workers or os.cpu_count() or 1, times or [1, 10]
    made = heading("tokenize", inputs=inputs, vocab=vocab, length=length, workers=workers, rounds=rounds)
    with stoppable(), progress("tokenizing", len(times) * rounds, "round") as advance:
        measured = measure(inputs, vocab, length, workers, times, rounds, advance)
    made["sizes"] = figures(measured)
    show(made, [tokenize_table(measured, workers)], [], json_file)
