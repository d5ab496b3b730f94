"""Slow tests of runs, data and models on an S3 server on this machine: killed runs, and a killed server.

Needs s3fs, and s3rver, a server that keeps its objects in files: pip install s3fs; npm install s3rver

Run: python -m tests.long.s3
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec

from bigs_cli.checkpoints.orbax import steps
from tests.tiny import HANG, bigs, pretrain, write_shards
from tests.training.test_processes import finish
from tests.training.test_resume import same, training_log

PORT = 5123
BUCKET = "s3://bucket"
CHANGES = {"steps": 2000, "evaluate__every_steps": 500, "checkpoint__every_steps": 100}
FAST = """
from bigs_cli.__main__ import main
from bigs_cli.checkpoints import remote_run
remote_run.SECONDS = 0.5
main()
"""


class Server:
    """An S3 server with its objects in a folder."""

    def __init__(self, folder: Path) -> None:
        self._words = ["npx", "s3rver", "--address", "127.0.0.1", "--port", str(PORT), "--directory", str(folder)]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        environment = os.environ | {"NODE_OPTIONS": "--openssl-legacy-provider"}  # s3rver uses a cipher of OpenSSL 1.
        self._process = subprocess.Popen(
            self._words, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
        )
        until(self._answers, self._process)

    def kill(self) -> None:
        """Kill the server, which cannot finish anything."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @staticmethod
    def _answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", PORT)) == 0


def main() -> None:
    """Print one line for each test that passes."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "AWS_ACCESS_KEY_ID": "S3RVER",
        "AWS_SECRET_ACCESS_KEY": "S3RVER",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["BIGS_CACHE"] = str(folder / "cache")
        shards = write_shards(folder)
        server = Server(folder / "server")
        server.start()
        try:
            check(shards, folder, server)
        finally:
            server.kill()


def check(shards: Path, folder: Path, server: Server) -> None:
    """Run all tests."""
    missing = bigs(*pretrain(shards, f"{BUCKET}/run"))
    assert missing.code == 2, missing.err
    assert "bucket does not exist" in missing.err
    print("a missing bucket is refused")
    fsspec.filesystem("s3").mkdir("bucket")
    bigs(*pretrain(shards, folder / "steady", **CHANGES)).fine()
    check_killed(shards, folder)
    print("a run at a URL that is killed three times, and continued elsewhere, is identical to one on this disk")
    check_outage(shards, folder, server)
    print("a run goes on after the server is killed and started again, and is identical to one on this disk")
    check_processes(shards, folder)
    print("two processes whose run at a URL is killed, and resumed, are identical to two on this disk")
    check_models(shards, folder)
    print("data, start model and teacher at URLs give the same run; eval, predict and export work")


def check_killed(shards: Path, folder: Path) -> None:
    """Kill a run three times, each time after further checkpoints are uploaded; the cache is lost each time."""
    url = f"{BUCKET}/killed"
    arguments: list[object] = pretrain(shards, url, **CHANGES)
    reached = 0
    for _ in range(3):
        process = start(arguments)
        until(lambda reached=reached: max(uploaded_steps(url), default=0) > reached, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached = max(uploaded_steps(url))
        shutil.rmtree(folder / "cache")
        arguments = ["pretrain", "--resume", "--run", url]
    bigs(*arguments).fine()
    compare(url, folder / "steady")


def check_processes(shards: Path, folder: Path) -> None:
    """Kill two processes after the first checkpoint is uploaded; the cache is lost. Each has one half of the arrays."""
    url, words = f"{BUCKET}/processes", ("--set", "mesh.fsdp=2")
    changes = {"steps": 150, "evaluate__every_steps": 50, "checkpoint__every_steps": 25}
    finish(processes(pretrain(shards, folder / "two", *words, **changes)))
    both = processes(pretrain(shards, url, *words, **changes))
    until(lambda: bool(uploaded_steps(url)), both[0])
    for process in both:
        process.kill()
        process.wait()
    shutil.rmtree(folder / "cache")
    finish(processes(["pretrain", "--resume", "--run", url]))
    compare(url, folder / "two")


def processes(arguments: list[object]) -> list[subprocess.Popen[str]]:
    """Start two processes of one run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        together = ("--coordinator", f"127.0.0.1:{free.getsockname()[1]}", "--processes", 2, "--process")
    return [start([*arguments, *together, number]) for number in range(2)]


def check_outage(shards: Path, folder: Path, server: Server) -> None:
    """Kill the server after the first checkpoint and start it again later."""
    url = f"{BUCKET}/outage"
    process = start(pretrain(shards, url, **CHANGES))
    until(lambda: bool(uploaded_steps(url)), process)
    server.kill()
    time.sleep(25)  # Longer than the repetitions of botocore.
    server.start()
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err
    assert out == f"{url}\n"
    assert err.count("cannot be uploaded at the moment") == 1, err
    compare(url, folder / "steady")


def check_models(shards: Path, folder: Path) -> None:
    """Read everything from the server."""
    system = fsspec.filesystem("s3")
    system.put(f"{folder}/steady/", "bucket/model/", recursive=True)
    system.put(f"{shards}/", "bucket/shards/", recursive=True)
    here, there = folder / "here", folder / "there"
    bigs(*pretrain(shards, here, "--from", folder / "steady", "--teacher", folder / "steady")).fine()
    urls = ("--data", f"{BUCKET}/shards", "--from", f"{BUCKET}/model", "--teacher", f"{BUCKET}/model")
    bigs(*pretrain(shards, there, *urls)).fine()
    assert same(here / "checkpoints", there / "checkpoints")
    bigs("eval", "mlm", "--model", f"{BUCKET}/model").fine()
    bigs("predict", "a [MASK]", "--model", f"{BUCKET}/model", "--output", f"{BUCKET}/words.jsonl").fine()
    bigs("export", "--model", f"{BUCKET}/model", "--output", f"{BUCKET}/exported").fine()
    bigs("predict", "a [MASK]", "--model", f"{BUCKET}/exported").fine()


def start(arguments: list[object]) -> subprocess.Popen[str]:
    """Start bigs as a process that uploads every half second."""
    words = [sys.executable, "-c", FAST, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Wait until `condition()` is true while the process runs."""
    ends = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < ends
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def uploaded_steps(url: str) -> list[int]:
    """Return the steps with a complete checkpoint at a URL."""
    system = fsspec.filesystem("s3")
    system.invalidate_cache()
    found = system.find(f"{url}/checkpoints") if system.exists(f"{url}/checkpoints") else []
    return [int(name.split("/")[-2]) for name in found if name.endswith("/seal.json")]


def compare(url: str, other: Path) -> None:
    """Compare a run at a URL with another one on this disk."""
    found = other.parent / f"found-{url.rpartition('/')[2]}"
    system = fsspec.filesystem("s3")
    system.invalidate_cache()
    system.get(url, str(found), recursive=True)
    assert steps(found / "checkpoints") == steps(other / "checkpoints")
    assert same(found / "checkpoints", other / "checkpoints")
    assert training_log(found) == training_log(other)
    assert (found / "results.json").is_file()


if __name__ == "__main__":
    main()
