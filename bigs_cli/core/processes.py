"""Several processes as one run: joining, agreeing, and ending together.

Process 0 is the one that writes and speaks. Each process tells the others every second that it lives, through the
key-value store of JAX's coordination service, and, when it fails, why. The others then end too, with a sentence that
says which it was: left to itself JAX would wait in a collective, or abort with a stack of C++.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

from bigs_cli.core.errors import BigsError, RequestError

_BEAT = 1.0  # seconds between two signs of life; chosen here, as the next two
_SILENCE = 20.0  # seconds without one after which a process counts as dead
_JOIN = 120  # seconds that the others may take to start
_INTERRUPTED = 130
_ALIVE, _ENDED = "bigs/alive/", "bigs/ended/"

_watch: _Watch | None = None
_resume_command: str | None = None


def join(coordinator: str | None = None, process: int | None = None, processes: int | None = None) -> None:
    """Make this process one of several, if it is: as asked for, or as Slurm, Open MPI or a TPU pod say.

    Call it before anything else of JAX. Processes other than 0 are silent from then on, unless they fail.

    Raises:
        RequestError: the three are not given together or make no sense.
        BigsError: the coordinator could not be reached.
    """
    given = (coordinator, process, processes)
    if given == (None, None, None):
        if not _launched_as_one_of_several(os.environ):
            return
    elif coordinator is None or process is None or processes is None:
        raise RequestError("--coordinator HOST:PORT, --process and --processes go together: give all three, or none.")
    elif not coordinator.rpartition(":")[2].isdigit() or not coordinator.rpartition(":")[0]:
        raise RequestError(f"--coordinator {coordinator} is no HOST:PORT, as 10.0.0.1:1234.")
    elif not 0 <= process < processes:
        raise RequestError(f"--process {process} is not one of --processes {processes}: they count from 0.")
    import jax

    # Ours, below, says which process is missing; JAX's own would abort the process first.
    jax.config.update("jax_enable_recoverability", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=_JOIN,
            heartbeat_timeout_seconds=10 * int(_SILENCE),
            shutdown_timeout_seconds=int(_SILENCE),
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BigsError(f"This process could not join the others: {reason}") from error
    global _watch
    _watch = _Watch()
    _keep_stdout()


def set_resume_command(command: str) -> None:
    """Have this process say, if another one ends, that `command` in every process continues the run."""
    global _resume_command
    _resume_command = command


def launch(environment: Mapping[str, str]) -> int:
    """Return how many processes Slurm (`srun`) or Open MPI (`mpirun`) started; 1 without either."""
    for name in ("OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 1


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    return _watch is None or _watch.index == 0


def broadcast(value: int) -> int:
    """Return process 0's `value` in every process: all must call this."""
    if _watch is None:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def any_process(value: bool) -> bool:
    """Return whether `value` is true in any process: all must call this."""
    if _watch is None:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.int32(value)).any())


def end_together(code: int, sentence: str) -> None:
    """Before this process ends: wait for the others, or, after an error, tell them why; then end. Alone it returns.

    Left to JAX, process 0 would end before the others, and they abort without it. A process that fails because another
    is gone is ended by its watch, which knows which one.
    """
    if _watch is not None:
        _watch.leave(code, sentence)


def _launched_as_one_of_several(environment: Mapping[str, str]) -> bool:
    return launch(environment) > 1 or "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def _keep_stdout() -> None:
    """Keep stdout for what was asked for: Gloo greets its peers on it."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 1)


class _Watch:
    """This process's signs of life, and an eye on the others': a thread for as long as the process runs."""

    def __init__(self) -> None:
        import jax

        # The store is JAX's own; there is no public name for it (Orbax goes the same way).
        from jax._src.distributed import global_state

        self._client: Any = global_state.client
        self.index, self.count = jax.process_index(), jax.process_count()
        self._heard = {other: (time.monotonic(), "") for other in range(self.count) if other != self.index}
        self._leaving = threading.Event()
        # When process 0 is gone, JAX's client aborts this process within milliseconds, from a thread of C++: only a
        # handler of C's own is still called then.
        self._aborted = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._abort)
        if self.index:
            ctypes.CDLL(None).signal(signal.SIGABRT, self._aborted)
        threading.Thread(target=self._run, name="bigs-watch", daemon=True).start()

    def leave(self, code: int, sentence: str) -> NoReturn:
        """End this process with `sentence`, told to the others; or with theirs, if this is only its consequence."""
        if code == 1:
            time.sleep(_SILENCE + 5 * _BEAT)  # Time for the watch to find out which process went first.
        self._leaving.set()
        try:
            if code in (0, _INTERRUPTED):  # All stop at the same step, each when its part of the checkpoint is written.
                self._client.wait_at_barrier("bigs/stopped", int(1000 * _SILENCE))
            else:
                self._client.key_value_set(f"{_ENDED}{self.index}", f"{code} {sentence}", allow_overwrite=True)
            if self.index == 0:  # The store ends with process 0: the others must have read it, and gone.
                time.sleep(3 * _BEAT)
        except Exception:
            pass
        _exit(code)

    def _abort(self, _: int) -> None:
        self._lost(0, 1, "it cannot be reached any more, and JAX aborts without it")

    def _run(self) -> None:
        beat = 0
        while not self._leaving.wait(_BEAT):
            beat += 1
            try:
                self._client.key_value_set(f"{_ALIVE}{self.index}", str(beat), allow_overwrite=True)
                ended = dict(self._client.key_value_dir_get(_ENDED))
                alive = dict(self._client.key_value_dir_get(_ALIVE))
            except Exception:  # The store is process 0's.
                if time.monotonic() - self._heard.get(0, (0.0, ""))[0] > _SILENCE / 2:
                    self._lost(0, 1, "it cannot be reached")
                continue
            now = time.monotonic()
            for key, value in ended.items():
                code, _, why = value.partition(" ")
                self._lost(int(key.rpartition("/")[2]), int(code), why)
            for other, (since, last) in self._heard.items():
                sign = alive.get(f"{_ALIVE}{other}", "")
                if sign != last:
                    self._heard[other] = (now, sign)
                elif now - since > _SILENCE:
                    self._lost(other, 1, f"nothing was heard of it for {now - since:.0f} seconds")

    def _lost(self, other: int, code: int, why: str) -> None:
        if other == self.index or self._leaving.is_set():
            return
        again = "Start all of them again" + (f" with `{_resume_command}`" if _resume_command else "")
        print(
            f"bigs: process {other} of {self.count} ended: {why.rstrip('.')}. Process {self.index} ends too. {again}.",
            file=sys.stderr,
        )
        if self.index == 0:  # So that the others name it as well before their store is gone.
            self._leaving.set()
            try:
                self._client.key_value_set(f"{_ENDED}{other}", f"{code} {why}", allow_overwrite=True)
                time.sleep(3 * _BEAT)
            except Exception:
                pass
        _exit(code)


def _exit(code: int) -> NoReturn:
    """End at once: an orderly end would wait for the others, or for a collective that never returns."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
