"""Checks of input arrays in the Python API, because compiled code maps invalid ids to NaN or wrong outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigs_cli.models.config import BiGSConfig

Array = np.ndarray[Any, Any]


def checked_inputs(
    config: BiGSConfig, input_ids: Any, attention_mask: Any, token_type_ids: Any
) -> tuple[Array, Array | None, Array | None]:
    """Return ids, mask and token types as int32 arrays `[B, L]` (multiple choice: `[B, choices, L]`), or None.

    Raises:
        ValueError: an array is ragged or empty, has an invalid shape or type, or has a value out of range: ids must be
            in the vocabulary, masks 0 or 1, and token types those of the model.
    """
    form = "[B, choices, L]" if config.has_choices else "[B, L]"
    ids = _integers("input_ids", input_ids)
    if ids.ndim != form.count(",") + 1:
        raise ValueError(f"input_ids has the shape {list(ids.shape)}; the head {config.head} takes {form}.")
    if not ids.size:
        raise ValueError(f"input_ids is empty: its shape is {list(ids.shape)}. Pass at least one row of one token.")
    checked: list[Array | None] = []
    for name, value, count, what in (
        ("attention_mask", attention_mask, 2, "the values for padding and real tokens"),
        ("token_type_ids", token_type_ids, config.type_vocab_size, "the token types of this model"),
    ):
        array = None if value is None else _integers(name, value)
        if array is not None and array.shape != ids.shape:
            raise ValueError(
                f"{name} has the shape {list(array.shape)}; it must have the shape of input_ids, {list(ids.shape)}."
            )
        checked.append(None if array is None else _in_range(name, array, count, what))
    return _in_range("input_ids", ids, config.vocab_size, "the ids of the vocabulary"), checked[0], checked[1]


def checked_positions(config: BiGSConfig, positions: Any, ids: Array) -> Array:
    """Return `positions` as an int32 array `[B, P]`.

    Raises:
        ValueError: the model has no masked-LM head, or the array has another shape or a position beyond the rows.
    """
    if config.head not in ("masked-lm", "pretraining"):
        raise ValueError(f"positions are for models that predict masked words; the head of this one is {config.head}.")
    array = _integers("positions", positions)
    if array.ndim != 2 or len(array) != len(ids) or not array.size:
        raise ValueError(f"positions has the shape {list(array.shape)}; it needs [B, P], here with B = {len(ids)}.")
    return _in_range("positions", array, ids.shape[1], "the positions of a row")


def _integers(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths. Pad them to one length.") from None
    if name == "attention_mask" and array.dtype.kind in "bf":  # a mask may consist of booleans, or of 0.0 and 1.0
        array = array.astype(np.int32) if np.isin(array, (0, 1)).all() else array
    # NumPy converts an empty list to floats; another check reports that it is empty.
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{name} has {array.dtype.name} values; it needs integers.")
    return array


def _in_range(name: str, array: Array, count: int, what: str) -> Array:
    lowest, highest = array.min(), array.max()
    if lowest < 0 or highest >= count:
        raise ValueError(f"{name} has values from {lowest} to {highest}; {what} are 0 to {count - 1}.")
    return array.astype(np.int32)
