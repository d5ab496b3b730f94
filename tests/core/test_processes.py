"""How processes of one run are found, and what they send each other; training/test_processes.py starts real ones."""

from __future__ import annotations

import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from jax.experimental import multihost_utils

from bigs_cli.core import processes


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
