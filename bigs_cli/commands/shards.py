"""What `bigs tokenize` does with shards, and the reports that it prints: build, resume, merge, convert, check, show."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from bigs_cli.core.errors import BigsError, RequestError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bigs_cli.data.build import BuildOptions
    from bigs_cli.data.manifest import Manifest
    from bigs_cli.data.staging import Request
    from bigs_cli.data.validation import ValidationRule


def train_vocabulary(request: Request, entries: int, skip_bad: bool, rule: ValidationRule) -> Tokenizer:
    """Return a new tokenizer with this number of entries, trained on the text that is not held out by `rule`."""
    from bigs_cli.data.vocabulary import train_on
    from bigs_cli.reporting import console

    console.err.print(f"Training a vocabulary of {entries:,} entries.")
    return train_on(request, rule, entries, skip_bad)


def tokenize_text(
    request: Request,
    tokenizer: Callable[[ValidationRule], Tokenizer],
    output: Path,
    options: BuildOptions,
    engine: Literal["local", "ray"] = "local",
) -> None:
    """Build the shards, and print a report and the path of the manifest."""
    from bigs_cli.data.build import build_shards
    from bigs_cli.data.ray_engine import build_on_ray
    from bigs_cli.data.staging import Staging, resume_command
    from bigs_cli.reporting import console

    try:
        with console.progress("tokenizing", unit="tokens") as advance:
            options = replace(options, advance=advance, say=console.err.print)
            build = build_on_ray if engine == "ray" else build_shards
            manifest = build(request, tokenizer, output, options)
    except KeyboardInterrupt:
        saved = f"The progress is saved. Continue with: {resume_command(output)}"
        if engine == "ray":
            console.err.print("Stopped. Finished parts are kept; repeat the command to continue.")
        else:
            console.err.print(f"Stopped. {saved if Staging(output).folder.exists() else 'Nothing was saved.'}")
        raise
    _report(manifest, output)
    if options.portion is not None:
        whole = shlex.quote(str(output.parent.parent))
        console.err.print(f"When all parts are made, join them with: bigs tokenize --merge --output {whole}")


def merge_parts(output: Path, overwrite: bool) -> None:
    """Merge the parts in `output`, and print a report and the path of the manifest."""
    from bigs_cli.data.portions import merge
    from bigs_cli.data.staging import check_output
    from bigs_cli.reporting import console

    check_output(output, overwrite=overwrite)
    with console.progress("merging", unit="tokens") as advance:
        manifest = merge(output, overwrite=overwrite, advance=advance)
    _report(manifest, output)


def _report(manifest: Manifest, output: Path) -> None:
    """Print the report on stderr and the path of the manifest on stdout."""
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.reporting import console
    from bigs_cli.reporting.shards import report_table

    console.err.print(report_table(manifest))
    typer.echo(output / MANIFEST)


def resume_tokenization(output: Path, workers: int | None, skip_bad: bool) -> None:
    """Continue the tokenization in `output` with its original settings and working directory.

    Raises:
        RequestError: there is no unfinished tokenization.
    """
    from bigs_cli.data.build import BuildOptions
    from bigs_cli.data.manifest import MANIFEST
    from bigs_cli.data.shards import open_shards
    from bigs_cli.data.staging import Staging, check_output, staging
    from bigs_cli.data.tokenizer import load_tokenizer

    check_output(output, resume=True)
    progress = Staging(output).progress()
    if progress is None:
        if Staging(output).finished:
            with staging(output, resume=True) as staged:
                staged.publish()
        if not (output / MANIFEST).is_file():
            raise RequestError(
                f"There is no unfinished tokenization in {output}. To start one, name text with --input PATH"
            )
        _report(open_shards(output).manifest, output)
        return
    directory = progress.directory
    if directory and Path(directory).is_dir() and not Path(directory).samefile(Path.cwd()):
        output = output.absolute()
        with contextlib.chdir(directory):
            resume_tokenization(output, workers, skip_bad)
        return
    from bigs_cli.data.portions import Portion

    portion = Portion.parse(progress.portion) if progress.portion else None
    options = BuildOptions(workers, skip_bad or progress.skip_bad, resume=True, portion=portion)
    tokenize_text(progress.request, lambda rule: load_tokenizer(Staging(output).folder), output, options)


def convert_hdf5_folder(
    folder: Path, output: Path, vocab: str | None, length: int | None, heldout: float, overwrite: bool
) -> None:
    """Convert the BiGS authors' HDF5 shards."""
    from bigs_cli.data.hdf5 import convert_hdf5, hdf5_tokenizer, open_hdf5
    from bigs_cli.data.staging import check_output
    from bigs_cli.data.tokenizer import PUBLISHED_TOKENIZER, load_tokenizer
    from bigs_cli.reporting import console

    check_output(output, overwrite=overwrite)
    tokenizer = load_tokenizer(vocab) if vocab else hdf5_tokenizer(folder, PUBLISHED_TOKENIZER)
    corpus = open_hdf5(folder, tokenizer, console.err.print)
    row_length = corpus.manifest.sequence_length
    if length not in (None, row_length):
        raise RequestError(
            f"The rows in {folder} have {row_length} tokens, which conversion does not change. Leave out --length."
        )
    with console.progress("converting", unit="tokens") as advance:
        manifest = convert_hdf5(corpus, output, heldout=heldout, overwrite=overwrite, advance=advance)
    _report(manifest, output)


def check_shards(folder: Path) -> None:
    """Verify all shards in `folder` and print a report, or raise BigsError with a line for each corrupt file."""
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
    typer.echo(f"{folder}: all shards are valid.")


def show_rows(folder: Path, examples: int) -> None:
    """Print some rows of the shards in `folder`, masked as in training."""
    from bigs_cli.data.shards import open_shards
    from bigs_cli.data.verify import verify
    from bigs_cli.recipe.groups import Masking
    from bigs_cli.reporting.examples import print_examples

    shards = open_shards(folder)
    verify(shards)
    print_examples(shards, Masking(), examples, seed=0)
