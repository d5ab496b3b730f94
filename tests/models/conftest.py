"""Numerical tests run what users run: programs that XLA and LLVM have optimized."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def optimized() -> Iterator[None]:
    """Turn the optimizations on that tests/conftest.py turns off."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
