"""Running measurements in separate processes, so that they do not affect each other's memory and caches."""

from __future__ import annotations

import os
import subprocess
import sys

from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import BigsError


def run_child(module: str, *arguments: str, **variables: str) -> str:
    """Run a module as a script with a compilation cache, and return its stdout; `variables` extend its environment.

    Raises:
        BigsError: it failed; its errors are on stderr.
    """
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache_root() / "jax")} | os.environ | variables
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if process.returncode:
        raise BigsError(f"A measurement failed (exit code {process.returncode}); its error is above.")
    return process.stdout
