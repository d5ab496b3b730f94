"""Files are replaced completely or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.core.environment import describe_environment
from bigs_cli.core.errors import BigsError, RequestError, did_you_mean
from bigs_cli.core.files import atomic_write, sha256, to_json, write_json, write_lines


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path, "w") as file:
        file.write("old ü")

    def fail() -> None:
        with atomic_write(path, "w") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old ü"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_sorted_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ü"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "a": "ü",\n  "b": 1\n}\n'
    assert sha256(tmp_path / "a.json") == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text())["b"] == 1


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    values = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, 2)], "c": {"d": np.float64("nan"), "e": "NaN", "f": None}}
    expected = {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": None, "e": "NaN", "f": None}}
    write_json(tmp_path / "a.json", values)
    write_lines(tmp_path / "a.jsonl", [values])
    for text in (to_json(values), (tmp_path / "a.json").read_text(), (tmp_path / "a.jsonl").read_text()):
        assert json.loads(text, parse_constant=pytest.fail) == expected


def test_suggestions_are_near_or_none() -> None:
    assert did_you_mean("mrcp", ["mrpc", "cola"]) == " Did you mean 'mrpc'?"
    assert did_you_mean("zzz", ["mrpc", "cola"]) == ""


def test_errors_have_their_exit_codes() -> None:
    assert (BigsError.exit_code, RequestError.exit_code) == (1, 2)


def test_the_environment_is_plain_json() -> None:
    described = json.loads(json.dumps(describe_environment()))
    assert described["packages"]["bigs"]
    assert described["devices"][0].startswith("cpu")


def test_files_of_a_run_have_the_permissions_of_the_umask(pretrained: Path, models: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for path in (*pretrained.rglob("*"), *models.rglob("*")):
        expected = (0o777 if path.is_dir() else 0o666) & ~mask
        assert oct(path.stat().st_mode & 0o777) == oct(expected), path
