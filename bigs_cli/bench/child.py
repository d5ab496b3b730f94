"""Measuring in a process of its own: nothing measured before is left in its memory, and its memory is its own."""

from __future__ import annotations

import os
import subprocess
import sys

from bigs_cli.core.cache import cache_root
from bigs_cli.core.errors import BigsError


def run_child(module: str, *arguments: str, **variables: str) -> str:
    """Run a module of ours as a script, compiled code cached, and return what it wrote to stdout.

    `variables` are set in its environment.

    Raises:
        BigsError: it failed; what it said is on stderr.
    """
    environment = {"JAX_COMPILATION_CACHE_DIR": str(cache_root() / "jax")} | os.environ | variables
    command = [sys.executable, "-m", module, *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if ended.returncode:
        raise BigsError(f"A measuring process failed (exit code {ended.returncode}); what it said is above.")
    return ended.stdout
