"""Several real processes, connected over the loopback interface, start and end together.

test_batch_schedule.py tests that two processes train like one; tests/long/processes.py tests more processes.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from bigs_cli.reporting.metrics_log import curve, read_metrics
from tests.core.test_processes import free_port
from tests.models.test_sharding import back_to, near
from tests.tiny import HANG, bigs, finetune, pretrain, start_bigs


def start(count: int, command: list[object]) -> list[Popen[str]]:
    """Start `count` processes of one training run; each has one CPU device."""
    together = ("--coordinator", f"127.0.0.1:{free_port()}", "--processes", count, "--process")
    return [start_bigs(*command, *together, index) for index in range(count)]


def finish(running: list[Popen[str]], code: int = 0) -> list[str]:
    """Wait until all end with `code`, and return their stderr. Only process 0 prints the run folder to stdout."""
    messages = []
    try:
        for process in running:
            out, err = process.communicate(timeout=HANG)
            assert process.returncode == code, err
            assert bool(out) == (process is running[0] and code == 0), out
            messages.append(err)
    finally:
        for process in running:
            process.kill()
    return messages


def wait_for_step(run: Path, step: int, running: list[Popen[str]]) -> None:
    """Wait until the run has logged `step`."""
    ends = time.monotonic() + 90
    while not any(entry["step"] >= step for entry in read_metrics(run / "metrics.jsonl")):
        assert time.monotonic() < ends
        assert all(process.poll() is None for process in running)
        time.sleep(0.02)


def test_an_error_in_one_process_ends_all_processes(shards: Path, tmp_path: Path) -> None:
    """Process 0 rejects the run folder; process 1, which does not check it, loses contact with process 0."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "note").write_text("mine")
    first, second = start(2, pretrain(shards, run))
    (error,) = finish([first], 2)
    assert "is in use" in error
    (error,) = finish([second], 1)
    assert "lost contact with process 0 of 2" in error
    assert error.count("\nbigs: ") + error.startswith("bigs: ") == 1


