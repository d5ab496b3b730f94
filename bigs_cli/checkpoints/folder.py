"""Model folders in a published layout: config.json, weights (one file or shards), and often a tokenizer."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bigs_cli.checkpoints import flax_file, safetensors_file, torch_file
from bigs_cli.checkpoints.arrays import Array, Flat, to_float32
from bigs_cli.checkpoints.config_json import names_architecture, read_config, write_config
from bigs_cli.checkpoints.weights import choose, has_torch_names, read_weights
from bigs_cli.core.error_messages import convert_errors, translate_error
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.files import check_writable
from bigs_cli.core.interrupts import defer_signals
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.published import (
    from_torch,
    guess_head,
    optional_paths,
    published_shapes,
    to_torch,
    torch_name,
)

CONFIG = "config.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
TOKENIZER_CONFIG = "tokenizer_config.json"  # the settings for a vocab.txt


@dataclass(frozen=True)
class LoadedModel:
    """A model read from a folder: `flat` has all parameters of `config` except those in `absent`."""

    config: BiGSConfig
    flat: Flat
    source_file: Path
    tokenizer_path: Path | None  # tokenizer.json, else vocab.txt
    ignored: tuple[str, ...]  # tensors in the file that the model does not use
    absent: tuple[str, ...]  # optional parameters missing from the file, such as the pooler of an encoder


def read_model(folder: Path, weights: str | None = None) -> LoadedModel:
    """Read the model in `folder` from the file (or index of shards) `weights`, by default the preferred one.

    Weights are converted to float32. Tensors may have Flax paths or the names of the PyTorch port. Extra tensors are
    errors, except an unused pooler (the PyTorch port writes one for every head) and the decoder of a tied model.

    Raises:
        RequestError: a file is missing or malformed, or tensors are missing, unknown or of the wrong shape; the message
            lists them by name.
    """
    source = folder / weights if weights else choose(folder)
    config_path = folder / CONFIG
    config = read_config(config_path) if names_architecture(config_path) else None
    state = read_weights(source)
    config = config or read_config(config_path, guess_head(state))
    torch_names = has_torch_names(source, state)
    flat = from_torch(state, config) if torch_names else state
    ignored = _drop_unused(flat, config)
    _check(flat, config, source, torch_names)
    for path in list(flat):
        flat[path] = to_float32(flat.pop(path), path, source)
    absent = tuple(sorted(optional_paths(config) - flat.keys()))
    return LoadedModel(config, flat, source, tokenizer_file(folder), ignored, absent)


def tokenizer_file(folder: Path) -> Path | None:
    """Return the tokenizer file in `folder`, if any."""
    return next((folder / name for name in TOKENIZER_FILES if (folder / name).is_file()), None)


def write_flax(folder: Path, config: BiGSConfig, flat: Mapping[str, Array]) -> None:
    """Write config.json and flax_model.msgpack into `folder`."""
    write_config(folder / CONFIG, config)
    flax_file.write(folder / "flax_model.msgpack", flat)


def write_torch(folder: Path, config: BiGSConfig, flat: Mapping[str, Array]) -> None:
    """Write config.json, model.safetensors and pytorch_model.bin, in the layout of the PyTorch port, into `folder`."""
    write_config(folder / CONFIG, config)
    state = to_torch(flat, config)
    safetensors_file.write(folder / "model.safetensors", state)
    torch_file.write(folder / "pytorch_model.bin", state)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it is renamed to `path` on success and removed on error.

    The temporary folder of a killed process is removed first.

    Raises:
        RequestError: `path` is a file or a folder that is not empty, cannot be written, or is being written by another
            process.
        BigsError: the disk is full, or another system error occurred.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RequestError(f"{path} is in use: it is not an empty folder. Choose another --output, or remove it first.")
    target = path.resolve()
    if target == Path.cwd() or target.is_mount():
        raise RequestError(
            f"{path} is {'a mount point' if target.is_mount() else 'the working directory'}, which cannot be replaced. "
            f"Name a new folder in it: --output {path / 'model'}"
        )
    check_writable(target.parent, f"--output {path}")
    with convert_errors(lambda error: translate_error(error, path)):
        target.parent.mkdir(parents=True, exist_ok=True)
        tmp = target.parent / f".{target.name}.bigs-partial"
        if tmp.is_symlink() or (tmp.exists() and not tmp.is_dir()):
            raise RequestError(f"{tmp} exists and is not a folder. Remove it, or choose another --output.")
        lock = None
        try:
            with defer_signals():
                lock = _create_locked(tmp, path)
            for stale in tmp.iterdir():
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
            yield tmp
            tmp.replace(target)
        except BaseException:
            if lock is not None:
                shutil.rmtree(tmp, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                os.close(lock)


def _create_locked(tmp: Path, path: Path) -> int:
    """Create the folder `tmp` if it does not exist, lock it, and return the descriptor that holds the lock."""
    tmp.mkdir(exist_ok=True)
    handle = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The process that held the lock may have renamed the folder.
        locked = tmp.exists() and os.path.samestat(os.fstat(handle), tmp.lstat())
    except BlockingIOError:
        locked = False
    except OSError:  # a file system without locks
        locked = True
    if not locked:
        os.close(handle)
        raise RequestError(f"Another process is writing {path}. Wait for it to finish, or choose another --output.")
    return handle


def _drop_unused(flat: Flat, config: BiGSConfig) -> tuple[str, ...]:
    unused = [name for name in flat.keys() - published_shapes(config).keys() if _may_be_unused(name)]
    for name in unused:
        del flat[name]
    return tuple(sorted(unused))


def _may_be_unused(name: str) -> bool:
    plain = name.replace(".", "/")
    return "pooler/dense/" in plain or plain == "cls/predictions/decoder/weight"


def _check(flat: Flat, config: BiGSConfig, source: Path, torch_names: bool) -> None:
    """Raise RequestError, with the names of the tensors in the file, unless `flat` fits `config`."""
    expected = published_shapes(config)
    name = torch_name if torch_names else str
    missing = [name(path) for path in expected if path not in flat and path not in optional_paths(config)]
    misshapen = [
        f"{name(path)} {_shape(path, flat[path].shape, torch_names)} instead of {_shape(path, shape, torch_names)}"
        for path, shape in expected.items()
        if path in flat and flat[path].shape != shape
    ]
    unknown = sorted(flat.keys() - expected.keys())
    problems = [
        f"{kind} ({len(names)}): {listed(names)}."
        for kind, names in (("Missing", missing), ("Wrong shape", misshapen), ("Unknown", unknown))
        if names
    ]
    if problems:
        raise RequestError(
            f"{source} does not fit its {CONFIG} ({config.head}, {config.num_hidden_layers} layers, "
            f"hidden size {config.hidden_size}). {' '.join(problems)} Correct {CONFIG}, or download both files again."
        )


def _shape(path: str, shape: tuple[int, ...], torch_names: bool) -> list[int]:
    transposed = torch_names and path.endswith("/kernel")
    return list(shape[::-1] if transposed else shape)
