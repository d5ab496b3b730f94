"""`bigs tokenize`: text and a vocabulary in, token shards with a manifest out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigs_cli.core.errors import RequestError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.data.shards import Manifest

_SAMPLE_CHARACTERS = 50_000_000

EPILOG = "\n\n".join(
    (
        "Examples: [bold]bigs tokenize --input articles.jsonl.gz --input books/ --length 128 --vocab vocab.txt "
        "--output shards/128[/bold]",
        "[bold]bigs tokenize --input python-docs --length 128 --train-vocab 8192 --heldout 0.05 "
        "--output shards/demo[/bold]",
        "[bold]bigs tokenize --input wikimedia/wikipedia:20231101.en --length 512 "
        "--vocab google-bert/bert-large-uncased --output shards/512[/bold]",
        "Then: [bold]bigs pretrain --recipe small --data shards/128[/bold]",
    )
)


def tokenize(
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="PATH",
            help="Text: a .txt, .jsonl(.gz) or .parquet file, a folder of such, a hub data set as owner/name:config, "
            "or python-docs, the documentation this Python carries. Repeat it for more.",
        ),
    ],
    length: Annotated[int, typer.Option("--length", "-l", help="Tokens in a row, \\[CLS] and \\[SEP] included.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write the shards into.")],
    vocab: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Vocabulary: a vocab.txt, a tokenizer.json, a folder, or a hub id."),
    ] = None,
    train_vocab: Annotated[
        int | None, typer.Option(metavar="N", help="Train a vocabulary of N entries on the same text instead.")
    ] = None,
    heldout: Annotated[
        float, typer.Option(help="Part of the documents held out for evaluation; 0: none.", min=0, max=0.9)
    ] = 0.005,
    text_column: Annotated[
        str | None,
        typer.Option(help="Column with the text; by default 'text', or the only one with strings."),
    ] = None,
    limit_documents: Annotated[int | None, typer.Option(help="Read only so many documents.", min=1)] = None,
    min_tokens: Annotated[int, typer.Option(help="Leave out documents with fewer tokens than this.")] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace shards that are there already.")] = False,
) -> None:
    """Turn text into token shards: rows of LENGTH tokens for [bold]bigs pretrain[/bold].

    Documents are cut into full rows; the last row of each is padded, and no row holds two. Whole documents are held
    out by the hash of their text. The tokenizer travels in the shards' folder. Prints the path of the manifest.
    """
    if (vocab is None) == (train_vocab is None):
        raise RequestError(
            "Exactly one vocabulary is needed: --vocab FILE for one that exists, or --train-vocab N to train one."
        )
    from itertools import islice

    from bigs_cli.data.build import build_shards, check_output
    from bigs_cli.data.corpus import read_documents
    from bigs_cli.data.shards import MANIFEST
    from bigs_cli.data.tokenizer import load_tokenizer
    from bigs_cli.reporting import console

    check_output(output, overwrite)
    documents = islice(read_documents(inputs, text_column), limit_documents)
    if vocab is not None:
        tokenizer = load_tokenizer(vocab)
    else:
        assert train_vocab is not None
        with console.err.status(f"training a vocabulary of {train_vocab} entries"):
            tokenizer = _trained(inputs, text_column, limit_documents, train_vocab, heldout)
    with console.progress("tokenizing", unit="tokens") as advance:
        manifest = build_shards(
            documents,
            tokenizer,
            output,
            sequence_length=length,
            heldout=heldout,
            min_tokens=min_tokens,
            sources=inputs,
            overwrite=overwrite,
            advance=advance,
        )
    _print_report(manifest)
    typer.echo(output / MANIFEST)


def _trained(
    inputs: list[str], text_column: str | None, limit_documents: int | None, size: int, heldout: float
) -> Tokenizer:
    """Return a vocabulary trained on the documents that are not held out, some characters of every source."""
    from itertools import islice

    from bigs_cli.data.build import is_heldout
    from bigs_cli.data.corpus import read_documents
    from bigs_cli.data.tokenizer import train_tokenizer

    def sample() -> Iterator[str]:
        for source in inputs:
            left = _SAMPLE_CHARACTERS // len(inputs)
            for document in islice(read_documents([source], text_column), limit_documents):
                if not is_heldout(document, heldout):
                    yield document[:left]
                    left -= len(document)
                if left <= 0:
                    break

    return train_tokenizer(sample(), size)


def _print_report(manifest: Manifest) -> None:
    from bigs_cli.reporting import console

    report = manifest.report
    table = console.table("", "what", "how much", right=("how much",))
    for name, value in (
        ("documents", f"{report.documents:,}"),
        ("  of them held out", f"{report.heldout_documents:,}"),
        ("  of them too short, left out", f"{report.short_documents:,}"),
        ("tokens", f"{report.tokens:,}"),
        ("  of them unknown", f"{report.unknown_rate:.4%}"),
        ("vocabulary", f"{manifest.vocab_size:,}"),
        (f"rows of {manifest.sequence_length} tokens", f"{report.sequences:,}"),
        ("  to train on", f"{manifest.rows('train'):,}"),
        ("  held out", f"{manifest.rows('heldout'):,}"),
        ("  filled", f"{report.fill_rate:.1%}"),
        ("tokens/s", f"{report.tokens_per_second:,.0f}"),
    ):
        table.add_row(name, value)
    console.err.print(table)
