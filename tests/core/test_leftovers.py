"""Drafts of files and folders that a killed process left, and two processes that write the same output."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from bigs_cli.checkpoints.folder import atomic_directory
from bigs_cli.checkpoints.run import RunFolder, runs
from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import atomic_write, check_output_file, write_lines
from bigs_cli.recipe import dump_recipe, load_recipe
from tests.tiny import bigs


def test_only_drafts_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    left, living, other = (tmp_path / f".{name}.txt.bigs-abcdefg{i}" for name, i in ("a1", "a2", "b1"))
    for path in (left, living, other):
        path.write_text("half")
    with living.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_lines(tmp_path / "a.txt", [1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [living.name, other.name, "a.txt"]


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(pipe) as file:
        file.write(b"told")
    assert os.read(reader, 99) == b"told"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_full_device_is_named() -> None:
    done = bigs("recipes", "copy", "small", "/dev/full", "--force")
    assert done.code == 2  # not a recipe name
    with pytest.raises(OSError) as full, atomic_write(Path("/dev/full")) as file:  # noqa: PT011 - its file name is checked
        file.write(b"much")
    assert full.value.filename == "/dev/full"


def test_an_unwritable_output_folder_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "closed" / "deep" / "a.jsonl"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(RequestError, match=f"--predictions {place} cannot be written: {tmp_path} is read-only"):
        check_output_file(place, "--predictions")
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="file is not a folder"):
        check_output_file(tmp_path / "file" / "a.jsonl", "--predictions")
    with pytest.raises(RequestError, match=r"is a folder\. Name a file"):
        check_output_file(tmp_path, "--predictions")


def test_the_draft_of_a_killed_export_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".out.bigs-partial" / "deep").mkdir(parents=True)
    (tmp_path / ".out.bigs-partial" / "half").write_text("half")
    with atomic_directory(tmp_path / "out") as draft:
        (draft / "whole").write_text("whole")
        with pytest.raises(RequestError, match=r"Another process is writing .*out"), atomic_directory(tmp_path / "out"):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "whole"]


def test_a_draft_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (tmp_path / ".out.bigs-partial").symlink_to(tmp_path / "precious")
    with pytest.raises(RequestError, match="exists and is not a folder"), atomic_directory(tmp_path / "out"):
        pass
    assert (tmp_path / "precious" / "file").read_text() == "mine"


def begin(run: RunFolder) -> None:
    with run.lock():
        run.start(dump_recipe(load_recipe("demo")), {"command": []}, resume=False)


def test_an_interrupted_start_of_a_run_can_be_repeated(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    for name in ("environment.json", "config.json", ".tokenizer.json.bigs-abcdefg1"):
        (run.path / name).write_text("{}")
    begin(run)
    assert run.is_run
    with pytest.raises(RequestError, match=r"is in use\. Continue the run in it with `bigs pretrain"):
        run.check(resume=False)


@pytest.mark.parametrize("names", [("config.json", "tokenizer.json"), ("environment.json", "notes.txt")])
def test_a_folder_with_other_files_is_in_use(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(RequestError, match=r"is in use\. Name another"):
        RunFolder(tmp_path).check(resume=False)


def test_the_last_started_run_is_the_newest_even_if_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGS_RUNS", str(tmp_path))
    made = [RunFolder(tmp_path / name) for name in ("b", "suite/c", "a")]
    for number, run in enumerate(made):
        begin(run)
        if not number:  # It was started when the clock was a day ahead.
            ahead = run.recipe_file.stat().st_mtime_ns + 86_400 * 10**9
            os.utime(run.recipe_file, ns=(ahead, ahead))
    assert runs() == made[::-1]
