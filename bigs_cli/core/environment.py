"""What a run ran on: enough to say, later, why two runs differ."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
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
    "ml-dtypes",
    "safetensors",
    "scikit-learn",
    "scipy",
    "pyarrow",
    "h5py",
)
_SETTINGS = ("JAX_", "XLA_", "LIBTPU_", "NVIDIA_TF32", "OMP_", "MKL_", "OPENBLAS_")
"""What names of environment variables begin with that change how numbers are computed."""


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, devices and the command. Imports JAX to ask for its devices."""
    import jax

    devices = jax.devices()
    return describe_machine() | {
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "runtime": str(devices[0].client.platform_version),  # of a GPU: the release of CUDA; of a TPU: of its library
        "processes": jax.process_count(),
    }


def describe_machine() -> dict[str, Any]:
    """Return what `describe_environment` does, but for the devices: JAX is not imported."""
    return {
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code": code_digest(),
        "settings": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_SETTINGS) and "CACHE" not in name
        },
    }


@functools.cache
def code_digest() -> str:
    """Return the beginning of a SHA-256 of this package's source: a release of it, or a checkout at work, is told."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
