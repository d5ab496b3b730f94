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
# Compilation takes most of the time of the tests. Without most optimizations and with the older generator of kernels it
# takes a third. tests/models and tests/export use all optimizations. With the parts of a program compiled together
# instead of in parallel, the tests, which keep all cores busy anyway, take three quarters of that.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Processes that a shell runs in the background ignore Ctrl-C, which some tests need.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Generate the same cases in every run, without a time limit.
settings.register_profile("bigs", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bigs")

# Fixtures for all tests, imported after the settings above because JAX reads them when it is imported.
from tests.prediction.models import models  # noqa: E402, F401
from tests.tiny import glue, pretrained, shards  # noqa: E402, F401


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use a temporary cache instead of the user's."""
    os.environ["BIGS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference checkpoints and real data, which exist only on development machines."""
    folder = ROOT.parent / "shared"
    if not (folder / "fixtures").is_dir():
        pytest.skip("the reference data (../shared) is not on this machine")
    return folder
