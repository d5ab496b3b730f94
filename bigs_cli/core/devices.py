"""The devices of JAX."""

from __future__ import annotations

import os
from typing import Any

from bigs_cli.core.errors import RequestError


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
        NoDeviceError: the platform in $JAX_PLATFORMS is not installed, has no device, or is used by another process.
    """
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError without a message: the platform is not installed.
        reason = str(error).strip().splitlines() or ["it is not installed"]
        raise NoDeviceError(reason[0].rstrip(".")) from None
