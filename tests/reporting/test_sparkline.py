from __future__ import annotations

from bigs_cli.reporting.sparkline import sparkline


def test_values_become_bars_between_the_lowest_and_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, 0]) == "█▁"
    assert sparkline([7, 6], low=0) == "█▇"


def test_many_values_become_means() -> None:
    assert sparkline([0, 0, 7, 7, 0, 7], width=3) == "▁█▅"
    assert len(sparkline(list(range(1001)), width=28)) == 28


def test_few_or_equal_values() -> None:
    assert sparkline([]) == ""
    assert sparkline([3]) == "▅"
    assert sparkline([2, 2, 2]) == "▅▅▅"


def test_what_is_not_finite_is_marked_and_spares_the_rest() -> None:
    assert sparkline([0, float("nan"), 7, float("inf"), float("-inf")]) == "▁×█××"
    assert sparkline([float("nan")] * 2) == "××"
