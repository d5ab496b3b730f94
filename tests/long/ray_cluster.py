"""Slow test of `bigs tokenize --engine ray`: a cluster of two workers, of which processes are killed.

Needs Ray: pip install ray

Run: python -m tests.long.ray_cluster
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from bigs_cli.data import portions
from tests.data.conftest import make_documents
from tests.data.test_build import content
from tests.tiny import HANG, bigs

BLOCK = 1_000_000


def main() -> None:
    """Print one line for each test that passes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number in range(12):
            lines = [json.dumps({"text": f"{number} {text}"}) + "\n" for text in make_documents(200)]
            (corpus / f"{number:02d}.jsonl").write_text("".join(lines) * (1 + BLOCK // len("".join(lines))))
        # Every process of the cluster imports this, so that there are several blocks.
        (folder / "sitecustomize.py").write_text(f"import bigs_cli.data.portions as p\np.BLOCK_BYTES = {BLOCK}\n")
        portions.BLOCK_BYTES = BLOCK
        os.environ["PYTHONPATH"] = str(folder)
        words = ("tokenize", "--input", corpus, "--length", 32, "--train-vocab", 300, "--drop-duplicates", "--output")
        bigs(*words, folder / "whole").fine()
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        os.environ["RAY_ADDRESS"] = cluster.address
        for kills in (0, 3):
            output = folder / f"killed-{kills}"
            command = [sys.executable, "-m", "bigs_cli", *map(str, words), str(output), "--engine", "ray"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for number in range(kills):
                kill_worker(process, output, number)
            out, err = process.communicate(timeout=HANG)
            assert process.returncode == 0, err
            assert out.strip() == str(output / "manifest.json"), (out, err)
            assert content(output) == content(folder / "whole")
            print(f"two workers, {kills} of whose processes are killed, write the bytes of a single process")
        cluster.shutdown()


def kill_worker(process: subprocess.Popen[str], output: Path, number: int) -> None:
    """Kill a process of the cluster while it makes a part, after `number` parts are finished."""
    ends = time.monotonic() + HANG
    while time.monotonic() < ends:
        assert process.poll() is None, process.communicate()[1]
        done = len(list(output.glob(".portions/*/manifest.json")))
        workers = subprocess.run(["pgrep", "-f", "ray::_build_block"], capture_output=True, text=True, check=False)
        if done >= number and list(output.glob(".portions/*/.partial")) and workers.stdout:
            os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
            time.sleep(0.5)
            return
        time.sleep(0.02)
    raise AssertionError("no worker was found")


if __name__ == "__main__":
    main()
