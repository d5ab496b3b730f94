"""Exports are compared with what users run: programs that XLA and LLVM have optimized."""

from __future__ import annotations

from tests.models.conftest import optimized  # noqa: F401
