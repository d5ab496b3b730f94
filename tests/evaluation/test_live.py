"""`bigs runs serve`: pages about runs, for this machine only."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from bigs_cli.evaluation.live import Pages
from bigs_cli.reporting.server import make_server
from tests.tiny import bigs, finetune, pretrain


@pytest.fixture
def root(pretrained: Path, tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    shutil.copytree(pretrained, root / "a & b")
    return root


@pytest.fixture
def address(root: Path) -> Iterator[tuple[str, int]]:
    with make_server(Pages(root), 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield "127.0.0.1", server.server_port
        server.shutdown()
        thread.join()


def get(address: tuple[str, int], path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = HTTPConnection(*address)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_a_page_shows_a_run_while_it_is_trained(address: tuple[str, int], root: Path) -> None:
    status, index = get(address, "/")
    assert status == 200
    assert '<a href="/a%20%26%20b">a &amp; b</a>' in index
    status, page = get(address, "/a%20%26%20b")
    assert status == 200
    assert "Words predicted after step 6" in page
    assert 'class="hit"' in page or 'class="miss"' in page
    assert 'http-equiv="refresh"' not in page
    assert "<script" not in page
    run = root / "a & b"
    (run / "results.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 7, "loss": 1.25}) + "\n")
    page = get(address, "/a%20%26%20b")[1]
    assert 'http-equiv="refresh" content="10"' in page
    assert "not finished, step 7 of 6" in page
    (run / "recipe.yaml").write_text("kind: nonsense")
    assert "nonsense" in get(address, "/a%20%26%20b")[1]


def test_a_page_is_made_again_only_after_a_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(root)
    first = pages("a & b")
    monkeypatch.setattr("bigs_cli.evaluation.live.report_on", None)
    assert pages("a & b") is first


def test_sweeps_and_fine_tuning_runs(root: Path, pretrained: Path, glue: Path) -> None:
    axes = ("--sweep", "optimizer.learning_rate=1e-3,3e-3", "--set", "epochs=1")
    bigs(*finetune("cola", pretrained, glue, root / "cola", *axes)).fine()
    pages = Pages(root)
    assert "Sweep cola" in (pages("") or "")
    assert "best" in (pages("cola") or "")
    assert "Confusion matrix" in (pages("cola/learning_rate=1e-3") or "")


def test_other_requests_are_refused(address: tuple[str, int], root: Path) -> None:
    (root.parent / "secret").write_text("secret")
    assert get(address, "/../secret")[0] == 404
    assert get(address, "/none")[0] == 404
    assert get(address, "/", "POST")[0] == 501
    assert get(address, "/", Host="example.org")[0] == 403
    assert get(address, "/", Host=f"localhost:{address[1]}")[0] == 200
    done = bigs("runs", "serve", "--root", root, "--port", address[1])
    assert (done.code, f"Port {address[1]} cannot be used" in done.err) == (2, True)
    assert bigs("runs", "serve", "--root", root / "none").code == 2


def test_data_that_is_gone_shows_no_words(shards: Path, tmp_path: Path) -> None:
    own = shutil.copytree(shards, tmp_path / "shards")
    bigs(*pretrain(own, tmp_path / "runs" / "run", steps=2)).fine()
    shutil.rmtree(own)
    page = Pages(tmp_path / "runs")("run") or ""
    assert "Training curves" in page
    assert "Words predicted" not in page
