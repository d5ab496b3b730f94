"""`bigs predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import options as opt

EPILOG = """[bold]Examples:[/bold]

bigs predict "The goal of life is \\[MASK]." --model bigs-512

bigs predict "A dog barks." --pair "An animal is heard." --model mnli

bigs predict "Oslo is the capital of Norway." --question "What is the capital?" --model squad

bigs predict --input reviews.csv --text review --output answers.jsonl --model sst2

bigs predict --input abstracts.jsonl.gz --embed --output vectors.npy --model small"""
_FILES = "Input file"
Format = Literal["table", "jsonl", "csv"]

Texts = Annotated[
    list[str] | None, typer.Argument(metavar="TEXT", help="Input texts.", show_default="stdin, one per line")
]
Pair = Annotated[
    str | None,
    typer.Option("--pair", metavar="TEXT", help="Second text of a pair; with --input, the name of its column."),
]
Question = Annotated[
    str | None,
    typer.Option("--question", metavar="TEXT", help="Question about TEXT; with --input, the name of its column."),
]
Endings = Annotated[
    list[str] | None,
    typer.Option(
        "--ending",
        metavar="TEXT",
        help="Possible ending of TEXT. Repeatable. With --input, the name of a column with one ending, or with a list "
        "of all endings.",
    ),
]
Top = Annotated[
    int, typer.Option("--top", min=1, help="Number of candidates per \\[MASK], or of answers per question.")
]
Embed = Annotated[
    bool, typer.Option("--embed", help="Write embeddings (the mean of the last hidden state) to --output.")
]
OutputFormat = Annotated[
    Format | None,
    typer.Option("--format", help="Output format.", show_default="table; with --input, --output or a pipe, jsonl"),
]
Output = Annotated[
    str | None,
    opt.place_option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write to this .jsonl or .csv file; with --embed, to this .npy or .parquet file.",
        show_default="stdout",
    ),
]
Input = Annotated[
    Path | None,
    opt.fetched_option(
        "--input",
        "-i",
        metavar="FILE",
        help="Read texts from a .txt (one per line), .jsonl, .csv, .tsv or .parquet file of any size; .gz is "
        "decompressed.",
        rich_help_panel=_FILES,
    ),
]
TextColumn = Annotated[str | None, opt.text_option("detected", _FILES)]


def predict(
    texts: Texts = None,
    model: opt.Model = None,
    pair: Pair = None,
    question: Question = None,
    endings: Endings = None,
    top: Top = 5,
    embed: Embed = False,
    form: OutputFormat = None,
    output: Output = None,
    source: Input = None,
    text: TextColumn = None,
    dimensions: opt.Dimensions = None,
    length: opt.Length = None,
    batch_size: Annotated[int | None, opt.batch_size_option("32")] = None,
    trim: opt.TrimPadding = None,
    allow_untrained: opt.AllowUntrained = False,
) -> None:
    """Apply a model to texts: fill masks, classify, score, answer questions, find entities, choose endings, or embed.

    The head of the model determines the task. Results are in input order and keep all columns of an input file.
    """
    arguments = dict(locals())
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import check_output_file
    from bigs_cli.core.paths import is_url
    from bigs_cli.core.places import place_of

    if output is not None and source is not None and place_of(source) == output.rstrip("/"):
        raise RequestError(f"--output {output} is the same file as --input and would overwrite it. Name another file.")
    if output is not None and is_url(output):
        from bigs_cli.commands.shared import uploaded

        with uploaded(output, is_folder=False) as path:
            predict(**{**arguments, "output": str(path)})
        return
    file = None if output is None else Path(output)
    if texts and source is not None:
        raise RequestError("Use either texts on the command line or --input, not both.")
    if source is None and text is not None:
        raise RequestError('--text names a column of --input. To predict a single text: bigs predict "TEXT"')
    if not texts and source is None and sys.stdin.isatty():
        raise RequestError('No text was given. Use bigs predict "TEXT", --input FILE, or stdin with one text per line.')
    if source is not None and not source.is_file():
        raise RequestError(f"--input {source} does not exist. Name a file of texts.")
    if source is not None and file is not None and file.resolve() == source.resolve():
        raise RequestError(f"--output {file} is the same file as --input and would overwrite it. Name another file.")
    if file is not None:
        check_output_file(file, "--output")
    form = _check_output(file, form, embed, source is not None, bool(texts))
    if dimensions is not None and not embed:
        raise RequestError("--dimensions is for embeddings. Add --embed, or leave it out.")

    from bigs_cli.commands.shared import check_dimensions, check_untrained, open_and_announce, prepare_jax, tokenizer_of
    from bigs_cli.reporting.console import err, progress

    prepare_jax()
    opened = open_and_announce(model)
    from bigs_cli.models.published import to_unstacked
    from bigs_cli.prediction.embeddings import write_embeddings
    from bigs_cli.prediction.files import items_in, texts_in
    from bigs_cli.prediction.items import InputOptions, check_options, items_with
    from bigs_cli.prediction.output import write_answers
    from bigs_cli.prediction.predictor import Predictor
    from bigs_cli.prediction.settings import settings_for
    from bigs_cli.reporting.console import warn_of_trimming
    from bigs_cli.tasks.items import TEXT_OR_PAIR

    if not (embed or allow_untrained):
        check_untrained(opened)
    config = opened.config
    if dimensions is not None:
        check_dimensions(dimensions, config)
    settings = settings_for(opened, length, batch_size, trim, top)
    warn_of_trimming(config, settings.trim)
    predictor = Predictor(config, to_unstacked(opened.flat), tokenizer_of(opened), settings)
    pipeline = None if embed else predictor.pipeline
    takes = TEXT_OR_PAIR if pipeline is None else pipeline.takes
    inputs = InputOptions(text, pair, question, tuple(endings or ()))
    check_options(takes, inputs, source is not None, opened.source)

    def blank(lines: int) -> None:
        err.print(f"Blank lines skipped: {lines:,}.")

    if source is not None:
        items = items_in(source, takes, settings.task, inputs, blank)
    elif texts:
        items = items_with(((f"text {i}", each) for i, each in enumerate(texts, 1)), takes, inputs)
    else:
        items = items_with(texts_in(sys.stdin.buffer, "stdin", blank), takes, inputs)
    if pipeline is None:
        assert file is not None
        with progress("embedding", len(texts) if texts else None, "text") as advance:
            windows = ((of, vectors[:, :dimensions]) for of, vectors in predictor.embeddings(items, advance))
            count, size = write_embeddings(windows, file)
        err.print(f"Wrote {count:,} embeddings of size {size} to {place_of(file)}.")
    else:
        with progress("predicting", None, "row") as advance:
            write_answers(predictor.answers(items, advance), pipeline, form, file)
        if file is not None:
            err.print(f"Wrote the predictions to {place_of(file)}.")
    if predictor.cut:
        err.print(f"Texts truncated to {settings.length} tokens: {predictor.cut:,}.")


def _check_output(output: Path | None, form: Format | None, embed: bool, file: bool, texts_given: bool) -> Format:
    """Return the output format. `texts_given`: whether texts were given on the command line."""
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.places import place_of

    ending = "" if output is None else output.suffix.lower()
    if embed:
        if ending not in (".npy", ".parquet") or form is not None:
            raise RequestError("--embed requires a file, and no --format: --embed --output FILE.npy or FILE.parquet")
        return "jsonl"
    if output is not None and ending in (".npy", ".parquet"):
        raise RequestError(
            f"--output {place_of(output)} is for embeddings. Add --embed, or name a .jsonl or .csv file."
        )
    if form == "table" and output is not None:
        raise RequestError("--format table is for the terminal. With --output, use --format jsonl or csv.")
    if form is not None:
        return form
    if output is not None:
        return "csv" if ending == ".csv" else "jsonl"
    from bigs_cli.reporting.console import is_screen, out

    return "table" if texts_given or (is_screen(out) and not file) else "jsonl"
