"""Shards that are made in portions and merged have the same bytes as those made at once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigs_cli.core.errors import RequestError
from bigs_cli.data import portions, ray_engine
from bigs_cli.data.portions import Portion
from bigs_cli.data.shards import open_shards
from bigs_cli.data.sources import Part
from bigs_cli.data.staging import staging
from tests.data.conftest import make_documents
from tests.data.test_build import content
from tests.tiny import bigs

LENGTH = ("--length", 16, "--heldout", 0.1)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two dozen files of unequal sizes in blocks of a few files; every third document is a duplicate."""
    monkeypatch.setattr(portions, "BLOCK_BYTES", 2000)
    folder = tmp_path / "corpus"
    folder.mkdir()
    documents = make_documents(240)
    for number in range(24):
        chosen = documents[number * 8 : number * 8 + 1 + number % 8] + documents[: number % 3]
        lines = [json.dumps({"text": text}) + "\n" for text in chosen]
        (folder / f"{number:02d}.jsonl").write_text("".join(lines))
    return folder


def tokenize(corpus: Path, output: Path, *more: object) -> Any:
    return bigs("tokenize", "--input", corpus, "--output", output, *LENGTH, "--train-vocab", 200, *more)


@pytest.mark.parametrize("option", [(), ("--drop-duplicates",), ("--cross-documents", "--drop-duplicates")])
def test_the_bytes_do_not_depend_on_the_number_of_parts(corpus: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
    tokenize(corpus, tmp_path / "whole", *option).fine()
    whole: dict[str, Any] = content(tmp_path / "whole")
    assert whole["manifest.json"]["report"]["duplicate_documents"] > 0 or not option
    for count in (1, 3, 8):
        output = tmp_path / f"of-{count}"
        for number in reversed(range(1, count + 1)):
            made = tokenize(corpus, output, *option, "--part", f"{number}/{count}").fine()
            assert f"join them with: bigs tokenize --merge --output {output}" in made.err
        merged = bigs("tokenize", "--merge", "--output", output).fine()
        assert merged.out.strip() == str(output / "manifest.json")
        assert content(output) == whole


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 12))
def test_every_file_is_in_one_part(sizes: list[int], count: int) -> None:
    parts = [Part("text", 1.0, str(number), size, lambda skip: iter(())) for number, size in enumerate(sizes)]
    ranges = [Portion(number, count).range_of(parts) for number in range(1, count + 1)]
    assert [number for each in ranges for number in each] == list(range(len(sizes)))


def test_an_interrupted_part_is_resumed(corpus: Path, tmp_path: Path) -> None:
    tokenize(corpus, tmp_path / "whole").fine()
    output = tmp_path / "parts"
    tokenize(corpus, output, "--part", "1/2").fine()
    (corpus / "20.jsonl").rename(tmp_path / "20.jsonl")
    lines = (tmp_path / "20.jsonl").read_text().splitlines()
    (corpus / "20.jsonl").write_text("\n".join([*lines, "{"]) + "\n")
    assert tokenize(corpus, output, "--part", "2/2").code == 2
    (tmp_path / "20.jsonl").replace(corpus / "20.jsonl")
    tokenize(corpus, output, "--part", "2/2", "--resume").fine()
    tokenize(corpus, output, "--part", "2/2", "--resume").fine()
    bigs("tokenize", "--merge", "--output", output).fine()
    assert content(output) == content(tmp_path / "whole")


def test_parts_that_do_not_fit_are_refused(corpus: Path, tmp_path: Path) -> None:
    def refused(*arguments: object) -> str:
        done = bigs("tokenize", *arguments)
        assert (done.code, done.out) == (2, "")
        return done.err

    output = tmp_path / "out"
    merge = ("--merge", "--output", output)
    assert f"There are no parts to merge in {output}" in refused(*merge)
    tokenize(corpus, output, "--part", "1/3").fine()
    assert "Parts are missing in" in refused(*merge)
    assert "same command and --part 2/3" in refused(*merge)
    tokenize(corpus, output, "--part", "2/3", "--heldout", 0.2).fine()
    tokenize(corpus, output, "--part", "3/3").fine()
    assert "Part 2/3 was made with other settings than part 1/3" in refused(*merge)
    shutil.rmtree(output / ".portions" / "00002-of-00003")
    (corpus / "30.jsonl").write_text('{"text": "One more."}\n')
    tokenize(corpus, output, "--part", "2/3").fine()
    assert "Part 2/3 was made of other files than part 1/3" in refused(*merge)
    tokenize(corpus, output, "--part", "1/2").fine()
    assert "has parts of 3, not of 2" in refused(*merge)
    for text in ("0/3", "4/3", "3", "a/b"):
        with pytest.raises(RequestError, match="is not a part such as 3/64"):
            Portion.parse(text)
    assert "--merge only joins the parts in --output. Leave out --length." in refused(*merge, "--length", 16)
    (output / "note").write_text("mine")
    assert "contains other files" in refused(
        "--input", corpus, "--output", output, *LENGTH, "--train-vocab", 200, "--part", "1/2"
    )
    (output / "note").unlink()
    assert "Leave it out, or leave out --part" in refused(
        "--input", corpus, "--output", output, *LENGTH, "--train-vocab", 200, "--part", "1/2", "--limit-documents", 3
    )


