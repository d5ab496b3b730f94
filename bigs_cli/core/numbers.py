"""Numbers as they are written for people and other programs."""

from __future__ import annotations

from typing import Any


def shortest_float(value: Any) -> float:
    """Return a number of numpy as a Python float; a float32 as the one with the fewest decimals that reads back as it.

    The score 2.4, held in float32, is written 2.4 and not 2.4000000953674316. Numbers of other types keep their value.
    """
    import numpy as np

    number = np.asarray(value)[()]
    return float(str(number)) if number.dtype == np.float32 else float(number)
