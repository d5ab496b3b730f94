"""How processes of one run are found, and what they send each other; training/test_processes.py starts real ones."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from jax.experimental import multihost_utils

from bigs_cli.core import processes
from tests.tiny import HANG


@pytest.mark.parametrize(("hosts", "expected"), [("a:8470,b:8470", True), ("a:8470", False), (None, False)])
def test_the_hosts_of_tpu_vms_are_on_the_metadata_server(
    hosts: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = self.path.endswith("/worker-network-endpoints") and self.headers["Metadata-Flavor"] == "Google"
            if hosts is None or not right:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(hosts.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "libtpu")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        environment = {"GCE_METADATA_IP": f"127.0.0.1:{server.server_port}"}
        assert processes.launched_as_one_of_several(environment) is expected
        assert not processes.launched_as_one_of_several({**environment, "TPU_WORKER_HOSTNAMES": "localhost"})
        assert processes.launched_as_one_of_several({**environment, "TPU_WORKER_HOSTNAMES": "a,b"})
        server.shutdown()
        thread.join()


def test_large_values_are_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def broadcast(value: np.ndarray) -> np.ndarray:
        sent.append(value.nbytes)
        return value

    monkeypatch.setattr(processes, "_count", 2)
    monkeypatch.setattr(processes, "_PART", 16)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    for length in (0, 1, 16, 33):
        data = bytes(range(length))
        assert processes.share_bytes(data, len(data)) == data
    assert max(sent) == 16
    assert processes.share({"a": [1, None]}) == {"a": [1, None]}


JOINED = """
import sys, jax
from bigs_cli.core import processes
processes.join(sys.argv[1] if len(sys.argv) > 1 else None)
print(jax.process_index(), jax.process_count(), jax.config.read("jax_cuda_visible_devices"))
processes.leave(0)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def slurm(rank: int, machines: int) -> dict[str, str]:
    """Return the environment of one of two tasks on one or two machines."""
    local = 0 if machines == 2 else rank
    return {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost,localhost", "SLURM_NTASKS": "2"} | {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": str(machines),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(local),
    }


def open_mpi_5(rank: int, machines: int) -> dict[str, str]:
    local = {"RANK": 0, "SIZE": 1} if machines == 2 else {"RANK": rank, "SIZE": 2}
    return {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2"} | {
        f"OMPI_COMM_WORLD_LOCAL_{name}": str(value) for name, value in local.items()
    }


def mpich(rank: int, machines: int) -> dict[str, str]:
    local = {"MPI_LOCALRANKID": 0, "MPI_LOCALNRANKS": 1} if machines == 2 else {"MPI_LOCALRANKID": rank}
    local = {"MPI_LOCALNRANKS": 2} | local
    return {"PMI_RANK": str(rank), "PMI_SIZE": "2"} | {name: str(value) for name, value in local.items()}


@pytest.mark.parametrize("machines", [1, 2])
@pytest.mark.parametrize("launcher", [slurm, open_mpi_5, mpich])
def test_launched_processes_join_and_use_all_devices_of_a_machine(
    launcher: Callable[[int, int], dict[str, str]], machines: int
) -> None:
    """Several processes of one machine use one GPU each; no GPU is needed to see which ones JAX is told to use."""
    address = [] if launcher is slurm else [f"127.0.0.1:{free_port()}"]
    port = {"JAX_COORDINATOR_PORT": str(free_port())}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", JOINED, *address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | port | launcher(rank, machines),
        )
        for rank in range(2)
    ]
    for rank, process in enumerate(running):
        out, err = process.communicate(timeout=HANG)
        assert out == f"{rank} 2 {'all' if machines == 2 else rank}\n", err


@pytest.mark.parametrize("launcher", [open_mpi_5, mpich])
def test_the_error_of_a_launcher_that_names_no_address_asks_for_it(
    launcher: Callable[[int, int], dict[str, str]],
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bigs_cli", "pretrain", "--recipe", "demo"],
        capture_output=True,
        text=True,
        env=os.environ | launcher(0, 1),
        timeout=HANG,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--coordinator HOST:PORT" in done.stderr
