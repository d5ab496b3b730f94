"""A curve in one line of text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 28, low: float | None = None) -> str:
    """Return `values` as at most `width` bars; where there are more, each bar is the mean of its part.

    The lowest bar is the smallest of what is shown, or `low`; the highest is the largest. A constant is a line of
    bars in the middle; a part that is not finite is a ×.
    """
    columns = min(width, len(values))
    edges = [column * len(values) // columns for column in range(columns + 1)] if columns else []
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return "×" * columns
    bottom, top = min(finite) if low is None else min(low, *finite), max(finite)

    def bar(mean: float) -> str:
        if not math.isfinite(mean):
            return "×"
        if top == bottom:
            return _BARS[len(_BARS) // 2]
        return _BARS[round((mean - bottom) / (top - bottom) * (len(_BARS) - 1))]

    return "".join(map(bar, means))
