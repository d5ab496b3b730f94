"""The devices that JAX computes on."""

from __future__ import annotations

import os
from typing import Any

from bigs_cli.core.errors import RequestError


class NoDeviceError(RequestError):
    """JAX finds nothing to compute on: `found` says so, `advice` says what to do about it."""

    def __init__(self, reason: str) -> None:
        asked = os.environ.get("JAX_PLATFORMS")
        self.found = f"JAX finds no device{f' of JAX_PLATFORMS={asked}' if asked else ''} ({reason})"
        self.advice = "install the JAX of your accelerator ('bigs[cuda]', 'bigs[tpu]'), or set JAX_PLATFORMS=cpu"
        super().__init__(f"{self.found}: {self.advice}.")


def find_devices() -> list[Any]:
    """Return the devices (`jax.Device`) of all processes. It is the first use of them, and may take seconds.

    Raises:
        NoDeviceError: $JAX_PLATFORMS names what is not installed or not there, or another process has it.
    """
    import jax

    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # the second, without a word, where it is not installed
        said = str(error).strip().splitlines() or ["it is not installed"]
        raise NoDeviceError(said[0].rstrip(".")) from None
