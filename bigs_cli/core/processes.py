"""Multi-process runs: joining the processes, agreeing on values, and ending when a process is lost.

`jax.distributed` connects the processes, monitors their heartbeats, and aborts the others when one is lost. An aborted
process cannot print a message, so each process of a run is a pair: a worker, and a parent that started it and reports
its end.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.request import Request, urlopen

from bigs_cli.core.errors import BigsError, RequestError, first_line

# This and the next value were chosen by this project, without a source.
_JOIN_SECONDS = 120  # maximum time to wait for all processes to start
_HEARTBEAT_SECONDS = 30  # a process without a heartbeat for this long counts as lost
_PART = 64 << 20  # bytes that are sent at a time to the other processes
_LOST_CODE = 75  # exit code of a worker for its parent, which exits with 1
_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|coordination ?service|heartbeat|unavailable:", re.IGNORECASE)

# Names of environment variables: the index of a process, and the number of processes.
_MPI_RANKS = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))  # Open MPI; MPICH, Intel MPI
_RANKS = (*_MPI_RANKS, ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))
_LOCAL_MPI_RANKS = (
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)

_index, _count = 0, 1
_is_worker = False


def join(coordinator: str | None = None, process: int | None = None, processes: int | None = None) -> None:
    """Join a multi-process run, as configured by the arguments, Slurm, MPI or a TPU pod; otherwise do nothing.

    Under Slurm and MPI, `process` and `processes` may be left out. Call it before JAX is used. Afterwards, the caller
    runs in a child process, and further calls do nothing.

    Raises:
        RequestError: an argument is missing, or they contradict each other.
        BigsError: the coordinator could not be reached.
    """
    if _is_worker:
        return
    if (coordinator, process, processes) == (None, None, None):
        if not launched_as_one_of_several(os.environ):
            return
        rank = _rank(os.environ, _MPI_RANKS)  # JAX finds those of Slurm and TPU pods, but of MPI only Open MPI 4.
        if rank is not None and rank[1] > 1:
            process, processes = rank
    else:
        if process is None and processes is None:
            process, processes = _rank(os.environ, _RANKS) or (None, None)
        _check_options(coordinator, process, processes)
    _continue_in_child(process, processes)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            _local_devices(os.environ),
            initialization_timeout=_JOIN_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        leave_if_lost(error)
        reason = first_line(error)
        if "coordinator_address should be defined" in reason:  # Only Slurm and Open MPI 4 tell where process 0 is.
            raise RequestError(
                "The launcher does not tell the processes where process 0 runs. Give all of them its address: "
                "--coordinator HOST:PORT, with the name of the first machine and any free port."
            ) from error
        raise BigsError(f"This process could not join the others: {reason}") from error
    global _index, _count
    _index, _count = jax.process_index(), jax.process_count()
    _keep_stdout()


def launched_process_count(environment: Mapping[str, str]) -> int:
    """Return the number of processes started by Slurm (`srun`) or MPI (`mpirun`); 1 without either."""
    rank = _rank(environment, _RANKS)
    return 1 if rank is None else rank[1]


def _rank(environment: Mapping[str, str], names: tuple[tuple[str, str], ...]) -> tuple[int, int] | None:
    """Return the index of this process and the number of processes, from the first pair of variables that is set."""
    for pair in names:
        index, count = (environment.get(name, "") for name in pair)
        if index.isdigit() and count.isdigit():
            return int(index), int(count)
    return None


def _check_options(coordinator: str | None, process: int | None, processes: int | None) -> None:
    """Check the options of a process.

    Raises:
        RequestError: an option is missing, or they contradict each other.
    """
    if coordinator is None or process is None or processes is None:
        raise RequestError(
            "--coordinator HOST:PORT, --process and --processes must be given together. Under srun and mpirun, "
            "--coordinator is enough."
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise RequestError(f"--coordinator {coordinator} is not HOST:PORT, such as 10.0.0.1:1234.")
    if not 0 <= process < processes:
        raise RequestError(f"--process {process} is not below --processes {processes}; processes count from 0.")


def _local_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Return the GPUs of this process, as `jax.distributed.initialize` takes them; [] stands for all of the machine.

    Several processes of one machine use one GPU each. JAX decides the same, but also gives the only process of a
    machine a single GPU, and does not know MPICH.
    """
    if "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    if (local := _rank(environment, _LOCAL_MPI_RANKS)) is not None:
        return [local[0]] if local[1] > 1 else []
    # Every machine has a task, so equal numbers mean one task on each.
    tasks, machines = (environment.get(f"SLURM_STEP_NUM_{what}") for what in ("TASKS", "NODES"))
    return [] if tasks == machines else None


