"""The checks of `bigs doctor`.

They are versions, devices, memory, speed, folders, the hub, and what prevents each command from running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bigs_cli.checkpoints.run import runs_root
from bigs_cli.core.cache import cache_root
from bigs_cli.core.devices import NoDeviceError, find_devices
from bigs_cli.core.environment import describe_machine
from bigs_cli.core.errors import BigsError, first_line
from bigs_cli.core.hub import endpoint, hub_answers, is_logged_in, is_offline
from bigs_cli.training.peak_flops import peak_flops

VERBS = ("tokenize", "pretrain", "finetune", "evaluate", "predict", "export")
WRITES = ("tokenize", "pretrain", "finetune", "export")
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "hdf5": (("h5py",), "tokenize and pretrain: HDF5 files"),
    "gcs": (("gcsfs",), "runs, models and data at gs:// URLs"),
    "s3": (("s3fs",), "runs, models and data at s3:// URLs"),
    "ray": (("ray",), "tokenize: --engine ray"),
    "onnx": (("jax2onnx", "onnx", "onnxruntime"), "export: --format onnx"),
    "torch": (("torch", "transformers"), "export: running exports of --format transformers"),
    "tensorboard": (("tensorboardX",), "pretrain and finetune: --logger tensorboard"),
    "wandb": (("wandb",), "pretrain and finetune: --logger wandb"),
}
"""Extras in `pyproject.toml`: the packages that they install, and their purpose."""


@dataclass(frozen=True)
class Finding:
    """The result of a check. If there is a problem, `stops` names the commands that cannot run."""

    what: str
    found: str
    stops: tuple[str, ...] = ()
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Run all checks, the fast ones first, and yield their findings."""
    machine = describe_machine()
    yield Finding("Python", f"{machine['python']} at {sys.executable}")
    packages = (f"{name} {version}" for name, version in machine["packages"].items() if version)
    yield Finding("packages", ", ".join(packages))
    yield from _extras()
    yield Finding("processor", f"{machine['processor']}, {machine['cores']} cores; {machine['platform']}")
    yield _memory()
    yield from _folders()
    yield _hub()
    yield from _devices()
    yield from _checkpoints()


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings, and the problems that stop each command, for JSON."""
    return {"findings": [asdict(finding) for finding in findings], "stopped_by": stopped(findings)}


def stopped(findings: list[Finding]) -> dict[str, list[str]]:
    """Return the problems that stop each command."""
    return {
        verb: [f"{finding.what}: {finding.found}" for finding in findings if verb in finding.stops] for verb in VERBS
    }


def _extras() -> Iterator[Finding]:
    for extra, (packages, purpose) in EXTRAS.items():
        missing = [name for name in packages if find_spec(name) is None]
        if missing:
            yield Finding(f"extra {extra}", f"not installed: {', '.join(missing)}", advice=f"for {purpose}")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = _available()
    return Finding("memory", f"{total / 1e9:,.1f} GB" + ("" if free is None else f", {free / 1e9:,.1f} GB free"))


def _available() -> int | None:
    """Return the available memory in bytes; None if it is unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _folders() -> Iterator[Finding]:
    """Check the folders. For a folder that does not exist, the nearest existing parent is checked."""
    for what, find, stops, advice in (
        ("working directory", Path, WRITES, "run bigs in a folder with write permission"),
        ("runs", runs_root, ("pretrain", "finetune"), "name another folder with $BIGS_RUNS"),
        (
            "cache",
            cache_root,
            (),
            "compiled code and measurements are not cached; name another folder with $BIGS_CACHE",
        ),
        ("temporary files", lambda: Path(tempfile.gettempdir()), ("tokenize",), "name another folder with $TMPDIR"),
    ):
        try:
            path = find()
        except (BigsError, FileNotFoundError) as error:
            yield Finding(what, str(error).rstrip("."), stops, advice)
            continue
        problem = _cannot_write(path)
        free = shutil.disk_usage(_existing(path)).free
        space = f"{path.absolute()}, {free / 1e9:,.1f} GB free"
        yield Finding(what, space) if problem is None else Finding(what, f"{space}: {problem}", stops, advice)


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _cannot_write(path: Path) -> str | None:
    """Return the reason why no file can be written in a folder; None if it can."""
    folder = _existing(path)
    if not folder.is_dir():
        return f"{folder} is a file"
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return f"not writable ({error.strerror})"
    return None


def _hub() -> Finding:
    login = (
        "logged in"
        if is_logged_in()
        else "not logged in (required only for private and gated repositories and for --push)"
    )
    if is_offline():
        return Finding("hub", f"offline because of HF_HUB_OFFLINE; {login}", advice="only its cache is used")
    if hub_answers():
        return Finding("hub", f"{endpoint()} answers; {login}")
    advice = "published models and hub data must be in the cache; local files and runs work"
    return Finding("hub", f"{endpoint()} does not answer; {login}", advice=advice)


def _devices() -> Iterator[Finding]:
    try:
        devices = find_devices()
    except NoDeviceError as error:
        yield Finding("devices", error.found, VERBS[1:], error.advice)
        return
    kinds = [f"{device.platform}: {device.device_kind}" for device in devices]
    names = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    names += f", {memory / 1e9:,.1f} GB each" if memory else ""
    unused = devices[0].platform == "cpu" and Path("/dev/nvidia0").exists()
    yield Finding(
        "devices",
        names,
        advice="there is an NVIDIA GPU that JAX does not use: pip install 'bigs[cuda]'" if unused else "",
    )
    for dtype in ("float32", "bfloat16"):
        yield Finding(f"{dtype} matrix products", f"{peak_flops(dtype) / 1e9:,.0f} GFLOP/s on one device")


def _checkpoints() -> Iterator[Finding]:
    """Save a checkpoint in the runs folder, read it back, and remove it, unless an earlier check has failed."""
    try:
        runs, _ = runs_root().absolute(), find_devices()
    except BigsError:  # already reported
        return
    if _cannot_write(runs) is not None:
        return
    import numpy as np

    from bigs_cli.checkpoints.orbax import Checkpoints

    saved = {"x": np.arange(1000, dtype=np.float32)}
    existing, started = _existing(runs), time.perf_counter()
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".bigs-doctor-", dir=existing) as tmp,
            # Under the same path, because Orbax cannot write to all paths.
            Checkpoints(Path(tmp) / runs.relative_to(existing)) as checkpoints,
        ):
            checkpoints.save(1, saved, saved, {})
            checkpoints.wait()
            read = checkpoints.restore(1, saved, saved)[0]
        problem = None if np.array_equal(read["x"], saved["x"]) else "the values read back differ from those saved"
    except Exception as error:  # Orbax and TensorStore have errors of their own.
        problem = first_line(error)
    if problem is None:
        seconds = time.perf_counter() - started
        yield Finding("checkpoints", f"saved in {runs} and read back in {seconds:.1f} s")
    else:
        yield Finding("checkpoints", problem, ("pretrain", "finetune"), "name another folder with $BIGS_RUNS")
