"""`bigs eval blimp`, `bigs eval pairs` and `bigs eval agreement`: evaluation on minimal pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.evaluation.agreement import FormColumns
    from bigs_cli.evaluation.minimal_pairs import EncodedPairs, PairModel
    from bigs_cli.evaluation.pairs import Pairs
    from bigs_cli.reporting.console import Format


BlimpLevel = Literal["field", "phenomenon", "paradigm"]
"""A level of detail of the results on BLiMP."""


@dataclass(frozen=True)
class Options:
    """Options of all evaluations on minimal pairs; `limit` is the maximum number of pairs per file."""

    limit: int | None = None
    length: int | None = None
    batch_size: int | None = None
    predictions: Path | None = None
    form: Format = "table"
    within_word: bool = False


def evaluate_blimp(opened: OpenModel, data: Sequence[Path], by: BlimpLevel, options: Options) -> None:
    """Print how often a model prefers the acceptable sentence of BLiMP: overall, by field, and down to the level `by`.

    `data` are BLiMP files or folders of such files; by default, BLiMP is downloaded from the hub.

    Raises:
        RequestError: a file cannot be read, the model is not a masked language model, or a sentence is too long for it.
    """
    from bigs_cli.evaluation.pairs import fetch_blimp, find_tables, read_blimp
    from bigs_cli.reporting.console import err

    files = [read_blimp(path, by, options.limit) for path in find_tables(data or [fetch_blimp()], err.print)]
    model = _pair_model(opened, options)
    about = {"task": "blimp", "model": opened.source, "within_word": options.within_word}
    _report(model, model.encode_pairs, files, about, "BLiMP", options)


def evaluate_pairs(
    opened: OpenModel, data: Sequence[Path], good: str, bad: str, by: Sequence[str], options: Options
) -> None:
    """Print how often a model prefers the sentence in the column `good` to that in `bad`.

    `data` are CSV, TSV, JSONL or Parquet files, or folders of such files; `by` are columns to group by.

    Raises:
        RequestError: as `evaluate_blimp`, or a column is missing.
    """
    from bigs_cli.evaluation.pairs import find_tables, read_pairs
    from bigs_cli.reporting.console import err

    levels = {name: name for name in by}
    files = [read_pairs(path, levels, good, bad, options.limit) for path in find_tables(data, err.print)]
    model = _pair_model(opened, options)
    about = {"task": "pairs", "model": opened.source, "within_word": options.within_word}
    _report(model, model.encode_pairs, files, about, "Minimal pairs", options)


def evaluate_agreement(
    opened: OpenModel, data: Sequence[Path], columns: FormColumns, by: Sequence[str], options: Options
) -> None:
    """Print how often a model prefers the correct form of a masked word.

    `data` and `by` are as in `evaluate_pairs`.

    Raises:
        RequestError: as `evaluate_pairs`, or there is no pair whose two forms are single tokens.
    """
    from bigs_cli.evaluation.agreement import read_agreement
    from bigs_cli.evaluation.pairs import find_tables
    from bigs_cli.reporting.console import err

    files = [read_agreement(path, by, columns, options.limit) for path in find_tables(data, err.print)]
    model = _pair_model(opened, options)
    about = {"task": "agreement", "model": opened.source}
    _report(model, model.encode_forms, files, about, "Agreement", options)


def _pair_model(opened: OpenModel, options: Options) -> PairModel:
    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.evaluation.minimal_pairs import PairModel

    return PairModel(opened, tokenizer_of(opened), options.batch_size, options.length, options.within_word)


def _report(
    model: PairModel,
    encode: Callable[[Pairs], EncodedPairs],
    files: Sequence[Pairs],
    about: Mapping[str, Any],
    title: str,
    options: Options,
) -> None:
    """Compare all pairs; print the accuracies on stdout and notes on stderr."""
    import numpy as np

    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import write_lines
    from bigs_cli.core.processes import is_main_process
    from bigs_cli.evaluation.pairs import accuracies, accuracy_table, accuracy_text
    from bigs_cli.reporting.console import err, out, progress

    encoded = [encode(pairs) for pairs in files]
    padded = sorted({int(length) for part in encoded for length in part.lengths})
    if model.reads_padding:
        lengths = " or ".join(map(str, padded))
        err.print(f"This model does not mask padding: all sentences of a file are padded to {lengths} tokens.")
    total, comparable = sum(map(len, files)), sum(len(part.kept) for part in encoded)
    if comparable < total:
        err.print(f"Skipped {total - comparable:,} of {total:,} pairs whose forms are not single tokens.")
    if not comparable:
        raise RequestError("No pair can be compared: both forms of the word must be single tokens of this model.")
    with progress(title, sum(map(len, encoded)), "word") as advance:
        compared = model.compare(encoded, advance)
    ties = sum(one.ties for one in compared)
    if ties:
        err.print(f"Ties, counted as wrong: {ties:,}.")
    levels = dict.fromkeys(level for pairs in files for level in pairs.groups)
    groups = {
        level: [one.pairs.groups[level][i] if level in one.pairs.groups else "–" for one in compared for i in one.kept]
        for level in levels
    }
    lines = accuracies(np.concatenate([one.right for one in compared]), groups)
    if options.form == "table":
        out.print(accuracy_table(lines, f"{title}; chance: 50%"))
    else:
        counts = {"padded_to": padded, "left_out": total - comparable, "ties": ties}
        out.print(accuracy_text(lines, options.form, {**about, **counts}))
    if (
        options.predictions is not None and is_main_process()
    ):  # Last: if the disk is full, the results have been printed.
        write_lines(options.predictions, (record for one in compared for record in one.records()))
        err.print(f"Wrote the scores of all pairs to {options.predictions}.")
