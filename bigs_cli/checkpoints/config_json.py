"""Reading and writing `config.json`, in the form of the original code and `transformers`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from bigs_cli.core.errors import RequestError, did_you_mean
from bigs_cli.core.files import write_json
from bigs_cli.core.json_objects import read_object
from bigs_cli.models.config import BiGSConfig, Head

ARCHITECTURES: dict[Head, str] = {
    "encoder": "BiGSModel",
    "masked-lm": "BiGSForMaskedLM",
    "pretraining": "BiGSForPreTraining",
    "next-sentence": "BiGSForNextSentencePrediction",
    "sequence-classification": "BiGSForSequenceClassification",
    "token-classification": "BiGSForTokenClassification",
    "question-answering": "BiGSForQuestionAnswering",
    "multiple-choice": "BiGSForMultipleChoice",
}

# `_EXTENSIONS`: our additions, which the original code does not have. `_SHARED`: fields with the same name and meaning
# in the original code. The rest of `_OTHERS` have another name in the file.
_EXTENSIONS = ("mask_padding", "block", "mixer", "num_attention_heads", "final_norm", "multi_label", "label_threshold")
_OTHERS = {"head", "num_labels", "labels", *_EXTENSIONS}
_SHARED = [name for name in BiGSConfig.model_fields if name not in _OTHERS]

# Further keys that the original code reads, with the only value that is supported.
_FIXED = {
    "decode": False,
    "hidden_act": "gelu",
    "model_type": "BiGS",
    "position_embedding_type": "absolute",
    "use_cache": True,
    "use_pykeops_kernel": False,
}
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def read_config(path: Path, head: Head | None = None) -> BiGSConfig:
    """Return the config in the file at `path`; `head` is used if the file names no architecture.

    Missing and null keys have the published defaults (2 labels). Irrelevant keys are ignored.

    Raises:
        RequestError: the file does not exist, is not JSON, is for another kind of model, has a value of the wrong type,
            or names no architecture and `head` is None.
    """
    values = _load(path)
    known: dict[str, Any] = {name: values[name] for name in _SHARED if values.get(name) is not None}
    known |= {name: values[name] for name in _EXTENSIONS if name in values}
    known["head"] = _head(values, path) or head
    if known["head"] is None:
        raise RequestError(
            f"{path} names no architecture, and the weights fit several. Add the key "
            f'"architectures" with one of {json.dumps(list(ARCHITECTURES.values()))}.'
        )
    known["num_labels"], known["labels"] = _labels(values, path)
    try:
        return BiGSConfig.model_validate(known, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        subject = f'"{key}" is {json.dumps(first["input"])}: ' if key else ""
        raise RequestError(f"{path}: {subject}{first['msg']}. Correct the value in the file.") from None


def names_architecture(path: Path) -> bool:
    """Return whether the config.json at `path` names the architecture, and thus the head, of its model.

    Raises:
        RequestError: it does not exist, is not JSON, is for another kind of model, or has an unknown head.
    """
    return _head(_load(path), path) is not None


def config_values(config: BiGSConfig) -> dict[str, Any]:
    """Return the content of `config.json` for `config`, with the keys that the original code reads."""
    values = _FIXED | {name: getattr(config, name) for name in _SHARED}
    values["architectures"] = [ARCHITECTURES[config.head]]
    if config.tie_word_embeddings:
        del values["tie_word_embeddings"]  # As in transformers: true is the default.
    values |= config.model_dump(include=set(_EXTENSIONS), exclude_defaults=True)
    if config.labels is not None or config.num_labels != 2:
        labels = config.labels or [f"LABEL_{index}" for index in range(config.num_labels)]
        values["id2label"] = {str(index): label for index, label in enumerate(labels)}
        values["label2id"] = {label: index for index, label in enumerate(labels)}
    return values


def write_config(path: Path, config: BiGSConfig) -> None:
    """Write `config` to `path` as `config.json`."""
    write_json(path, config_values(config))


def _load(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise RequestError(f"There is no {path.name} in {path.parent}. It describes the weights; download it too.")
    values = read_object(path, "Download or export the file again.")
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind.lower() != "bigs":
        raise RequestError(f'{path} is for a model of type {json.dumps(kind)}; only "BiGS" models are supported.')
    return values


def _head(values: Mapping[str, Any], path: Path) -> Head | None:
    architectures = values.get("architectures")
    if architectures is None or architectures == []:
        return None
    if not isinstance(architectures, list) or not isinstance(architectures[0], str):
        raise RequestError(
            f'{path}: "architectures" is {json.dumps(architectures)}; it must be a list with one class name.'
        )
    heads: dict[str, Head] = {architecture: head for head, architecture in ARCHITECTURES.items()}
    name = architectures[0].removeprefix("Flax")
    if name not in heads:
        known = ", ".join(heads)
        raise RequestError(
            f"{path} has the unknown architecture '{architectures[0]}'.{did_you_mean(name, heads)} Known: {known}."
        )
    return heads[name]


def _labels(values: Mapping[str, Any], path: Path) -> tuple[int, tuple[str, ...] | None]:
    """Return the number of labels and their names; the names are None if they are the placeholders LABEL_i."""
    names = values.get("id2label")
    if names is None:
        return cast(int, values.get("num_labels", 2)), None
    if not isinstance(names, dict) or not all(isinstance(label, str) for label in names.values()):
        raise RequestError(f'{path}: "id2label" must be an object of "id": "name" pairs.')
    if set(names) != {str(index) for index in range(len(names))}:
        raise RequestError(f'{path}: "id2label" has the ids {", ".join(names)}; they must be 0, 1, 2, … without gaps.')
    labels = tuple(names[str(index)] for index in range(len(names)))
    return len(labels), None if all(_PLACEHOLDER.fullmatch(label) for label in labels) else labels
