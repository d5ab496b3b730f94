"""Settings of the C library and JAX that make training on a CPU a third faster."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX, parameters of mallopt(3)


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next allocation instead of giving it back to the kernel.

    XLA allocates its large temporary arrays again in every step. By default, the kernel provides them as zeroed pages:
    with 4 layers, H=256 and 32×128 tokens, this took 180,000 page faults and 0.13 of 0.45 s per step. Only memory of
    the main thread is kept, so JAX is configured to run programs there. Without glibc, this does nothing. From
    Python, `mallopt` can only be called through ctypes. Call this function before JAX is used.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
