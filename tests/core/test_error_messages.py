"""Messages for real errors of the system and of libraries, also if other exceptions wrap them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.core.error_messages import convert_errors, translate_error
from bigs_cli.core.errors import BigsError, RequestError, first_line

AGAIN = "and repeat the command."


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\nA bad value.\nMore.")) == "A bad value"
    assert first_line(ConnectionError()) == "ConnectionError"


def wrapped(error: Exception) -> Exception:
    """Return `error` inside two other exceptions, as a library may raise it."""
    try:
        try:
            raise error
        except Exception as inner:
            raise ValueError("the write failed") from inner
    except ValueError as outer:
        try:
            raise RuntimeError("a task failed")
        except RuntimeError as last:
            last.__context__ = outer
            return last


@pytest.mark.parametrize(
    ("number", "message", "kind"),
    [
        (errno.ENOSPC, f"The disk of x/y is full. Free some space, {AGAIN}", BigsError),
        (errno.EDQUOT, f"Your disk quota for x/y is exhausted. Free some space, {AGAIN}", BigsError),
        (errno.EIO, "The disk of x/y failed (input/output error).", BigsError),
        (errno.ESTALE, "x/y was lost by its file server", BigsError),
        (errno.EMFILE, "Raise the limit (ulimit -n 4096)", BigsError),
        (errno.ENOENT, "x/y does not exist, or was removed.", BigsError),
        (errno.EROFS, "x/y cannot be written: read-only file system.", RequestError),
        (errno.EACCES, "x/y cannot be used: permission denied.", RequestError),
        (errno.EPERM, "x/y cannot be changed: operation not permitted.", RequestError),
        (errno.ENAMETOOLONG, "its name is too long", RequestError),
    ],
)
def test_a_wrapped_system_error_is_translated(number: int, message: str, kind: type[BigsError]) -> None:
    fault = translate_error(wrapped(OSError(number, os.strerror(number), "x/y")))
    assert type(fault) is kind
    assert message in str(fault)


def test_the_context_of_a_full_disk_error_is_ignored() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "x/y")
    full.__context__ = FileExistsError(errno.EEXIST, "File exists", "x")
    fault = translate_error(full)
    assert type(fault) is BigsError
    assert "The disk of x/y is full" in str(fault)


@pytest.mark.parametrize(
    "text",
    [
        'RESOURCE_EXHAUSTED: Error writing local file "/run/6/_sharding": Failed writing: "/run/6/_sharding.__lock": '
        "Failed to write 24007 bytes to file 6: No space left on device [os_error_code='28']",
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[Errno 28] No space left on device",
    ],
)
def test_a_library_error_is_recognized_by_its_text(text: str) -> None:
    fault = translate_error(wrapped(ValueError(text)), Path("runs/mine"), "and go on with --resume")
    assert str(fault) == "The disk of runs/mine is full. Free some space, and go on with --resume."
    assert "/run/6/_sharding is full" in str(translate_error(ValueError(text))) or "RESOURCE" not in text


def test_out_of_memory_errors_of_numpy_xla_and_python() -> None:
    errors: list[Exception] = [MemoryError()]
    for allocate in (lambda: np.zeros(1 << 50), lambda: jnp.zeros(1 << 45).block_until_ready()):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each library has its own type
            allocate()
        errors.append(raised.value)
    messages = [str(translate_error(wrapped(error))) for error in errors]
    assert messages[0].startswith("There is not enough memory. Use a machine with more memory, or, if the command has")
    assert messages[1].startswith("There is not enough memory for 8.00 PiB more.")
    assert messages[2].startswith("There is not enough memory for 131,072.0 GiB more.")


def test_other_errors_are_not_translated() -> None:
    error = wrapped(KeyError("a"))
    assert translate_error(error) is None
    with pytest.raises(KeyError), convert_errors(translate_error):
        raise KeyError("a")
    with pytest.raises(RequestError, match="mine"), convert_errors(translate_error):
        raise RequestError("mine")
