"""What the machine does, in sentences: the real errors of the system and of the libraries, however they are wrapped."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.core.error_messages import convert_errors, translate_error
from bigs_cli.core.errors import BigsError, RequestError

AGAIN = "and repeat the command."


def caught(error: Exception) -> Exception:
    """`error` as a library would pass it on: behind two others."""
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
    ("number", "says", "kind"),
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
def test_an_error_of_the_system_behind_others(number: int, says: str, kind: type[BigsError]) -> None:
    fault = translate_error(caught(OSError(number, os.strerror(number), "x/y")))
    assert type(fault) is kind
    assert says in str(fault)


def test_a_full_disk_is_no_wrong_request_whatever_was_handled_before_it() -> None:
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
def test_an_error_of_a_library_that_has_only_words(text: str) -> None:
    fault = translate_error(caught(ValueError(text)), Path("runs/mine"), "and go on with --resume")
    assert str(fault) == "The disk of runs/mine is full. Free some space, and go on with --resume."
    assert "/run/6/_sharding is full" in str(translate_error(ValueError(text))) or "RESOURCE" not in text


def test_memory_that_numpy_xla_and_python_cannot_have() -> None:
    errors: list[Exception] = [MemoryError()]
    for ask in (lambda: np.zeros(1 << 50), lambda: jnp.zeros(1 << 45).block_until_ready()):
        with pytest.raises(Exception) as asked:  # noqa: PT011 - each library has one of its own
            ask()
        errors.append(asked.value)
    said = [str(translate_error(caught(error))) for error in errors]
    assert said[0].startswith("There is not enough memory. Use a machine with more memory, or, if the command has")
    assert said[1].startswith("There is not enough memory for 8.00 PiB more.")
    assert said[2].startswith("There is not enough memory for 131,072.0 GiB more.")


def test_other_errors_are_none_of_the_machine() -> None:
    error = caught(KeyError("a"))
    assert translate_error(error) is None
    with pytest.raises(KeyError), convert_errors(translate_error):
        raise KeyError("a")
    with pytest.raises(RequestError, match="mine"), convert_errors(translate_error):
        raise RequestError("mine")
