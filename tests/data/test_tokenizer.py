"""The vocabulary: BERT's behaviour from either file, deterministic training, and errors."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.data.tokenizer import (
    RESERVED,
    fingerprint,
    load_tokenizer,
    save_tokenizer,
    special_ids,
    train_tokenizer,
)

BERT_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}


def test_trained_vocabulary_has_berts_special_ids_and_size(tokenizer):
    assert special_ids(tokenizer) == BERT_IDS
    assert [tokenizer.id_to_token(i) for i in range(len(RESERVED))] == list(RESERVED)
    assert tokenizer.get_vocab_size() <= 200
    encoded = tokenizer.encode("The RIVER, ", "Näar stone")
    assert encoded.tokens[0] == "[CLS]"
    assert encoded.tokens[-1] == "[SEP]"
    assert "river" in encoded.tokens
    assert set(encoded.type_ids) == {0, 1}
    assert tokenizer.decode(tokenizer.encode("under the bridge.").ids) == "under the bridge."


def test_training_is_deterministic(documents, tokenizer):
    for _ in range(3):
        again = train_tokenizer(iter(documents), 200)
        assert again.get_vocab() == tokenizer.get_vocab()
        assert fingerprint(again) == fingerprint(tokenizer)


def test_all_saved_files_load_the_same_tokenizer(tmp_path, tokenizer):
    save_tokenizer(tokenizer, tmp_path)
    for source in (tmp_path, tmp_path / "vocab.txt", str(tmp_path / "tokenizer.json")):
        assert fingerprint(load_tokenizer(source)) == fingerprint(tokenizer)


def test_too_small_a_size_and_missing_text_are_refused(documents):
    with pytest.raises(RequestError, match="104 are reserved and the characters of this text take"):
        train_tokenizer(documents, 110)
    with pytest.raises(RequestError, match="no text to train"):
        train_tokenizer([" "], 300)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", b"a\nb\n", "lacks [PAD]"),
        ("vocab.txt", b"[PAD]\na\na\n", "vocab.txt:3: 'a' is already in line 2"),
        ("vocab.txt", b"\xff", "not UTF-8"),
        ("tokenizer.json", b"{}", "is not a tokenizer"),
    ],
)
def test_bad_vocabularies_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError) as error:
        load_tokenizer(tmp_path / name)
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)


def test_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(RequestError, match="There is no vocabulary"):
        load_tokenizer(tmp_path / "vocab.txt")
    with pytest.raises(RequestError, match="contains no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def berts(shared):
    folder = shared / "data" / "vocab"
    return [load_tokenizer(folder / name) for name in ("bert-uncased-vocab.txt", "tokenizer.json")]


@settings(max_examples=50)
@example("Ça va? [MASK] 東京 naïve\u200b unaffable\tx" + "y" * 101)
@given(st.text())
def test_both_files_of_berts_vocabulary_give_the_same_ids(berts, text):
    from_vocab, from_json = (tokenizer.encode(text) for tokenizer in berts)
    assert from_vocab.ids == from_json.ids


def test_both_files_of_berts_vocabulary_have_the_same_fingerprint(berts):
    assert special_ids(berts[0]) == special_ids(berts[1]) == BERT_IDS
    assert fingerprint(berts[0]) == fingerprint(berts[1])


def test_an_inconsistent_tokenizer_is_refused_without_library_output(tmp_path, tokenizer, capfd):
    parts = json.loads(tokenizer.to_str())
    del parts["post_processor"]["special_tokens"]["[SEP]"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts))
    with pytest.raises(RequestError, match="not a tokenizer that the `tokenizers` library can use"):
        load_tokenizer(tmp_path)
    assert capfd.readouterr().err == ""


def test_an_id_far_beyond_the_vocabulary_is_refused_at_once(tmp_path, tokenizer):
    parts = json.loads(tokenizer.to_str())
    parts["model"]["vocab"]["river"] = 2**31
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts))
    with pytest.raises(RequestError, match="the id 2,147,483,648, but only"):
        load_tokenizer(tmp_path)
