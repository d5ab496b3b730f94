"""`bigs tokenize`: convert text to token shards, or inspect existing shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bigs_cli.commands import options as opt
from bigs_cli.commands import shards
from bigs_cli.core.errors import RequestError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.data.validation import ValidationRule

EPILOG = "\n\n".join(
    (
        "[bold]Examples:[/bold]",
        "bigs tokenize --input articles.jsonl.gz --input books/ --length 128 --train-vocab 8192 --split tokens "
        "--output shards/128",
        "bigs tokenize --input python-docs --length 128 --train-vocab 8192 --heldout 0.05 --output shards/demo",
        "bigs tokenize --input wikimedia/wikipedia:20231101.en --length 4096 --cross-documents "
        "--vocab google-bert/bert-large-uncased --output shards/4096",
        "bigs tokenize --check shards/128",
        "bigs tokenize --show shards/128",
        "[bold]Then:[/bold] bigs pretrain --recipe small --data shards/128",
    )
)
_TEXT, _ROWS, _PARTS, _INSPECT = "Input", "Rows", "Several machines", "Inspecting shards"

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="SOURCE",
        help="Text to read: .txt, .jsonl, .csv, .tsv (also .gz, .bz2, .xz, .zst), .parquet or WikiExtractor files; a "
        "folder of such files; a URL (gs://, s3://, hf://); a hub data set as owner/name:config:split; or "
        "python-docs, the "
        "documentation of the running Python. Repeatable. A folder of the BiGS authors' HDF5 shards is converted.",
        rich_help_panel=_TEXT,
    ),
]
Weights = Annotated[
    list[float] | None,
    typer.Option(
        "--weight",
        metavar="W",
        help="Number of times each document of an --input is used; give one --weight per --input, in the same order. "
        "0.5 uses half of the documents.",
        rich_help_panel=_TEXT,
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        "--text-column",
        help="Column of the text.",
        show_default="'text', else the only column of strings",
        rich_help_panel=_TEXT,
    ),
]
TextDocuments = Annotated[
    Literal["file", "block", "line"],
    typer.Option(
        "--text-documents",
        help="Documents in a .txt file: the whole file, each block between blank lines, or each line.",
        rich_help_panel=_TEXT,
    ),
]
LimitDocuments = Annotated[
    int | None,
    typer.Option("--limit-documents", min=1, help="Maximum number of documents to read.", rich_help_panel=_TEXT),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip and count records that cannot be read.", rich_help_panel=_TEXT)
]
DropDuplicates = Annotated[
    bool,
    typer.Option(
        "--drop-duplicates", help="Keep only the first of several identical documents.", rich_help_panel=_TEXT
    ),
]
Output = Annotated[
    Path | None, opt.path_option("--output", "-o", help="Folder to write the shards to.", rich_help_panel=_ROWS)
]
RowLength = Annotated[
    int | None,
    typer.Option("--length", "-l", help="Tokens per row, including \\[CLS] and \\[SEP].", rich_help_panel=_ROWS),
]
Vocabulary = Annotated[
    str | None,
    opt.name_option(
        "--vocab",
        metavar="FILE",
        help="Vocabulary: a vocab.txt, a tokenizer.json, a folder, or a hub id.",
        rich_help_panel=_ROWS,
    ),
]
TrainVocab = Annotated[
    int | None,
    typer.Option(
        "--train-vocab",
        metavar="N",
        max=1_000_000,
        help="Train a vocabulary of N entries on the input instead.",
        rich_help_panel=_ROWS,
    ),
]
SplitRows = Annotated[
    Literal["sentences", "paragraphs", "tokens"],
    typer.Option(
        "--split",
        help="Fill rows with whole sentences or paragraphs; tokens fills rows completely and splits text anywhere.",
        rich_help_panel=_ROWS,
    ),
]
CrossDocuments = Annotated[
    bool,
    typer.Option("--cross-documents", help="Allow a row to contain text of several documents.", rich_help_panel=_ROWS),
]
Heldout = Annotated[
    float,
    typer.Option(
        "--heldout",
        min=0,
        max=0.9,
        help="Fraction of the documents to hold out for validation; 0 for none.",
        rich_help_panel=_ROWS,
    ),
]
MinTokens = Annotated[
    int, typer.Option("--min-tokens", min=1, help="Skip documents with fewer tokens.", rich_help_panel=_ROWS)
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=1024, help="Number of worker processes.", show_default="one per usable core"),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue the interrupted tokenization in --output. The output is byte-identical to an uninterrupted run.",
    ),
]
PartOf = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Tokenize only part I of N, for example on one of several machines; then join all parts with --merge.",
        rich_help_panel=_PARTS,
    ),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="ray: on the cluster at $RAY_ADDRESS, whose machines share the input and --output.",
        rich_help_panel=_PARTS,
    ),
]
Merge = Annotated[
    bool,
    typer.Option("--merge", help="Join the parts in --output that were made with --part.", rich_help_panel=_PARTS),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing shards.")]
Check = Annotated[
    Path | None,
    opt.path_option(
        "--check", metavar="DIR", help="Verify all shards in DIR and report corrupt files.", rich_help_panel=_INSPECT
    ),
]
Show = Annotated[
    Path | None,
    opt.path_option(
        "--show",
        metavar="DIR",
        help="Print some rows of the shards in DIR, masked as in training.",
        rich_help_panel=_INSPECT,
    ),
]
Examples = Annotated[
    int, typer.Option("--examples", min=1, help="Number of rows printed by --show.", rich_help_panel=_INSPECT)
]


def tokenize(
    context: typer.Context,
    inputs: Inputs = None,
    output: Output = None,
    length: RowLength = None,
    vocab: Vocabulary = None,
    train_vocab: TrainVocab = None,
    weights: Weights = None,
    text_column: TextColumn = None,
    text_documents: TextDocuments = "file",
    limit_documents: LimitDocuments = None,
    skip_bad: SkipBad = False,
    drop_duplicates: DropDuplicates = False,
    split: SplitRows = "sentences",
    cross_documents: CrossDocuments = False,
    heldout: Heldout = 0.005,
    min_tokens: MinTokens = 2,
    workers: Workers = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    part: PartOf = None,
    merge: Merge = False,
    engine: Engine = "local",
    check: Check = None,
    show: Show = None,
    examples: Examples = 3,
) -> None:
    """Turn text into token shards: rows of LENGTH tokens for [bold]bigs pretrain[/bold].

    Rows are filled with whole sentences. A row contains text of one document only, unless --cross-documents is given;
    the last row of a document is padded. Held-out documents are selected by a hash of their text; if there are too few
    documents, paragraphs or sentences are held out instead. The tokenizer is saved with the shards. Prints the path of
    the manifest.
    """
    if check is not None:
        _allow_only(context, "--check only verifies existing shards", {"check"})
        shards.check_shards(check)
        return
    if show is not None:
        _allow_only(context, "--show only prints rows of existing shards", {"show", "examples"})
        shards.show_rows(show, examples)
        return
    if merge:
        _allow_only(context, "--merge only joins the parts in --output", {"merge", "output", "overwrite"})
        shards.merge_parts(_required(output), overwrite)
        return
    if limit_documents is not None and (part is not None or engine == "ray"):
        raise RequestError(
            "--limit-documents counts documents of the whole text. Leave it out, or leave out "
            f"{'--part' if engine == 'local' else '--engine ray'}."
        )
    portion = None
    if part is not None:
        from bigs_cli.data.portions import Portion
        from bigs_cli.data.staging import check_output

        output = _required(output, ", the same for all parts,")
        if engine == "ray":
            raise RequestError("--engine ray makes all parts itself. Leave out --part.")
        portion = Portion.parse(part)
        check_output(output, overwrite=overwrite)
        output = portion.folder(output)
    if engine == "ray" and (resume or workers is not None):
        raise RequestError(
            "--engine ray continues by itself, and uses one process per CPU. Leave out --resume and --workers."
        )
    if resume and overwrite:
        raise RequestError("Use either --resume to continue, or --overwrite to start over.")
    if resume and not inputs and output is not None:
        _allow_only(
            context,
            "A tokenization is resumed with its original settings, or by the whole command that started it",
            {"resume", "output", "workers", "skip_bad", "part"},
        )
        shards.resume_tokenization(output, workers, skip_bad)
        return
    if not inputs:
        raise RequestError("No input was given. Name text with --input PATH; see bigs tokenize --help.")
    output = _required(output)
    if _is_hdf5(inputs):
        _allow_only(
            context,
            "HDF5 shards are converted without repacking",
            {"inputs", "output", "vocab", "length", "heldout", "overwrite"},
        )
        if len(inputs) > 1:
            raise RequestError("One folder of HDF5 shards is converted at a time. Name only one --input.")
        shards.convert_hdf5_folder(Path(inputs[0]), output, vocab, length, heldout, overwrite)
        return
    _check_text_options(inputs, length, vocab, train_vocab, weights)

    from bigs_cli.data.build import BuildOptions
    from bigs_cli.data.manifest import Packing
    from bigs_cli.data.readers import ReadOptions
    from bigs_cli.data.staging import Request, check_output
    from bigs_cli.data.tokenizer import fingerprint, load_tokenizer

    check_output(output, resume=resume, overwrite=overwrite)
    tokenizer = None if vocab is None else load_tokenizer(vocab)
    request = Request(
        sources=tuple(inputs),
        weights=tuple(weights or [1.0] * len(inputs)),
        vocabulary=f"trained, {train_vocab} entries" if tokenizer is None else fingerprint(tokenizer),
        sequence_length=length or 0,
        packing=Packing(split=split, cross_documents=cross_documents, min_tokens=min_tokens),
        heldout=heldout,
        how=ReadOptions(text_column, text_documents),
        drop_duplicates=drop_duplicates,
        limit_documents=limit_documents,
    )

    def get_tokenizer(rule: ValidationRule) -> Tokenizer:
        return tokenizer or shards.train_vocabulary(request, train_vocab or 0, skip_bad, rule)

    options = BuildOptions(workers, skip_bad, resume=resume, portion=portion, overwrite=overwrite)
    shards.tokenize_text(request, get_tokenizer, output, options, engine)


def _allow_only(context: typer.Context, purpose: str, names: set[str]) -> None:
    """Check that, of all options, only those of the parameters `names` were given.

    Raises:
        RequestError: others were given. The message begins with `purpose`.
    """
    others = [
        option.opts[0]
        for option in context.command.params
        if option.name is not None
        and option.name not in names
        and (source := context.get_parameter_source(option.name)) is not None
        and source.name == "COMMANDLINE"
    ]
    if others:
        raise RequestError(f"{purpose}. Leave out {', '.join(others)}.")


def _required(output: Path | None, note: str = "") -> Path:
    if output is None:
        raise RequestError(f"No output folder was given. Name one{note} with --output DIR")
    return output


def _is_hdf5(inputs: list[str]) -> bool:
    """Return whether any of `inputs` is a folder of HDF5 shards.

    Raises:
        RequestError: an input is a single HDF5 file.
    """
    from bigs_cli.data.hdf5 import HDF5_SUFFIXES, is_hdf5_folder

    for source in inputs:
        if Path(source).suffix in HDF5_SUFFIXES and Path(source).is_file():
            raise RequestError(f"{source} is a single HDF5 file. Name the folder that contains it.")
    return any(is_hdf5_folder(Path(source)) for source in inputs)


def _check_text_options(
    inputs: list[str], length: int | None, vocab: str | None, train_vocab: int | None, weights: list[float] | None
) -> None:
    """Raise RequestError for missing or contradictory options."""
    if length is None:
        raise RequestError("Add the number of tokens per row, as in the recipe: --length 128")
    if (vocab is None) == (train_vocab is None):
        raise RequestError(
            "Use exactly one of --vocab FILE, for an existing vocabulary, and --train-vocab N, to train one."
        )
    if weights and len(weights) != len(inputs):
        raise RequestError(
            f"There are {len(inputs)} --input and {len(weights)} --weight. Give one --weight per --input."
        )
    if any(not 0 < weight <= 1000 for weight in weights or ()):
        raise RequestError("--weight must be above 0 and at most 1000. To exclude a source, leave out its --input.")
