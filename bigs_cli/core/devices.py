"""The devices of JAX."""

from __future__ import annotations

import os
from typing import Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.processes import several


class NoDeviceError(RequestError):
    """JAX finds no device: `found` is the problem, `advice` the remedy."""

    def __init__(self, reason: str) -> None:
        platforms = os.environ.get("JAX_PLATFORMS")
        self.found = f"JAX finds no device{f' for JAX_PLATFORMS={platforms}' if platforms else ''} ({reason})"
        self.advice = "install JAX for your accelerator ('bigs[cuda]', 'bigs[tpu]'), or set JAX_PLATFORMS=cpu"
        super().__init__(f"{self.found}: {self.advice}.")


def find_devices() -> list[Any]:
    """Return the devices (`jax.Device`) of all processes. The first call initializes them, which may take seconds.

    Raises:
        RequestError: they belong to several machines, and this process has not joined the others.
        NoDeviceError: the platform in $JAX_PLATFORMS is not installed, has no device, or is used by another process.
    """
    import jax

    try:
        found = jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError without a message: the platform is not installed.
        reason = str(error).strip().splitlines() or ["it is not installed"]
        raise NoDeviceError(reason[0].rstrip(".")) from None
    if jax.process_count() > 1 and not several():
        raise RequestError(
            "The devices belong to several machines, but this process does not know the others. Start every process "
            "with --coordinator HOST:PORT, --process and --processes."
        )
    return found
