"""`--profile`: traces that contain the steps of a run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from bigs_cli.training.profile import SKIPPED, STEPS
from tests.tiny import bigs, finetune, pretrain


def traced_steps(folder: Path) -> list[int]:
    (file,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    return sorted({int(event["args"]["step_num"]) for event in events if "step_num" in event.get("args", {})})


def test_pretraining_is_traced(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    done = bigs(*pretrain(shards, tmp_path / "run", "--set", "steps=18", "--profile", folder)).fine()
    assert traced_steps(folder) == list(range(SKIPPED, SKIPPED + STEPS))
    assert f"or the folder {folder} with xprof" in done.err


def test_a_trace_ends_with_the_run(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    done = bigs(*finetune("cola", pretrained, glue, tmp_path / "run", "--profile", tmp_path / "profile")).fine()
    assert "Wrote a profile" in done.err
    assert traced_steps(tmp_path / "profile") == [SKIPPED]
    few = ("--set", "epochs=1", "--profile", tmp_path / "none")
    assert "there were fewer" in bigs(*finetune("cola", pretrained, glue, tmp_path / "few", *few)).fine().err


def test_profiles_of_suites_and_into_files_are_refused(pretrained: Path, glue: Path, tmp_path: Path) -> None:
    ask = ("finetune", "glue", "--from", pretrained, "--data", glue, "--run", tmp_path / "run")
    assert "--profile is for a single run" in bigs(*ask, "--profile", tmp_path / "profile").err
    (tmp_path / "file").write_text("")
    assert f"The folder {tmp_path}/file" in bigs(*ask, "--profile", tmp_path / "file").err
    assert not (tmp_path / "run").exists()