def test_a_lost_process_ends_the_others(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    running = start(2, pretrain(shards, run, steps=100_000))
    wait_for_step(run, 1, running)
    running[1].kill()
    running[1].communicate()
    killed = time.monotonic()
    (error,) = finish([running[0]], 1)
    assert time.monotonic() - killed < 120
    assert "lost contact with process 1 of 2" in error


def test_invalid_process_options_are_rejected(shards: Path, tmp_path: Path) -> None:
    command = pretrain(shards, tmp_path / "run")
    for options, message in (
        (("--process", 0), "must be given together"),
        (("--coordinator", "here", "--process", 0, "--processes", 2), "not HOST:PORT"),
        (("--coordinator", "here:1", "--process", 2, "--processes", 2), "count from 0"),
    ):
        done = bigs(*command, *options)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
    assert not (tmp_path / "run").exists()


def test_two_processes_run_a_sweep_with_seeds_like_one(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """13 dev examples are evaluated on two devices."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = ("--sweep", "optimizer.learning_rate=1e-3,3e-3", "--seeds", 2, "--set", "epochs=1")
    bigs(*finetune("mrpc", pretrained, glue, one, *options)).fine()
    messages = finish(start(2, finetune("mrpc", pretrained, glue, two, *options)))
    assert "Setting 2 of 2" in messages[0]
    for name in (f"learning_rate={rate}/seed-{seed}" for rate in ("1e-3", "3e-3") for seed in (42, 43)):
        first, second = (json.loads((run / name / "results.json").read_text()) for run in (one, two))
        assert second["metrics"] == pytest.approx(first["metrics"], abs=1e-6)
        losses = [curve(read_metrics(run / name / "metrics.jsonl"), "loss")[1] for run in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
        lines = [(run / name / "predictions.jsonl").read_text().splitlines() for run in (one, two)]
        assert [json.loads(line)["id"] for line in lines[1]] == [json.loads(line)["id"] for line in lines[0]]
    again = finish(start(2, ["finetune", "--resume", "--run", two]))
    assert again[0].count("is finished") == 4


def test_two_processes_start_from_a_model_with_a_teacher(pretrained: Path, shards: Path, tmp_path: Path) -> None:
    models = ("--from", pretrained, "--teacher", pretrained)
    bigs(*pretrain(shards, tmp_path / "one", *models)).fine()
    finish(start(2, pretrain(shards, tmp_path / "two", *models)))
    one, two = (curve(read_metrics(tmp_path / run / "metrics.jsonl"), "loss")[1] for run in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4)


def test_two_processes_train_at_a_url_like_one(shards: Path, pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """Only process 0 reads and writes there. Each process has one half of the arrays."""
    bigs(*pretrain(shards, tmp_path / "one", checkpoint__every_steps=3, checkpoint__keep=9)).fine()
    url, split = f"local://{tmp_path}/two", ("--set", "mesh.fsdp=2")
    finish(start(2, pretrain(shards, url, *split, checkpoint__every_steps=3, checkpoint__keep=9)))
    near(tmp_path / "two", tmp_path / "one")
    back_to(tmp_path / "two", tmp_path / "again", 3)
    messages = finish(start(2, ["pretrain", "--resume", "--run", f"local://{tmp_path}/again"]))
    assert "after step 3." in messages[0]
    near(tmp_path / "again", tmp_path / "one")
    tuned = f"local://{tmp_path}/tuned"
    finish(start(2, finetune("mrpc", pretrained, glue, tuned, "--set", "epochs=1")))
    assert (tmp_path / "tuned" / "results.json").is_file()
    assert not list((tmp_path / "cache").rglob("copy/*/*"))


def under_open_mpi(count: int, arguments: list[object]) -> list[Popen[str]]:
    """Start processes as mpirun does: JAX computes the port of the first one from the number of the job."""
    for job in range(1, 4096):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", job % 2**12 + 65535 - 2**12 + 1))
            break
    address = {"OMPI_MCA_orte_hnp_uri": f"{job * 2**12}.0;tcp://127.0.0.1:1", "OMPI_COMM_WORLD_SIZE": str(count)}
    ranks = ({"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_LOCAL_RANK": str(i)} for i in range(count))
    return [start_bigs(*arguments, **address, **rank) for rank in ranks]


@pytest.fixture(scope="module")
def suite(pretrained: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tasks MNLI and MRPC, and with `one`, a suite of both by one process. Do not modify it."""
    folder = tmp_path_factory.mktemp("suite")
    for name in ("MNLI", "MRPC"):
        shutil.copytree(glue / name, folder / "tasks" / name)
    bigs(*finetune("glue", pretrained, folder / "tasks", folder / "one", "--set", "epochs=1")).fine()
    return folder


def test_two_processes_evaluate_like_one(pretrained: Path, suite: Path) -> None:
    for arguments, launch in (
        (("mnli", "--model", suite / "one" / "mnli", "--data", suite / "tasks"), start),
        (("mlm", "--model", pretrained), under_open_mpi),
    ):
        command = ["eval", *arguments, "--json"]
        one = json.loads(bigs(*command).fine().out)
        first, second = launch(2, command)
        out, err = first.communicate(timeout=HANG)
        assert first.returncode == 0, err
        assert json.loads(out)["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
        assert second.communicate(timeout=HANG)[0] == ""
        assert second.returncode == 0


FAILING = """
import sys
from bigs_cli.__main__ import main
from bigs_cli.core.errors import BigsError
from bigs_cli.training import finetune
def fail(*arguments):
    raise BigsError("There is no memory.")
if sys.argv[-1] == "1":
    finetune.initial_parameters = fail
main()
"""


def test_a_failure_in_one_process_ends_a_sweep(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    """It must not go on with the next setting while the others wait."""
    sweep = ("--sweep", "optimizer.learning_rate=1e-3,3e-3", "--set", "epochs=1")
    words = [str(word) for word in finetune("cola", pretrained, glue, tmp_path / "run", *sweep)]
    together = ["--coordinator", f"127.0.0.1:{free_port()}", "--processes", "2", "--process"]
    running = [
        Popen([sys.executable, "-c", FAILING, *words, *together, str(index)], stdout=PIPE, stderr=PIPE, text=True)
        for index in range(2)
    ]
    try:
        assert [process.wait(HANG) for process in running] == [1, 1]
        assert "lost contact with process 1 of 2" in running[0].communicate()[1]
    finally:
        for process in running:
            process.kill()
            process.communicate()


def test_two_processes_run_the_glue_suite_like_one(pretrained: Path, suite: Path, tmp_path: Path) -> None:
    """MRPC starts from the MNLI run, which process 0 has just written. Only process 0 writes a submission."""
    tasks, root = suite / "tasks", tmp_path / "suite"
    messages = finish(under_open_mpi(2, finetune("glue", pretrained, tasks, root, "--set", "epochs=1")))
    assert "Task 2 of 2: mrpc" in messages[0]
    assert f"from: {root}/mnli" in (root / "mrpc" / "recipe.yaml").read_text()
    for task in ("mnli", "mrpc"):
        one, two = (json.loads((run / task / "results.json").read_text()) for run in (suite / "one", root))
        assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
    table = ("eval", "glue", "--model", root, "--coordinator", f"127.0.0.1:{free_port()}")
    finish([start_bigs(*table, PMI_RANK=str(rank), PMI_SIZE="2") for rank in range(2)])  # as mpirun of MPICH does
    submit = ["eval", "glue", "--model", root, "--data", tasks, "--submission", tmp_path / "glue.zip"]
    finish(start(2, submit))
    assert (tmp_path / "glue.zip").is_file()
