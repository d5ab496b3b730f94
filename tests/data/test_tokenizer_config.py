"""The settings beside a vocab.txt: the same tokens as BertTokenizer, saved and downloaded settings, and errors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.checkpoints.folder import write_flax
from bigs_cli.checkpoints.resolve import fetch_model
from bigs_cli.core.errors import BigsError, RequestError
from bigs_cli.data.shards import open_shards
from bigs_cli.data.tokenizer import RESERVED, SPECIAL_TOKENS, fingerprint, load_tokenizer, save_tokenizer
from tests.checkpoints.test_hub import hub, use_hub  # noqa: F401
from tests.checkpoints.tiny import config, parameters
from tests.hub_server import Fault, Hub
from tests.tiny import bigs

CASED = [
    "hello",
    "Hello",
    "paris",
    "Paris",
    "cafe",
    "café",
    "ada",
    "Ada",
    "London",
    ",",
    ".",
    "é",
    "##é",
    "中",
    "文",
    "中文",
]
TEXT = "Hello, Paris café. Ada London"
WHOLE = ["Hello", ",", "Paris", "café", ".", "Ada", "London"]


def write(folder: Path, words: Sequence[str] = (*RESERVED, *CASED), **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def tokens(source: Path | str, text: str = TEXT) -> list[str]:
    return load_tokenizer(source).encode(text, add_special_tokens=False).tokens


def test_case_and_accents_follow_the_settings(tmp_path: Path) -> None:
    folder = write(tmp_path / "cased", do_lower_case=False, tokenizer_class="BertTokenizer")
    assert tokens(folder) == tokens(folder / "vocab.txt") == WHOLE
    assert tokens(write(tmp_path / "uncased")) == ["hello", ",", "paris", "cafe", ".", "ada", "[UNK]"]
    accents = ["hello", ",", "paris", "café", ".", "ada", "[UNK]"]
    assert tokens(write(tmp_path / "accents", strip_accents=False)) == accents
    bare = ["Hello", ",", "Paris", "cafe", ".", "Ada", "London"]
    assert tokens(write(tmp_path / "bare", do_lower_case=False, strip_accents=True)) == bare
    assert tokens(write(tmp_path / "uncased"), "中文") == ["中", "文"]
    assert tokens(write(tmp_path / "joined", tokenize_chinese_chars=False), "中文") == ["中文"]


@pytest.mark.parametrize("settings", [*itertools.product((True, False), (True, False, None), (True, False))])
def test_saved_files_agree_with_each_other_and_with_transformers(settings: tuple[Any, ...], tmp_path: Path) -> None:
    names = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
    folder = write(tmp_path / "given", **dict(zip(names, settings, strict=True)), tokenizer_class="BertTokenizer")
    given = load_tokenizer(folder)
    save_tokenizer(given, tmp_path)
    for name in ("vocab.txt", "tokenizer.json"):
        assert fingerprint(load_tokenizer(tmp_path / name)) == fingerprint(given)
    transformers = pytest.importorskip("transformers")
    ids = given.encode(f"{TEXT} 中文 cafés").ids
    assert transformers.BertTokenizer.from_pretrained(folder)(f"{TEXT} 中文 cafés").input_ids == ids
    assert transformers.AutoTokenizer.from_pretrained(tmp_path)(f"{TEXT} 中文 cafés").input_ids == ids


def test_special_tokens_are_renamed_to_berts(tmp_path: Path) -> None:
    words = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "[MASK]", "hello"]
    names = {"pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": {"content": "<unk>"}}
    tokenizer = load_tokenizer(write(tmp_path, words, mask_token="<mask>", **names))
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 3, 1, 2, 4]
    assert tokenizer.encode("hello [MASK] there").ids == [1, 6, 4, 3, 2]
    assert tokenizer.get_vocab_size() == len(words)
    with pytest.raises(RequestError, match="lacks <mask>"):
        load_tokenizer(write(tmp_path / "less", words[:4], mask_token="<mask>", **names))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "tokenizer_config.json is not JSON"),
        (b"[]", "tokenizer_config.json is not a JSON object"),
        (
            b'{"do_lower_case": "perhaps"}',
            "tokenizer_config.json is corrupt: do_lower_case: Input should be a valid boolean",
        ),
        (b'{"mask_token": 7}', "tokenizer_config.json is corrupt: mask_token: Input should be a valid string"),
        (b'{"tokenizer_class": "BertJapaneseTokenizer"}', "tokenizes differently from BERT's tokenizer"),
    ],
)
def test_unsupported_settings_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (write(tmp_path) / "tokenizer_config.json").write_bytes(content)
    with pytest.raises(RequestError) as error:
        load_tokenizer(tmp_path / "vocab.txt")
    assert message in str(error.value)


def test_shards_keep_the_settings_in_every_tokenizer_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "cased", do_lower_case=False)
    (tmp_path / "text.txt").write_text(f"{TEXT}.\n\n" * 9)
    common = ("tokenize", "--input", tmp_path / "text.txt", "--length", 16, "--heldout", 0)
    for name, vocab in (("a", folder), ("b", folder / "vocab.txt"), ("c", tmp_path / "a" / "vocab.txt")):
        bigs(*common, "--vocab", vocab, "--output", tmp_path / name).fine()
        shards = open_shards(tmp_path / name)
        assert shards.manifest.report.unknown_rate == 0
        assert shards.tokenizer().encode(TEXT, add_special_tokens=False).tokens == WHOLE


def test_settings_are_read_from_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # noqa: F811
    write(hub.repositories["someone/all"], do_lower_case=False)
    assert tokens("someone/all") == WHOLE
    assert tokens(fetch_model("someone/all")) == WHOLE
    use_hub("http://127.0.0.1:9", monkeypatch)
    assert tokens("someone/all") == WHOLE, "from the cache"


def test_inaccessible_settings_on_the_hub_are_an_error(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    write(hub.repositories["someone/all"], do_lower_case=False)
    hub.faults.append(Fault("tokenizer_config.json", times=99, status=403))
    with pytest.raises(BigsError, match="The tokenizer someone/all: The hub denies access to"):
        load_tokenizer("someone/all")


def test_missing_settings_on_the_hub_are_the_defaults(hub: Hub) -> None:  # noqa: F811
    write(hub.repositories["someone/all"])
    assert tokens("someone/all")[0] == "hello"


def test_an_export_of_a_published_folder_keeps_the_settings(tmp_path: Path) -> None:
    of = config(head="masked-lm", vocab_size=200)
    write_flax(write(tmp_path / "model", do_lower_case=False), of, parameters(of))
    bigs("export", "--model", tmp_path / "model", "--output", tmp_path / "out").fine()
    for name in ("vocab.txt", "tokenizer.json"):
        assert tokens(tmp_path / "out" / name) == WHOLE
