"""Start one model from another's parameters: what is taken, what is new and what is left is told, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bigs_cli.checkpoints.arrays import Array, Flat
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import DECODER, POSITIONS, WORDS, Shape, prefix, published_shapes

Fresh = Callable[[str, Shape], Array]

# The encoders must agree in these; the rest is the head's, the input length, or the user's choice.
_SAME = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_ssm",
    "type_vocab_size",
    "pre_norm",
)


@dataclass(frozen=True)
class Transfer:
    """What `transfer` did, by parameter path: the target's, but for `left`, which are the source's."""

    loaded: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)  # loaded, but not as they were: path → how

    def describe(self) -> str:
        """Return the transfer in one to four short lines."""
        lines = [f"loaded {len(self.loaded) + len(self.changed)} tensors"]
        lines += [f"changed: {path} {how}" for path, how in self.changed.items()]
        lines += [f"new ({len(self.new)}): {listed(self.new)}"] if self.new else []
        lines += [f"left ({len(self.left)}): {listed(self.left)}"] if self.left else []
        return "\n".join(lines)


def transfer(flat: Mapping[str, Array], config: BiGSConfig, target: BiGSConfig, fresh: Fresh) -> tuple[Flat, Transfer]:
    """Return the parameters of a `target` model: those of `flat` (of `config`) where they mean the same.

    - The encoder is always taken, and the pooler where both have one. A position table that is too long is
      cut; one that is too short is repeated from its start until it is long enough (as Longformer was started
      from RoBERTa).
    - The MLM and next-sentence heads go over between the heads that have them. A tied model's word embedding
      becomes an untied target's decoder.
    - A classifier goes over to the same head with as many labels, its columns brought into the target's order
      by label name where both models name their labels. Another set of names is another task: its classifier
      is new.
    - Everything else comes from `fresh(path, shape)`, called for nothing else.

    Arrays are shared with `flat`, not copied.

    Raises:
        RequestError: the encoders differ; the config fields in which they do are named.
    """
    check_encoders(config, target)
    rest = {path.removeprefix("s4_bert/"): path for path in flat}
    columns = _label_columns(config, target)
    result: Flat = {}
    report = Transfer()
    for path, shape in published_shapes(target).items():
        plain = path.removeprefix("s4_bert/")
        if plain == DECODER and plain not in rest and config.tie_word_embeddings:
            array, how = flat[prefix(config.head) + WORDS].T, "copied from the word embedding"
        elif plain not in rest or not _means_the_same(plain, config, target):
            result[path] = fresh(path, shape)
            report.new.append(path)
            continue
        else:
            array, how = _fitted(plain, flat[rest.pop(plain)], shape, columns)
        result[path] = array
        if how:
            report.changed[path] = how
        else:
            report.loaded.append(path)
    report.left.extend(rest.values())
    return result, report


def check_encoders(config: BiGSConfig, target: BiGSConfig) -> None:
    """Refuse to start a `target` model from one of `config` if their encoders differ.

    Raises:
        RequestError: they do; the config fields are named.
    """
    differing = [name for name in _SAME if getattr(config, name) != getattr(target, name)]
    if differing:
        values = "; ".join(f"{name} {getattr(config, name)} there, {getattr(target, name)} here" for name in differing)
        raise RequestError(
            f"This model cannot start from that one: their encoders differ ({values}). "
            "Give the recipe's model the same values, or choose another model for --from."
        )


def _means_the_same(plain: str, config: BiGSConfig, target: BiGSConfig) -> bool:
    """Whether the parameter at `plain`, which both models have, does the same work in both."""
    if not plain.startswith("classifier/"):
        return True
    return config.head == target.head and (
        config.head == "multiple-choice" or _label_columns(config, target) is not None
    )


def _label_columns(config: BiGSConfig, target: BiGSConfig) -> list[int] | None:
    """Return the source column of each target label, None when the labels are not the same ones."""
    if config.num_labels != target.num_labels:
        return None
    if config.labels is None or target.labels is None:
        return list(range(target.num_labels))
    source = [label.casefold() for label in config.labels]
    wanted = [label.casefold() for label in target.labels]
    if sorted(source) != sorted(wanted) or len(set(source)) != len(source):
        return None
    return [source.index(label) for label in wanted]


def _fitted(plain: str, array: Array, shape: Shape, columns: list[int] | None) -> tuple[Array, str]:
    """Return `array` brought to the target's form, and how it was changed ("" when it was not)."""
    if plain == POSITIONS and array.shape[0] != shape[0]:
        if array.shape[0] > shape[0]:
            return array[: shape[0]], f"cut from {array.shape[0]} to {shape[0]} rows"
        # np.resize fills with repetitions of the table, in order.
        return np.resize(array, shape), f"extended from {array.shape[0]} to {shape[0]} rows by repeating it"
    if plain.startswith("classifier/") and columns is not None and columns != sorted(columns):
        return array[..., columns], "put into the order of the label names"
    return array, ""
