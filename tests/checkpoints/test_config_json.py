from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bigs_cli.checkpoints.config_json import config_values, read_config, write_config
from bigs_cli.core.errors import RequestError
from tests.checkpoints.tiny import HEADS, config

PUBLISHED = {"model_type": "BiGS", "architectures": ["BiGSForMaskedLM"]}


def written(folder: Path, **values: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(PUBLISHED | values))
    return folder / "config.json"


@pytest.mark.parametrize("head", HEADS)
def test_written_files_are_read_back(head: str, tmp_path: Path) -> None:
    for of in (
        config(head=head),
        config(head=head, mask_padding=True, tie_word_embeddings=False, pre_norm=False, scaling="lin"),
        config(head=head, num_labels=3, labels=("no", "yes", "perhaps"), pooler_type="mean"),
        config(head=head, num_labels=1, classifier_dropout=0.3, layer_norm_eps=1e-6),
    ):
        write_config(tmp_path / "config.json", of)
        assert read_config(tmp_path / "config.json") == of


def test_missing_keys_have_the_published_defaults(tmp_path: Path) -> None:
    read = read_config(written(tmp_path, pad_token_id=None, classifier_dropout=None))
    assert (read.hidden_size, read.num_hidden_layers, read.vocab_size, read.num_labels) == (
        1024,
        23,
        30522,
        2,
    )
    assert read.tie_word_embeddings
    assert not read.mask_padding


def test_extension_keys_are_written_only_if_needed() -> None:
    assert not {"mask_padding", "tie_word_embeddings", "id2label", "head", "labels"} & config_values(config()).keys()
    assert config_values(config(mask_padding=True))["mask_padding"] is True


def test_flax_class_names_are_accepted(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, architectures=["FlaxBiGSForMultipleChoice"])).head == "multiple-choice"


def test_labels_come_from_id2label_unless_they_are_placeholders(tmp_path: Path) -> None:
    named = read_config(written(tmp_path, id2label={"1": "entailment", "0": "neutral"}))
    assert (named.num_labels, named.labels) == (2, ("neutral", "entailment"))
    unnamed = read_config(written(tmp_path, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}))
    assert (unnamed.num_labels, unnamed.labels) == (3, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": "sixty"}, '"hidden_size" is "sixty"'),
        ({"hidden_size": 1.5}, '"hidden_size" is 1.5'),
        ({"scaling": "hippy"}, '"scaling" is "hippy"'),
        ({"num_labels": []}, '"num_labels" is []'),
        ({"model_type": "bert"}, 'of type "bert"'),
        ({"architectures": ["BiGSForMaskedLN"]}, "Did you mean 'BiGSForMaskedLM'?"),
        ({"architectures": "BiGSForMaskedLM"}, "a list with one class name"),
        ({"architectures": None}, "names no architecture"),
        ({"id2label": ["a"]}, "id2label"),
        ({"id2label": {"0": "a", "2": "b"}}, "must be 0, 1, 2"),
    ],
)
def test_errors_about_values_name_the_file(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, **values)
    with pytest.raises(RequestError) as error:
        read_config(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(("content", "message"), [("{", "not JSON"), ("[1]", "not a JSON object"), ("\xff", "JSON")])
def test_a_file_without_a_json_object_is_rejected(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(RequestError, match=message):
        read_config(tmp_path / "config.json")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"There is no config\.json in"):
        read_config(tmp_path / "config.json")


def test_the_published_files_and_their_keys(shared: Path) -> None:
    for path in sorted((shared / "fixtures").glob("*/config.json")):
        published = json.loads(path.read_text())
        ours = config_values(read_config(path))
        absent = published.keys() - ours.keys()
        assert absent <= {"transformers_version", "torch_dtype", "id2label", "label2id"}
        assert {key: ours[key] for key in ours if key in published and ours[key] != published[key]} == {}
