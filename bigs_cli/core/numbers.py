"""Conversion of numbers for output."""

from __future__ import annotations

from typing import Any


def shortest_float(value: Any) -> float:
    """Return a NumPy number as a Python float; a float32 as the shortest decimal that rounds to it.

    For example, the float32 2.4 becomes 2.4 and not 2.4000000953674316. Other types keep their value.
    """
    import numpy as np

    number = np.asarray(value)[()]
    return float(str(number)) if number.dtype == np.float32 else float(number)
