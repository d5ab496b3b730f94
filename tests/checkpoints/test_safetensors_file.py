from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from bigs_cli.checkpoints import safetensors_file
from bigs_cli.core.errors import RequestError
from bigs_cli.models.published import to_torch
from tests.checkpoints.tiny import config, parameters, same


def test_written_arrays_are_read_back_including_transposed_views(tmp_path: Path) -> None:
    state = to_torch(parameters(config()), config())
    safetensors_file.write(tmp_path / "file", state)
    assert same(safetensors_file.read(tmp_path / "file"), state)
    with safe_open(tmp_path / "file", framework="np") as file:
        assert file.metadata() == {"format": "pt"}


def test_bfloat16(tmp_path: Path) -> None:
    values = np.arange(6).astype(ml_dtypes.bfloat16)
    safetensors_file.write(tmp_path / "file", {"w": values})
    assert np.array_equal(safetensors_file.read(tmp_path / "file")["w"], values)


@pytest.mark.parametrize("content", [b"", b"no", b"\xff" * 64, b"\x08" + bytes(7) + b'{"a": 1}'])
def test_a_malformed_file_is_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RequestError, match="is not a valid safetensors file"):
        safetensors_file.read(tmp_path / "file")


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        safetensors_file.read(tmp_path / "file")
