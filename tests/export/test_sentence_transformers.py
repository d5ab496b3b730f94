"""The `sentence-transformers` export, and, if that library is installed, its vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.export.formats import export
from tests.export.test_formats import FILES, model
from tests.tiny import bigs

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "old", "house", "trees", "and", "water"]
TEXTS = ["the old house", "trees and water", "water"]


def test_the_folder_describes_the_mean_of_the_last_hidden_state(tmp_path: Path) -> None:
    export(model(head="encoder"), "sentence-transformers", tmp_path / "out")
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    own = {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json"}
    assert names == FILES["transformers"] | own
    pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: sentence-transformers" in card
    assert 'SentenceTransformer("out", trust_remote_code=True)' in card


def test_other_heads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="bigs finetune --task-type embedding"):
        export(model(head="masked-lm"), "sentence-transformers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_vectors_are_those_of_predict(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    made = model(tmp_path / "vocab.txt", head="encoder", mask_padding=True, vocab_size=len(WORDS))
    export(made, "sentence-transformers", tmp_path / "out")
    found = library.SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True).encode(TEXTS)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    words = ["--input", tmp_path / "texts.txt", "--embed", "--output", tmp_path / "vectors.npy"]
    bigs("predict", *words, "--model", tmp_path / "out").fine()
    np.testing.assert_allclose(found, np.load(tmp_path / "vectors.npy"), rtol=1e-5)
