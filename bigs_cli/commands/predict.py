"""`bigs predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from bigs_cli.commands import local

EPILOG = """[bold]Examples:[/bold]

bigs predict "The goal of life is \\[MASK]." --model bigs-512

bigs predict "A dog barks." --pair "An animal is heard." --model mnli

bigs predict "Oslo is the capital of Norway." --question "What is the capital?" --model squad

bigs predict --input reviews.csv --text review --output answers.jsonl --model sst2

bigs predict --input abstracts.jsonl.gz --embed --output vectors.npy --model small"""
_FILES = "Texts in a file"
_READING = "How the model reads"
Format = Literal["table", "jsonl", "csv"]


def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="What to answer.", show_default="stdin, one a line")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A run, folder, hub id or short name.",
            show_default="the newest run",
            parser=local.name,
        ),
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option("--pair", metavar="TEXT", help="The second text, for models of pairs. Of a file: its column."),
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            "--question", metavar="TEXT", help="What TEXT is to answer. Of a file: the column of the question."
        ),
    ] = None,
    endings: Annotated[
        list[str] | None,
        typer.Option(
            "--ending",
            metavar="TEXT",
            help="What may follow TEXT. Repeat it for more. Of a file: the column of an ending, or of all.",
        ),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Tell so many words of a \\[MASK], or answers to a question.")
    ] = 5,
    embed: Annotated[
        bool, typer.Option("--embed", help="Write embeddings (the mean of the last hidden state) to --output.")
    ] = False,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="How answers are written.", show_default="table; jsonl from or to a file"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this .jsonl or .csv; with --embed, to this .npy or .parquet.",
            show_default="stdout",
            parser=local.path,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            help="Read a .txt (one a line), .jsonl, .csv, .tsv or .parquet, also packed (.gz), of any size.",
            rich_help_panel=_FILES,
            parser=local.path,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="COLUMN", help="Its column with the text.", show_default="found", rich_help_panel=_FILES
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            min=4,
            help="Tokens an input is cut and padded to.",
            show_default="the run's, else all positions",
            rich_help_panel=_READING,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Rows at once.", show_default="32", rich_help_panel=_READING),
    ] = None,
    trim: Annotated[
        bool | None,
        typer.Option(
            "--trim-padding/--full-padding",
            help="Cut batches to their longest text, or not. Cutting changes what models that read their padding say.",
            show_default="the run's, else cut where it changes nothing",
            rich_help_panel=_READING,
        ),
    ] = None,
    allow_untrained: Annotated[
        bool,
        typer.Option(
            "--allow-untrained", help="Answer also with a head that was never trained.", rich_help_panel=_READING
        ),
    ] = False,
) -> None:
    """Use a model: fill in words, classify, compare, answer, find entities, choose, or embed.

    What is done follows from the model's head. Answers are in the order of the texts; those of a file have its columns.
    """
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import check_output_file

    if texts and source is not None:
        raise RequestError("Give texts, or a file of them with --input; not both.")
    if source is None and text is not None:
        raise RequestError("--text names a column of --input. Without a file, write the text itself: bigs predict TEXT")
    if not texts and source is None and sys.stdin.isatty():
        raise RequestError('Give a text: bigs predict "TEXT", --input FILE, or one a line on stdin.')
    if source is not None and not source.is_file():
        raise RequestError(f"There is no file {source} (--input).")
    if source is not None and output is not None and output.resolve() == source.resolve():
        raise RequestError(f"--output {output} is --input too: the texts would be lost. Name another file.")
    if output is not None:
        check_output_file(output, "--output")
    form = _check_output(output, form, embed, source is not None, bool(texts))

    from bigs_cli.commands.shared import open_and_announce, prepare_jax, refuse_untrained, tokenizer_of
    from bigs_cli.reporting.console import err, progress

    prepare_jax()
    opened = open_and_announce(model)
    from bigs_cli.models.published import to_unstacked
    from bigs_cli.prediction.embeddings import write_embeddings
    from bigs_cli.prediction.files import items_in, texts_on
    from bigs_cli.prediction.items import Named, check_given, items_with
    from bigs_cli.prediction.output import write_answers
    from bigs_cli.prediction.predictor import Predictor
    from bigs_cli.prediction.settings import Origin, settings_for
    from bigs_cli.reporting.padding import tell_of_trimming
    from bigs_cli.tasks.items import TEXT_OR_PAIR

    if not (embed or allow_untrained):
        refuse_untrained(opened)
    config = opened.config
    settings = settings_for(config, Origin.of(opened), length, batch_size, trim, top)
    tell_of_trimming(config, settings.trim)
    predictor = Predictor(config, to_unstacked(opened.flat), tokenizer_of(opened), settings)
    pipeline = None if embed else predictor.pipeline
    takes = TEXT_OR_PAIR if pipeline is None else pipeline.takes
    named = Named(text, pair, question, tuple(endings or ()))
    check_given(takes, named, source is not None, opened.source)

    def blank(lines: int) -> None:
        err.print(f"Blank lines, passed over: {lines:,}.")

    if source is not None:
        items = items_in(source, takes, settings.task, named, blank)
    else:
        given = ((f"text {i}", one) for i, one in enumerate(texts, 1)) if texts else None
        items = items_with(given or texts_on(sys.stdin.buffer, "stdin", blank), takes, named)
    if pipeline is None:
        assert output is not None
        with progress("embedding", len(texts) if texts else None, "text") as advance:
            count, size = write_embeddings(predictor.embeddings(items, advance), output)
        err.print(f"{count:,} vectors of {size} are in {output}.")
    else:
        with progress("predicting", None, "row") as advance:
            write_answers(predictor.answers(items, advance), pipeline, form, output)
        if output is not None:
            err.print(f"The answers are in {output}.")
    if predictor.cut:
        err.print(f"Cut to {settings.length} tokens: {predictor.cut:,}. What lies beyond was not read.")


def _check_output(output: Path | None, form: Format | None, embed: bool, file: bool, few: bool) -> Format:
    """Return the format, before anything is loaded."""
    from bigs_cli.core.errors import RequestError

    ending = "" if output is None else output.suffix.lower()
    if embed:
        if ending not in (".npy", ".parquet") or form is not None:
            raise RequestError("Embeddings are written to a file: --embed --output FILE.npy, or FILE.parquet.")
        return "jsonl"
    if ending in (".npy", ".parquet"):
        raise RequestError(f"{output} is for embeddings: add --embed, or name a .jsonl or .csv file.")
    if form == "table" and output is not None:
        raise RequestError("A table is for the terminal; --output takes --format jsonl or csv.")
    if form is not None:
        return form
    if output is not None:
        return "csv" if ending == ".csv" else "jsonl"
    from bigs_cli.reporting.console import out

    return "table" if few or (out.is_terminal and not file) else "jsonl"
