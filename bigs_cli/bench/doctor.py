"""What `bigs doctor` looks at: versions, devices, memory, speed, folders, the hub, and what each verb would miss."""

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
from bigs_cli.core.errors import BigsError
from bigs_cli.core.hub import endpoint, hub_answers, is_logged_in, is_offline
from bigs_cli.training.peak_flops import peak_flops

VERBS = ("tokenize", "pretrain", "finetune", "evaluate", "predict", "export")
WRITES = ("tokenize", "pretrain", "finetune", "export")
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "hdf5": (("h5py",), "tokenize and pretrain: HDF5 files"),
    "gcs": (("gcsfs",), "tokenize and pretrain: gs:// addresses"),
    "s3": (("s3fs",), "tokenize and pretrain: s3:// addresses"),
    "onnx": (("jax2onnx", "onnx", "onnxruntime"), "export: --format onnx"),
    "torch": (("torch", "transformers"), "export: running what --format transformers wrote"),
    "tensorboard": (("tensorboardX",), "pretrain and finetune: --logger tensorboard"),
    "wandb": (("wandb",), "pretrain and finetune: --logger wandb"),
}
"""Extras of `pyproject.toml`, the packages that show whether they are installed, and what they are for."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was found, and, if that is bad, the verbs it `stops` or only warns, and what to do."""

    what: str
    found: str
    stops: tuple[str, ...] = ()
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, the quick things first, yielding each finding as it is known."""
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


def figures(findings: list[Finding]) -> dict[str, Any]:
    """Return the findings for JSON, and for each verb what stops it."""
    return {"findings": [asdict(finding) for finding in findings], "stopped_by": stopped(findings)}


def stopped(findings: list[Finding]) -> dict[str, list[str]]:
    """Return for every verb what stops it: nothing, if all is well."""
    return {verb: [f"{one.what}: {one.found}" for one in findings if verb in one.stops] for verb in VERBS}


def _extras() -> Iterator[Finding]:
    for extra, (packages, purpose) in EXTRAS.items():
        absent = [name for name in packages if find_spec(name) is None]
        if absent:
            yield Finding(f"extra {extra}", f"not installed: {', '.join(absent)}", advice=f"for {purpose}")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = _available()
    said = f"{total / 1e9:,.1f} GB" + ("" if free is None else f", {free / 1e9:,.1f} GB of it free")
    return Finding("memory", said)


def _available() -> int | None:
    """Return the bytes of memory that can be had without swapping; None where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _folders() -> Iterator[Finding]:
    """Folders that do not exist yet are judged by the nearest one above that does."""
    for what, find, stops, advice in (
        ("working folder", Path, WRITES, "start bigs in a folder that you may write to"),
        ("runs", runs_root, ("pretrain", "finetune"), "name another with $BIGS_RUNS"),
        ("cache", cache_root, (), "what is compiled and measured is not kept; name another with $BIGS_CACHE"),
        ("temporary files", lambda: Path(tempfile.gettempdir()), ("tokenize",), "name a folder with $TMPDIR"),
    ):
        try:
            path = find()
        except (BigsError, FileNotFoundError) as error:
            yield Finding(what, str(error).rstrip("."), stops, advice)
            continue
        problem = _cannot_write(path)
        free = shutil.disk_usage(_existing(path)).free
        shown = f"{path.absolute()}, {free / 1e9:,.1f} GB free"
        yield Finding(what, shown) if problem is None else Finding(what, f"{shown}: {problem}", stops, advice)


def _existing(path: Path) -> Path:
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _cannot_write(path: Path) -> str | None:
    """Return why no file can be written in a folder, by writing one; None if it can."""
    place = _existing(path)
    if not place.is_dir():
        return f"{place} is a file"
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return f"not writable ({error.strerror})"
    return None


def _hub() -> Finding:
    login = (
        "logged in" if is_logged_in() else "not logged in, which only private and gated repositories and --push need"
    )
    if is_offline():
        return Finding("hub", f"offline by HF_HUB_OFFLINE; {login}", advice="only what is in its cache is used")
    if hub_answers():
        return Finding("hub", f"{endpoint()} answers; {login}")
    advice = "published models and hub data must be in its cache; files and runs of your own work"
    return Finding("hub", f"{endpoint()} does not answer; {login}", advice=advice)


def _devices() -> Iterator[Finding]:
    try:
        devices = find_devices()
    except NoDeviceError as error:
        yield Finding("devices", error.found, VERBS[1:], error.advice)
        return
    kinds = [f"{device.platform}: {device.device_kind}" for device in devices]
    shown = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    shown += f", {memory / 1e9:,.1f} GB each" if memory else ""
    unused = devices[0].platform == "cpu" and Path("/dev/nvidia0").exists()
    yield Finding(
        "devices",
        shown,
        advice="there is an NVIDIA GPU that JAX does not use: pip install 'bigs[cuda]'" if unused else "",
    )
    for dtype in ("float32", "bfloat16"):
        yield Finding(f"{dtype} matrix products", f"{peak_flops(dtype) / 1e9:,.0f} GFLOP/s on one device")


def _checkpoints() -> Iterator[Finding]:
    """Save a checkpoint where runs lie, read it back, and remove it; nothing where that was found impossible before."""
    try:
        runs, _ = runs_root().absolute(), find_devices()
    except BigsError:  # told before
        return
    if _cannot_write(runs) is not None:
        return
    import numpy as np

    from bigs_cli.checkpoints.orbax import Checkpoints

    saved = {"x": np.arange(1000, dtype=np.float32)}
    there, started = _existing(runs), time.perf_counter()
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".bigs-doctor-", dir=there) as holder,
            Checkpoints(Path(holder) / runs.relative_to(there)) as checkpoints,  # with the names that are not there yet
        ):
            checkpoints.save(1, saved, saved, {})
            checkpoints.wait()
            read = checkpoints.restore(1, saved, saved)[0]
        problem = None if np.array_equal(read["x"], saved["x"]) else "what is read back is not what was saved"
    except Exception as error:  # Orbax and TensorStore have errors of their own.
        problem = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if problem is None:
        took = time.perf_counter() - started
        yield Finding("checkpoints", f"one was saved under {runs} and read back in {took:.1f} s")
    else:
        yield Finding("checkpoints", problem, ("pretrain", "finetune"), "name another folder with $BIGS_RUNS")
