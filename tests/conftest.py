"""Shared by all tests: JAX on the CPU with a compilation cache, settings of hypothesis, the optional reference data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Compiling takes most of the time of the tests, and half as long this way. tests/models compiles as users do.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs tests in the background has them, and all they start, ignore Ctrl-C: some are about it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases every time, and none is a fault for the time it takes.
settings.register_profile("bigs", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bigs")

# After the settings above, which JAX reads as it is imported: fixtures for all tests.
from tests.prediction.models import models  # noqa: E402, F401
from tests.tiny import glue, pretrained, shards  # noqa: E402, F401


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what bigs remembers of the tests' shards out of the user's cache."""
    os.environ["BIGS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference checkpoints and real data, which only development machines have."""
    folder = ROOT.parent / "shared"
    if not (folder / "fixtures").is_dir():
        pytest.skip("the reference data (../shared) is not on this machine")
    return folder
