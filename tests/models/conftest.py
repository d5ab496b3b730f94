"""Numerical tests run programs with all optimizations of XLA and LLVM, as users do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tiny import most_optimizations


@pytest.fixture(scope="package", autouse=True)
def optimized() -> Iterator[None]:
    """Enable the optimizations that tests/conftest.py disables."""
    with most_optimizations(disabled=False):
        yield
