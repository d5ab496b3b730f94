"""`bigs eval blimp`, `bigs eval pairs` and `bigs eval agreement`: evaluation on minimal pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from bigs_cli.checkpoints.resolve import OpenModel
    from bigs_cli.evaluation.pairs import Pairs
    from bigs_cli.reporting.console import Format


BlimpLevel = Literal["field", "phenomenon", "paradigm"]
"""A level of detail of the results on BLiMP."""
_TITLES = {"blimp": "BLiMP", "pairs": "Minimal pairs", "agreement": "Agreement"}


@dataclass(frozen=True)
class Options:
    """Options of all evaluations on minimal pairs."""

    length: int | None = None
    batch_size: int | None = None
    predictions: Path | None = None
    form: Format = "table"
    within_word: bool = False


def evaluate_pairs(
    opened: OpenModel,
    task: Literal["blimp", "pairs", "agreement"],
    data: Sequence[Path],
    read: Callable[[Path], Pairs],
    options: Options,
) -> None:
    """Print how often a model prefers the good sentence of a pair or, for agreement, the correct form of a masked word.

    `data` are files, or folders of files, that `read` reads. The accuracies, overall and by group, are printed on
    stdout and notes on stderr.

    Raises:
        RequestError: a file cannot be read, the model is not a masked language model, a sentence is too long for it, or
            no pair has two forms that are single tokens.
    """
    import numpy as np

    from bigs_cli.commands.shared import tokenizer_of
    from bigs_cli.core.errors import RequestError
    from bigs_cli.core.files import write_lines
    from bigs_cli.core.processes import is_main_process
    from bigs_cli.evaluation.minimal_pairs import PairModel
    from bigs_cli.evaluation.pairs import accuracies, accuracy_table, accuracy_text, find_tables
    from bigs_cli.reporting.console import err, out, progress

    files = [read(path) for path in find_tables(data, err.print)]
    model = PairModel(opened, tokenizer_of(opened), options.batch_size, options.length, options.within_word)
    encode = model.encode_forms if task == "agreement" else model.encode_pairs
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
    with progress(_TITLES[task], sum(map(len, encoded)), "word") as advance:
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
        out.print(accuracy_table(lines, f"{_TITLES[task]}; chance: 50%"))
    else:
        method = {} if task == "agreement" else {"within_word": options.within_word}
        counts = {"padded_to": padded, "left_out": total - comparable, "ties": ties}
        out.print(accuracy_text(lines, options.form, {"task": task, "model": opened.source, **method, **counts}))
    # Last: if the disk is full, the results have been printed.
    if options.predictions is not None and is_main_process():
        write_lines(options.predictions, (record for one in compared for record in one.records()))
        err.print(f"Wrote the scores of all pairs to {options.predictions}.")
