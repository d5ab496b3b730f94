"""Loading a model warns about untrained heads, and predictions with them need `allow_untrained`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bigs_cli import BiGSForSequenceClassification, load_model
from bigs_cli.api import CLASSES
from bigs_cli.checkpoints.untrained import untrained_layers
from bigs_cli.core.errors import RequestError
from bigs_cli.models.init import init_parameter
from tests.checkpoints.tiny import config, parameters
from tests.tiny import bigs

NEW = {
    "encoder": ["pooler/dense/kernel", "pooler/dense/bias"],
    "pretraining": ["s4_bert/pooler/dense/kernel", "s4_bert/pooler/dense/bias", "cls/seq_relationship/kernel"],
    "next-sentence": ["s4_bert/pooler/dense/kernel", "s4_bert/pooler/dense/bias", "cls/seq_relationship/kernel"],
    "sequence-classification": ["s4_bert/pooler/dense/kernel", "s4_bert/pooler/dense/bias", "classifier/kernel"],
    "token-classification": ["classifier/kernel", "classifier/bias"],
    "question-answering": ["qa_outputs/kernel", "qa_outputs/bias"],
    "multiple-choice": ["s4_bert/pooler/dense/kernel", "s4_bert/pooler/dense/bias", "classifier/kernel"],
}
ASKED: dict[str, Any] = {
    "sequence-classification": "the old house",
    "next-sentence": [("the old house", "the sea")],
    "token-classification": "the old house",
    "question-answering": {"question": "where?", "context": "the old house"},
    "multiple-choice": {"text": "the old", "endings": ["house", "sea"]},
}


@pytest.mark.parametrize("head", NEW)
def test_loading_another_head_from_a_masked_lm_model_warns(head: Any, pretrained: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="are newly initialized") as record:
        model = CLASSES[head].from_pretrained(pretrained)
    assert all(path in str(record[0].message) for path in NEW[head])
    assert f"Some parameters of {type(model).__name__} are not in {pretrained}, last" in str(record[0].message)
    assert record[0].filename == __file__
    model.save_pretrained(tmp_path / "saved")  # Saving does not make it trained.
    with pytest.warns(UserWarning, match=r"Some layers of .*/saved/flax_model\.msgpack were never trained: ") as record:
        again = load_model(tmp_path / "saved")
    assert record[0].filename == __file__
    assert again.untrained == model.untrained
    assert np.isfinite(model.embed("the old house")).all()
    if head == "pretraining":  # its MLM head is trained
        assert model.predict("the [MASK] house") == load_model(pretrained).predict("the [MASK] house")
    for one in (model, again) if head in ASKED else ():
        start = f"The {head} head of {one.source} was never trained ({', '.join(one.untrained)}: initial values)"
        with pytest.raises(RequestError, match=re.escape(start) + ".*or set allow_untrained=True"):
            one.predict(ASKED[head])
        assert one.predict(ASKED[head], allow_untrained=True)


@pytest.mark.parametrize("head", ASKED)
def test_commands_reject_an_untrained_head(head: Any, pretrained: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="newly initialized"):
        CLASSES[head].from_pretrained(pretrained).save_pretrained(tmp_path / "saved")
    more = {
        "next-sentence": ("--pair", "the sea"),
        "question-answering": ("--question", "where?"),
        "multiple-choice": ("--ending", "house", "--ending", "sea"),
    }
    ask = ("predict", "the old house", "--model", tmp_path / "saved", *more.get(head, ()))
    done = bigs(*ask)
    assert (done.code, done.out) == (2, "")
    assert f"The {head} head of" in " ".join(done.err.split())
    assert "or pass --allow-untrained" in " ".join(done.err.split())
    assert bigs(*ask, "--allow-untrained").fine().out
    bigs("predict", "the old house", "--model", tmp_path / "saved", "--embed", "--output", tmp_path / "v.npy").fine()


def test_a_task_is_not_evaluated_with_an_untrained_head(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    done = bigs("eval", "mrpc", "--model", pretrained, "--data", glue)
    assert done.code == 2
    assert "is a masked-lm model; MRPC needs a sequence-classification model" in " ".join(done.err.split())
    with pytest.warns(UserWarning, match="newly initialized"):
        BiGSForSequenceClassification.from_pretrained(pretrained).save_pretrained(tmp_path / "saved")
    ask = ("eval", "mrpc", "--model", tmp_path / "saved", "--data", glue, "--json")
    done = bigs(*ask)
    assert (done.code, done.out) == (2, "")
    assert "was never trained" in " ".join(done.err.split())
    assert "accuracy" in json.loads(bigs(*ask, "--allow-untrained").fine().out)["metrics"]


def test_a_trained_head_in_any_dtype_counts_as_trained(tmp_path: Path) -> None:
    of = config(head="sequence-classification", hidden_size=64)
    flat = parameters(of)
    kernel = init_parameter("classifier/kernel", flat["classifier/kernel"].shape, of, 0)
    assert untrained_layers(flat | {"classifier/kernel": kernel + np.float32(1e-7)}, of) == ()
    for dtype in (np.float32, np.float16):
        rounded = kernel.astype(dtype).astype(np.float32)
        assert untrained_layers(flat | {"classifier/kernel": rounded}, of) == ("classifier",)
