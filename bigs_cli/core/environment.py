"""Description of the machine and the software of a run."""

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
"""Prefixes of the environment variables that affect computation."""


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, devices and command. Initializes JAX."""
    import jax

    devices = jax.devices()
    return describe_machine() | {
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "runtime": str(devices[0].client.platform_version),  # With a GPU, the CUDA version.
        "processes": jax.process_count(),
    }


def describe_machine() -> dict[str, Any]:
    """Return the description of `describe_environment` without devices, and without importing JAX."""
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
    """Return the first 16 digits of a SHA-256 of the source code of this package."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def processor() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
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