def is_main_process() -> bool:
    """Return whether this is process 0, the only one that writes files and logs."""
    return _index == 0


def several() -> bool:
    """Return whether this is one of several processes."""
    return _count > 1


def broadcast(value: int) -> int:
    """Return the `value` of process 0 in every process. All processes must call this function."""
    if _count == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def share_bytes(data: bytes, size: int) -> bytes:
    """Return the `data` of process 0 in every process. All must call this function with the `size` of the data."""
    if _count == 1:
        return data
    import numpy as np
    from jax.experimental import multihost_utils

    parts = []
    for start in range(0, size, _PART):
        length = min(_PART, size - start)
        # JAX adds up the values of all processes, as integers of this size.
        words = np.zeros(-(-length // 4), np.int32)
        if is_main_process():
            words.view(np.uint8)[:length] = np.frombuffer(data, np.uint8, length, start)
        parts.append(np.asarray(multihost_utils.broadcast_one_to_all(words)).tobytes()[:length])
    return b"".join(parts)


def share(value: Any) -> Any:
    """Return the `value` of process 0, of JSON types, in every process. All processes must call this function."""
    if _count == 1:
        return value
    data = json.dumps(value).encode()
    return json.loads(share_bytes(data, broadcast(len(data))))


def synchronize() -> None:
    """Wait until all processes have called this function, for example until process 0 has written a file."""
    broadcast(0)


def any_process(value: bool) -> bool:
    """Return whether `value` is true in any process. All processes must call this function."""
    if _count == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.int32(value)).any())


def leave_if_lost(error: Exception) -> None:
    """End this process if `error` comes from a collective operation that failed because another process is lost.

    The parent prints the message, as it does if JAX aborts this process, which may happen at any moment now.
    """
    if _is_worker and _LOST.search(str(error)):
        sys.stdout.flush()
        os._exit(_LOST_CODE)


def leave(code: int) -> None:
    """End this process of a multi-process run with exit code `code`. In a single-process run, do nothing.

    After an error, this does not wait for the other processes, which may be waiting for this one in a collective; they
    end when its heartbeat is missing.
    """
    if not _is_worker:
        return
    if _count > 1 and code in (0, 130):  # All stop at the same step; JAX waits until all have written their part.
        import jax

        jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def launched_as_one_of_several(environment: Mapping[str, str]) -> bool:
    """Return whether srun, mpirun or a TPU pod started this process with others."""
    return launched_process_count(environment) > 1 or "," in _tpu_hosts(environment)


def _tpu_hosts(environment: Mapping[str, str]) -> str:
    """Return the hosts of the TPU slice of this machine, separated by commas; "" if there is none.

    Kubernetes names them in the environment; TPU VMs have to ask Google's metadata server, as JAX does.
    """
    hosts = environment.get("TPU_WORKER_HOSTNAMES")
    if hosts is not None or environment.get("TPU_SKIP_MDS_QUERY") or importlib.util.find_spec("libtpu") is None:
        return hosts or ""
    server = environment.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/attributes/worker-network-endpoints"
    try:
        with urlopen(Request(url, headers={"Metadata-Flavor": "Google"}), timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def _lost_message(process: int | None, processes: int | None) -> str:
    other = f"process {1 - process} of 2" if processes == 2 and process is not None else "another process"
    return f"lost contact with {other}. Start every process again with --resume to continue from the last checkpoint."


def _continue_in_child(process: int | None, processes: int | None) -> None:
    """Fork, and return in the child only. The parent forwards signals and ends with the exit status of the child.

    The child has its own process group, so that Ctrl-C in a terminal reaches it once, through the parent.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    alive, parent_end = os.pipe()
    child = os.fork()
    if not child:
        global _is_worker
        _is_worker = True
        os.setpgid(0, 0)
        os.close(parent_end)
        threading.Thread(target=_end_with_parent, args=[alive], daemon=True).start()
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code in (-signal.SIGABRT, _LOST_CODE):  # aborted by JAX, which has printed the reason, or by `leave_if_lost`
        print(f"bigs: {_lost_message(process, processes)}", file=sys.stderr, flush=True)
        code = 1
    os._exit(code if code >= 0 else 128 - code)


def _end_with_parent(alive: int) -> NoReturn:
    """Wait until the parent has ended for any reason, then end this process."""
    os.read(alive, 1)
    os._exit(1)


def _keep_stdout() -> None:
    """Keep stdout for results: Gloo prints its connections on stdout."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 1)
