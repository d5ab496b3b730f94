"""Initializing a model with the parameters of another model, with a report of what was loaded, new and unused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import DECODER, POSITIONS, WORDS, Shape, prefix, published_shapes

Init = Callable[[str, Shape], Array]

# Fields in which models with the same encoder can differ.
_NOT_OF_THE_ENCODER = frozenset(
    {
        *("head", "num_labels", "labels", "multi_label", "label_threshold"),  # the head
        *("pooler_type", "tie_word_embeddings"),
        *("max_position_embeddings", "pad_token_id", "mask_padding"),  # the input
        *("hidden_dropout_prob", "classifier_dropout", "initializer_range", "scaling", "layer_norm_eps"),  # training
    }
)
# Fields in which the encoders must agree, including any that is added later.
_ENCODER_FIELDS = tuple(name for name in BiGSConfig.model_fields if name not in _NOT_OF_THE_ENCODER)


@dataclass(frozen=True)
class Transfer:
    """A report of `transfer`, by parameter path of the target; `unused` has paths of the source."""

    loaded: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)  # loaded with a change: path → description

    def describe(self) -> str:
        """Return the report in a few short lines."""
        lines = [f"loaded {len(self.loaded) + len(self.changed)} tensors"]
        lines += [f"changed: {path} {how}" for path, how in self.changed.items()]
        lines += [f"new ({len(self.new)}): {listed(self.new)}"] if self.new else []
        lines += [f"unused ({len(self.unused)}): {listed(self.unused)}"] if self.unused else []
        return "\n".join(lines)


def transfer(flat: Mapping[str, Array], config: BiGSConfig, target: BiGSConfig, init: Init) -> tuple[Flat, Transfer]:
    """Return the parameters of a `target` model, initialized with `flat` (of `config`) where both models share them.

    - The encoder is always loaded, and the pooler if both models have one of the same size. A longer position table is
      truncated; a shorter one is repeated until it is long enough, as Longformer was initialized from RoBERTa.
    - The MLM and next-sentence heads are loaded if the target has the same head. If the source is tied and the target
      is not, the decoder is initialized with the word embeddings.
    - A classifier is loaded if the head and the number of labels are the same. If both models name their labels, its
      columns are reordered by name; if the names differ, the tasks differ and the classifier is new.
    - All other parameters are `init(path, shape)`.

    Arrays are shared with `flat`, not copied.

    Raises:
        RequestError: the encoders differ; the message names the config fields.
    """
    check_encoders(config, target)
    rest = {path.removeprefix("s4_bert/"): path for path in flat}
    columns = _label_columns(config, target)
    result: Flat = {}
    report = Transfer()
    for path, shape in published_shapes(target).items():
        plain = path.removeprefix("s4_bert/")
        if plain == DECODER and plain not in rest and config.tie_word_embeddings:
            array, change = flat[prefix(config.head) + WORDS].T, "copied from the word embeddings"
        elif plain not in rest or not _is_shared(plain, config, target):
            result[path] = init(path, shape)
            report.new.append(path)
            continue
        else:
            array, change = _adapt(plain, flat[rest.pop(plain)], shape, columns)
        result[path] = array
        if change:
            report.changed[path] = change
        else:
            report.loaded.append(path)
    report.unused.extend(rest.values())
    return result, report


def check_encoders(config: BiGSConfig, target: BiGSConfig) -> None:
    """Check that `target` has the same encoder as `config`, the model that it starts from.

    Raises:
        RequestError: they differ; the message names the config fields.
    """
    differing = [name for name in _ENCODER_FIELDS if getattr(config, name) != getattr(target, name)]
    if differing:
        values = "; ".join(f"{name} {getattr(target, name)} instead of {getattr(config, name)}" for name in differing)
        raise RequestError(
            f"This model cannot be initialized from the other one, because their encoders differ ({values}). Use "
            "the values of the other model in the config or recipe, or start from another model."
        )


def _is_shared(plain: str, config: BiGSConfig, target: BiGSConfig) -> bool:
    """Return whether the parameter at `plain`, which both models have, has the same function in both."""
    if plain.startswith("pooler/"):
        return (config.pooler_type == "pair") == (target.pooler_type == "pair")
    if not plain.startswith("classifier/"):
        return True
    # A score for each choice does not depend on the labels.
    return config.head == target.head and (config.has_choices or _label_columns(config, target) is not None)


def _label_columns(config: BiGSConfig, target: BiGSConfig) -> list[int] | None:
    """Return the source column of each target label; None if the labels differ."""
    if config.num_labels != target.num_labels:
        return None
    if config.labels is None or target.labels is None:
        return list(range(target.num_labels))
    return label_order(target.labels, config.labels)


def label_order(labels: Sequence[str], source: Sequence[str]) -> list[int] | None:
    """Return the index of each label among those of `source`, without regard to case; None if the labels differ."""
    known, wanted = ([label.casefold() for label in names] for names in (source, labels))
    if sorted(known) != sorted(wanted) or len(set(known)) != len(known):
        return None
    return [known.index(label) for label in wanted]


def _adapt(plain: str, array: Array, shape: Shape, columns: list[int] | None) -> tuple[Array, str]:
    """Return `array` in the form of the target, and a description of the change ("" if there is none)."""
    if plain == POSITIONS and array.shape[0] != shape[0]:
        if array.shape[0] > shape[0]:
            return array[: shape[0]], f"truncated from {array.shape[0]} to {shape[0]} rows"
        # np.resize repeats the table.
        return np.resize(array, shape), f"extended from {array.shape[0]} to {shape[0]} rows by repeating it"
    if plain.startswith("classifier/") and columns is not None and columns != sorted(columns):
        return array[..., columns], "reordered by label name"
    return array, ""
