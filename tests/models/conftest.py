"""Numerical tests run programs with all optimizations of XLA and LLVM, as users do."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def optimized() -> Iterator[None]:
    """Enable the optimizations that tests/conftest.py disables."""
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()
