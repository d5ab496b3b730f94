"""The examples of a run, read back from its predictions.jsonl."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.checkpoints.run import RunFolder
from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import save_tokenizer, train_tokenizer
from bigs_cli.export.labelled import labelled_examples
from tests.checkpoints.tiny import config, parameters
from tests.tiny import DOCUMENTS


def of_run(folder: Path, *lines: str) -> OpenModel:
    """A classifier with the labels a and b, from a run with these lines in predictions.jsonl."""
    of = config(head="sequence-classification", num_labels=2, labels=("a", "b"))
    run = RunFolder(folder)
    run.predictions_file.write_text("".join(f"{line}\n" for line in lines))
    save_tokenizer(train_tokenizer(DOCUMENTS, 300), folder)
    return OpenModel("tiny", of, parameters(of), folder / "tokenizer.json", "a tiny model", run=run)


def test_texts_and_labels_are_read_back(tmp_path: Path) -> None:
    lines = ('{"text": "The river.", "label": "b"}', '{"text": "No label."}', '{"text": "The sea.", "label": "a"}')
    found = labelled_examples(of_run(tmp_path, *lines), 5)
    assert found is not None
    assert (found.labels.tolist(), len(found.encoded)) == ([1.0, 0.0], 2)
    assert labelled_examples(of_run(tmp_path, lines[1]), 5) is None


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", '{"label": "a"}', '{"text": "The sea.", "label": "c"}', '{"text": 1}']
)
def test_invalid_lines_are_rejected(line: str, tmp_path: Path) -> None:
    made = of_run(tmp_path, '{"text": "The river.", "label": "a", "prediction": "b"}', line)
    with pytest.raises(RequestError, match=r"predictions\.jsonl:2 is not a labelled example .* Correct the line"):
        labelled_examples(made, 5)
