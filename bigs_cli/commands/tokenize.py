"""`bigs tokenize`: text and a vocabulary in, token shards with a manifest out; and looking at shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bigs_cli.commands import local
from bigs_cli.core.errors import BigsError, RequestError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.data.staging import Request
    from bigs_cli.data.validation import ValidationRule

EPILOG = "\n\n".join(
    (
        "[bold]Examples:[/bold]",
        "bigs tokenize --input articles.jsonl.gz --input books/ --length 128 --vocab vocab.txt --output shards/128",
        "bigs tokenize --input python-docs --length 128 --train-vocab 8192 --heldout 0.05 --output shards/demo",
        "bigs tokenize --input wikimedia/wikipedia:20231101.en --length 4096 --cross-documents "
        "--vocab google-bert/bert-large-uncased --output shards/4096",
        "bigs tokenize --check shards/128",
        "bigs tokenize --show shards/128",
        "[bold]Then:[/bold] bigs pretrain --recipe small --data shards/128",
    )
)
_TEXT, _ROWS, _LOOK = "What is read", "How rows are made", "Looking at shards"


def tokenize(
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="SOURCE",
            help="Text: .txt, .jsonl, .csv, .tsv (also .gz, .bz2, .xz, .zst), .parquet or WikiExtractor files; a "
            "folder of such; an address (gs://, s3://, hf://); a hub data set as owner/name:config:split; or "
            "python-docs, the documentation this Python carries. Repeat it for more. A folder of the BiGS authors' "
            "HDF5 shards is converted.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write the shards into this folder.", rich_help_panel=_ROWS, parser=local.path
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option("--length", "-l", help="Tokens in a row, \\[CLS] and \\[SEP] included.", rich_help_panel=_ROWS),
    ] = None,
    vocab: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Vocabulary: a vocab.txt, a tokenizer.json, a folder, or a hub id.",
            rich_help_panel=_ROWS,
            parser=local.name,
        ),
    ] = None,
    train_vocab: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            max=1_000_000,
            help="Train a vocabulary of N entries on the same text instead.",
            rich_help_panel=_ROWS,
        ),
    ] = None,
    weights: Annotated[
        list[float] | None,
        typer.Option(
            "--weight",
            metavar="W",
            help="How many times each document of an --input is used; one for every --input, in their order. 0.5: half "
            "of the documents.",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column with the text.",
            show_default="'text', or the only one with strings",
            rich_help_panel=_TEXT,
        ),
    ] = None,
    text_documents: Annotated[
        Literal["file", "block", "line"],
        typer.Option(
            help="What a document of a .txt is: the file, a block between blank lines, or a line.",
            rich_help_panel=_TEXT,
        ),
    ] = "file",
    limit_documents: Annotated[
        int | None, typer.Option(help="Read only so many documents.", min=1, rich_help_panel=_TEXT)
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Count and pass over what cannot be read.", rich_help_panel=_TEXT),
    ] = False,
    drop_duplicates: Annotated[
        bool,
        typer.Option("--drop-duplicates", help="Use only the first of equal documents.", rich_help_panel=_TEXT),
    ] = False,
    split: Annotated[
        Literal["sentences", "paragraphs", "tokens"],
        typer.Option(help="What a row is filled with, whole; tokens: full rows, cut anywhere.", rich_help_panel=_ROWS),
    ] = "sentences",
    cross_documents: Annotated[
        bool,
        typer.Option(
            "--cross-documents",
            help="Let a row hold the end of one document and the beginning of the next.",
            rich_help_panel=_ROWS,
        ),
    ] = False,
    heldout: Annotated[
        float,
        typer.Option(
            help="Part of the documents held out for evaluation; 0: none.", min=0, max=0.9, rich_help_panel=_ROWS
        ),
    ] = 0.005,
    min_tokens: Annotated[
        int, typer.Option(help="Leave out documents with fewer tokens than this.", min=1, rich_help_panel=_ROWS)
    ] = 2,
    workers: Annotated[
        int | None,
        typer.Option(help="Pack rows with so many processes.", min=1, max=1024, show_default="one a core"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the interrupted tokenization in --output, as it was begun; the shards are those of one that "
            "was not interrupted.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards that are there already.")] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Only read all shards in DIR and name those that are damaged.",
            rich_help_panel=_LOOK,
            parser=local.path,
        ),
    ] = None,
    show: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Only print some rows of DIR, masked as a model reads them.",
            rich_help_panel=_LOOK,
            parser=local.path,
        ),
    ] = None,
    examples: Annotated[int, typer.Option(help="Rows that --show prints.", min=1, rich_help_panel=_LOOK)] = 3,
) -> None:
    """Turn text into token shards: rows of LENGTH tokens for [bold]bigs pretrain[/bold].

    Rows are filled with whole sentences; the last row of a document is padded, and no row holds two, unless asked.
    Whole documents are held out by the hash of their text; where there are too few of them, whole paragraphs or
    sentences. The tokenizer travels in the shards' folder. Prints the
    path of the manifest.
    """
    if check is not None or show is not None:
        if inputs or output or (check and show):
            raise RequestError("--check and --show look at shards that are there: use one of them alone.")
        if check:
            _check(check)
        elif show:
            _show(show, examples)
        return
    if resume and overwrite:
        raise RequestError("Choose either --resume or --overwrite: continue what is there, or start over.")
    if resume and not inputs and output is not None:
        ours = (length, vocab, train_vocab, weights, text_column, limit_documents)
        if any(value is not None for value in ours) or (
            (text_documents, drop_duplicates, split, cross_documents, heldout, min_tokens)
            != ("file", False, "sentences", False, 0.005, 2)
        ):
            raise RequestError(
                "A tokenization is resumed as it was begun. Beside --resume and --output name only --workers and "
                "--skip-bad, or repeat the whole command that began it."
            )
        _resume(output, workers, skip_bad)
        return
    if not inputs:
        raise RequestError("There is nothing to tokenize. Name text with --input PATH; see bigs tokenize --help.")
    if output is None:
        raise RequestError("Name the folder to write the shards into: --output DIR")

    from bigs_cli.data.hdf5 import HDF5_SUFFIXES, is_hdf5_folder

    for source in inputs:
        if Path(source).suffix in HDF5_SUFFIXES and Path(source).is_file():
            raise RequestError(f"{source} is a file of HDF5 shards: name the folder that it is in.")
    if any(is_hdf5_folder(Path(source)) for source in inputs):
        of_text = (train_vocab, weights, text_column, limit_documents, workers)
        if (
            len(inputs) > 1
            or any(value is not None for value in of_text)
            or any((resume, skip_bad, drop_duplicates, cross_documents, split != "sentences"))
        ):
            raise RequestError(
                "HDF5 shards are converted as they are: name one folder of them with --input, and beside it only "
                "--output, --vocab, --heldout and --overwrite."
            )
        _convert(Path(inputs[0]), output, vocab, length, heldout, overwrite)
        return
    if length is None:
        raise RequestError("Say how many tokens a row takes, as the recipe will: --length 128")
    if (vocab is None) == (train_vocab is None):
        raise RequestError(
            "Exactly one vocabulary is needed: --vocab FILE for one that exists, or --train-vocab N to train one."
        )
    if weights and len(weights) != len(inputs):
        raise RequestError(f"There are {len(inputs)} --input and {len(weights)} --weight: give every --input one.")
    if any(not 0 < weight <= 1000 for weight in weights or ()):
        raise RequestError("A --weight is a number above 0, and 1000 at most. To leave a source out, do not name it.")

    from bigs_cli.data.manifest import Packing
    from bigs_cli.data.readers import ReadOptions
    from bigs_cli.data.staging import Request, check_output
    from bigs_cli.data.tokenizer import fingerprint, load_tokenizer
    from bigs_cli.data.vocabulary import train_on
    from bigs_cli.reporting import console

    check_output(output, resume=resume, overwrite=overwrite)
    given = None if vocab is None else load_tokenizer(vocab)
    request = Request(
        sources=tuple(inputs),
        weights=tuple(weights or [1.0] * len(inputs)),
        vocabulary=f"trained, {train_vocab} entries" if given is None else fingerprint(given),
        sequence_length=length,
        packing=Packing(split=split, cross_documents=cross_documents, min_tokens=min_tokens),
        heldout=heldout,
        how=ReadOptions(text_column, text_documents),
        drop_duplicates=drop_duplicates,
        limit_documents=limit_documents,
    )

    def tokenizer(rule: ValidationRule) -> Tokenizer:
        if given is not None:
            return given
        assert train_vocab is not None
        console.err.print(f"Training a vocabulary of {train_vocab:,} entries.")
        return train_on(request, rule, train_vocab, skip_bad)

    _build(request, tokenizer, output, workers, skip_bad, resume, overwrite)


def _build(
    request: Request,
    tokenizer: Callable[[ValidationRule], Tokenizer],
    output: Path,
    workers: int | None,
    skip_bad: bool,
    resume: bool,
    overwrite: bool = False,
) -> None:
    """Make the shards, say what they are, and print the path of their manifest."""
    from bigs_cli.data.build import build_shards
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.data.staging import Staging, resume_command
    from bigs_cli.reporting import console
    from bigs_cli.reporting.shards import report_table

    try:
        with console.progress("tokenizing", unit="tokens") as advance:
            manifest = build_shards(
                request,
                tokenizer,
                output,
                workers=workers,
                skip_bad=skip_bad,
                resume=resume,
                overwrite=overwrite,
                advance=advance,
                say=console.err.print,
            )
    except KeyboardInterrupt:
        kept = f"What was written so far is kept. Continue with: {resume_command(output)}"
        console.err.print(f"Stopped. {kept if Staging(output).folder.exists() else 'Nothing was saved yet.'}")
        raise
    console.err.print(report_table(manifest))
    typer.echo(output / MANIFEST)


def _resume(output: Path, workers: int | None, skip_bad: bool) -> None:
    """Continue the tokenization in `output` as it was begun, in the working directory that it was begun in.

    Raises:
        RequestError: there is none.
    """
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.data.shards import open_shards
    from bigs_cli.data.staging import Staging, check_output, staging
    from bigs_cli.data.tokenizer import load_tokenizer
    from bigs_cli.reporting import console
    from bigs_cli.reporting.shards import report_table

    check_output(output, resume=True)
    progress = Staging(output).progress()
    if progress is None:
        if Staging(output).finished:
            with staging(output, resume=True) as place:
                place.publish()
        if not (output / MANIFEST).is_file():
            raise RequestError(
                f"There is no unfinished tokenization in {output}. Name the text to begin one with: --input PATH"
            )
        console.err.print(report_table(open_shards(output).manifest))
        typer.echo(output / MANIFEST)
        return
    directory = progress.directory
    if directory and Path(directory).is_dir() and not Path(directory).samefile(Path.cwd()):
        output = output.absolute()
        with contextlib.chdir(directory):
            _resume(output, workers, skip_bad)
        return
    _build(
        progress.request,
        lambda rule: load_tokenizer(Staging(output).folder),
        output,
        workers,
        skip_bad or progress.skip_bad,
        resume=True,
    )


def _convert(
    folder: Path, output: Path, vocab: str | None, length: int | None, heldout: float, overwrite: bool
) -> None:
    """Turn the BiGS authors' HDF5 shards into ours."""
    from bigs_cli.data.hdf5 import hdf5_tokenizer, open_hdf5
    from bigs_cli.data.hdf5_convert import convert_hdf5
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.data.staging import check_output
    from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER, load_tokenizer
    from bigs_cli.reporting import console
    from bigs_cli.reporting.shards import report_table

    check_output(output, overwrite=overwrite)
    tokenizer = load_tokenizer(vocab) if vocab else hdf5_tokenizer(folder, PUBLISHED_TOKENIZER)
    found = open_hdf5(folder, tokenizer).manifest.sequence_length
    if length not in (None, found):
        raise RequestError(
            f"The rows in {folder} have {found} tokens, and are converted as they are: leave out --length."
        )
    with console.progress("converting", unit="tokens") as advance:
        manifest = convert_hdf5(
            folder, tokenizer, output, heldout=heldout, overwrite=overwrite, say=console.err.print, advance=advance
        )
    console.err.print(report_table(manifest))
    typer.echo(output / MANIFEST)


def _check(folder: Path) -> None:
    """Read all of `folder`; print what it holds, or raise an error that names every damaged file."""
    from bigs_cli.data.shards import read_manifest
    from bigs_cli.data.verify import check
    from bigs_cli.reporting import console
    from bigs_cli.reporting.shards import report_table

    shards = read_manifest(folder)
    with console.progress("checking", unit="bytes") as advance:
        problems = check(shards, advance)
    if problems:
        raise BigsError("\n".join(problems))
    console.err.print(report_table(shards.manifest))
    typer.echo(f"{folder}: all shards are whole.")


def _show(folder: Path, examples: int) -> None:
    from bigs_cli.data.shards import open_shards
    from bigs_cli.data.verify import verify
    from bigs_cli.recipe.schema import Masking
    from bigs_cli.reporting.examples import print_examples

    shards = open_shards(folder)
    verify(shards)
    print_examples(shards, Masking(), examples, seed=0)
