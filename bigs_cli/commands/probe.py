"""`bigs eval blimp`, `bigs eval pairs` and `bigs eval agreement`: what a masked language model knows untrained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.evaluation.minimal_pairs import EncodedPairs, PairModel
    from bigs_cli.evaluation.pairs import Pairs
    from bigs_cli.reporting.console import Format


BlimpLevel = Literal["field", "phenomenon", "paradigm"]


def blimp_level(by: Sequence[str] | None) -> BlimpLevel:
    """Return down to what BLiMP's accuracies are told apart: the last of `by`, or phenomena.

    Raises:
        RequestError: it is no level of BLiMP's.
    """
    from bigs_cli.core.errors import RequestError, did_you_mean

    chosen = by[-1] if by else "phenomenon"
    for level in get_args(BlimpLevel):
        if chosen == level:
            return level
    levels = get_args(BlimpLevel)
    raise RequestError(f"BLiMP has no {chosen}.{did_you_mean(chosen, levels)} --by is one of {', '.join(levels)}.")


def evaluate_blimp(
    opened: OpenModel,
    data: Sequence[Path] = (),
    by: BlimpLevel = "phenomenon",
    within_word: bool = False,
    limit: int | None = None,
    length: int | None = None,
    batch_size: int | None = None,
    predictions: Path | None = None,
    form: Format = "table",
) -> None:
    """Print how often a model finds BLiMP's good sentence more probable, over all, by field, and down to `by`.

    `data` are BLiMP's files, or folders of them; none: the hub's. `limit` is the most pairs of a file.

    Raises:
        RequestError: a file cannot be read, or the model predicts no masked words or is too short for a sentence.
    """
    from bigs_cli.evaluation.pairs import fetch_blimp, find_tables, read_blimp
    from bigs_cli.reporting.console import err

    files = [read_blimp(path, by, limit) for path in find_tables(data or [fetch_blimp()], err.print)]
    model = _probed(opened, batch_size, length, within_word)
    about = {"task": "blimp", "model": opened.source, "within_word": within_word}
    _report(model, model.encode_pairs, files, about, "BLiMP", predictions, form)


def evaluate_pairs(
    opened: OpenModel,
    data: Sequence[Path],
    good: str = "sentence_good",
    bad: str = "sentence_bad",
    by: Sequence[str] = (),
    within_word: bool = False,
    limit: int | None = None,
    length: int | None = None,
    batch_size: int | None = None,
    predictions: Path | None = None,
    form: Format = "table",
) -> None:
    """Print how often a model finds the sentence in the column `good` more probable than that in `bad`.

    `data` are CSV, TSV, JSONL or Parquet files, or folders of them; `by` are columns whose groups are told apart.

    Raises:
        RequestError: as `evaluate_blimp`, or a column is missing.
    """
    from bigs_cli.evaluation.pairs import find_tables, read_pairs
    from bigs_cli.reporting.console import err

    levels = {name: name for name in by}
    files = [read_pairs(path, levels, good, bad, limit) for path in find_tables(data, err.print)]
    model = _probed(opened, batch_size, length, within_word)
    about = {"task": "pairs", "model": opened.source, "within_word": within_word}
    _report(model, model.encode_pairs, files, about, "Minimal pairs", predictions, form)


def evaluate_agreement(
    opened: OpenModel,
    data: Sequence[Path],
    by: Sequence[str] = (),
    sentence: str = "sentence",
    good: str = "good",
    bad: str = "bad",
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    length: int | None = None,
    batch_size: int | None = None,
    predictions: Path | None = None,
    form: Format = "table",
) -> None:
    """Print how often a model expects the right form of a masked word rather than the wrong one.

    `data`, `by`, the names of columns and `columns` are as `evaluation.agreement.read_agreement` takes them.

    Raises:
        RequestError: as `evaluate_pairs`, or no pair differs in one word of one token.
    """
    from bigs_cli.evaluation.agreement import read_agreement
    from bigs_cli.evaluation.pairs import find_tables
    from bigs_cli.reporting.console import err

    files = [read_agreement(path, by, sentence, good, bad, columns, limit) for path in find_tables(data, err.print)]
    model = _probed(opened, batch_size, length)
    about = {"task": "agreement", "model": opened.source}
    _report(model, model.encode_forms, files, about, "Agreement", predictions, form)


def _probed(opened: OpenModel, batch_size: int | None, length: int | None, within_word: bool = False) -> PairModel:
    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.evaluation.minimal_pairs import PairModel

    return PairModel(opened, tokenizer_of(opened), batch_size, length, within_word)


def _report(
    model: PairModel,
    ask: Callable[[Pairs], EncodedPairs],
    files: Sequence[Pairs],
    about: Mapping[str, Any],
    title: str,
    predictions: Path | None,
    form: Format,
) -> None:
    """Compare all pairs, print the accuracies on stdout, and what is to be known about them on stderr."""
    import numpy as np

    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import write_lines
    from bigs_cli.evaluation.pairs import accuracies
    from bigs_cli.reporting.console import err, out, progress
    from bigs_cli.reporting.pairs import accuracy_table, accuracy_text

    asked = [ask(pairs) for pairs in files]
    padded = sorted({int(length) for one in asked for length in one.lengths})
    if model.reads_padding:
        lengths = " or ".join(map(str, padded))
        err.print(f"This model reads its padding: sentences are padded to {lengths} tokens, all of a file alike.")
    total, kept = sum(map(len, files)), sum(len(one.kept) for one in asked)
    if kept < total:
        err.print(f"Left out: {total - kept:,} of {total:,}, whose sentences do not differ in one word of one token.")
    if not kept:
        raise RequestError("No pair is left to compare: the two forms of a word must be one token each.")
    with progress(title, sum(map(len, asked)), "word") as advance:
        compared = model.compare(asked, advance)
    ties = sum(one.ties for one in compared)
    if ties:
        err.print(f"Ties, which count as wrong: {ties:,}.")
    levels = dict.fromkeys(level for pairs in files for level in pairs.groups)
    groups = {
        level: [one.pairs.groups[level][i] if level in one.pairs.groups else "–" for one in compared for i in one.kept]
        for level in levels
    }
    lines = accuracies(np.concatenate([one.right for one in compared]), groups)
    if form == "table":
        out.print(accuracy_table(lines, f"{title}; chance: 50%"))
    else:
        further = {"padded_to": padded, "left_out": total - kept, "ties": ties}
        out.print(accuracy_text(lines, form, {**about, **further}))
    if predictions is not None:  # Last: a full disk costs no measurement.
        write_lines(predictions, (record for one in compared for record in one.records()))
        err.print(f"The scores of every pair are in {predictions}.")