def test_an_interrupted_part_removes_nothing_of_the_others(corpus: Path, tmp_path: Path) -> None:
    """Also the first one, which has made the folder."""
    output = tmp_path / "new" / "out"
    first, second = (Portion.parse(f"{number}/2").folder(output) for number in (1, 2))

    def interrupted(folder: Path) -> None:
        with staging(folder):
            if not first.exists():
                tokenize(corpus, output, "--part", "1/2").fine()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(second)
    assert (first / "manifest.json").is_file()
    assert not second.exists()
    with pytest.raises(KeyboardInterrupt):
        interrupted(tmp_path / "other" / "place")
    assert not (tmp_path / "other").exists()


def test_a_modified_part_is_not_merged(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for part in ("1/2", "2/2"):
        tokenize(corpus, output, "--part", part).fine()
    file = output / ".portions" / "00001-of-00002" / "train-00000.bin"
    file.write_bytes(bytes(file.stat().st_size))
    done = bigs("tokenize", "--merge", "--output", output)
    assert (done.code, "train-00000.bin was modified" in done.err) == (2, True)
    assert not (output / "manifest.json").exists()


def ray_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace Ray by a module whose tasks run when they are started; tests/long/ray_cluster.py runs a cluster."""
    ray, errors = ModuleType("ray"), ModuleType("ray.exceptions")

    def remote(**_: object) -> Any:
        return lambda task: SimpleNamespace(remote=task)

    vars(ray).update(
        init=lambda **_: None,
        shutdown=lambda: None,
        cluster_resources=lambda: {"CPU": 2},
        remote=remote,
        wait=lambda tasks: (tasks, []),
        get=lambda tasks: tasks,
    )
    vars(errors).update(
        RayError=type("RayError", (Exception,), {}), RayTaskError=type("RayTaskError", (Exception,), {})
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)


def test_ray_with_overwrite_replaces_parts_with_other_settings(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also corrupt ones and those of other files. Parts with the same settings are kept."""
    ray_in_this_process(monkeypatch)
    output, ray = tmp_path / "out", ("--engine", "ray")
    for part, heldout in (("1/4", 0.1), ("2/4", 0.2), ("3/4", 0.1)):
        tokenize(corpus, output, "--part", part, "--heldout", heldout).fine()
    kept, corrupt = (Portion.parse(part).folder(output) for part in ("1/4", "3/4"))
    (corrupt / "manifest.json").write_text("{")
    made = (kept / "manifest.json").stat().st_mtime_ns
    monkeypatch.setattr(ray_engine, "merge", lambda folder, overwrite: open_shards(kept).manifest)
    assert "--overwrite" in tokenize(corpus, output, *ray).err
    tokenize(corpus, output, *ray, "--overwrite").fine()
    assert (kept / "manifest.json").stat().st_mtime_ns == made
    monkeypatch.undo()
    ray_in_this_process(monkeypatch)
    monkeypatch.setattr(portions, "BLOCK_BYTES", 2000)
    (corpus / "30.jsonl").write_text('{"text": "One more."}\n')
    tokenize(corpus, output, *ray, "--overwrite").fine()
    tokenize(corpus, tmp_path / "whole").fine()
    assert content(output) == content(tmp_path / "whole")


def test_ray_is_an_extra(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/long/ray_cluster.py runs a cluster."""
    monkeypatch.setitem(sys.modules, "ray", None)
    for options, message in (
        ((), "pip install 'bigs[ray]'"),
        (("--part", "1/2"), "--engine ray makes all parts itself"),
        (("--resume",), "--engine ray continues by itself"),
        (("--limit-documents", 9), "leave out --engine ray"),
    ):
        done = tokenize(corpus, tmp_path / "out", "--engine", "ray", *options)
        assert (done.code, message in done.err) == (2, True), done.err
    assert not (tmp_path / "out").exists()
