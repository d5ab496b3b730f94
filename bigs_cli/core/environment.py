"""What a run ran on: enough to say, later, why two runs differ."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

PACKAGES = (
    "bigs",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tokenizers",
    "datasets",
    "numpy",
)


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, devices and the command. Imports JAX to ask for its devices."""
    import jax

    devices = jax.devices()
    return {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
