"""The StableHLO export, loaded by `jax.export` in a process without bigs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.check import model_run
from bigs_cli.export.formats import export
from bigs_cli.export.settings import Inputs, Settings, inputs_of
from bigs_cli.export.stablehlo_file import program_run
from tests.checkpoints.tiny import config, parameters

USE = """
import sys
import jax, jax.export
import numpy as np
from safetensors.numpy import load_file

program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
given = np.load(sys.argv[3])
outputs = [program.call(load_file(sys.argv[2]), *(given[name][:rows] for name in ("ids", "mask", "types")))[0]
           for rows in (1, 5)]
np.savez(sys.argv[4], one=outputs[0], five=outputs[1])
assert not [name for name in sys.modules if name.startswith("bigs")]
print(*program.platforms)
"""


@pytest.mark.parametrize("head", ["masked-lm", "multiple-choice"])
def test_programs_run_without_bigs_for_any_number_of_rows(head: str, tmp_path: Path) -> None:
    of = config(head=head)
    original = OpenModel("tiny", of, parameters(of), None, "a tiny model")
    result = export(original, "stablehlo", tmp_path / "out", Settings(lengths=(3, 5)))
    assert set(result.differences) == {"model-3.stablehlo", "model-5.stablehlo"}
    for file in (tmp_path / "out").glob("*.stablehlo"):
        assert b".py" not in file.read_bytes()  # no source paths of this machine
    inputs = inputs_of(original, 3, rows=5)
    np.savez(tmp_path / "in.npz", **inputs._asdict())
    files = [tmp_path / "out" / "model-3.stablehlo", tmp_path / "out" / "model.safetensors"]
    command = [sys.executable, "-c", USE, *map(str, [*files, tmp_path / "in.npz", tmp_path / "out.npz"])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cpu", "cuda", "tpu"]
    outputs = np.load(tmp_path / "out.npz")
    (expected,) = model_run(of, original.flat)(inputs)
    np.testing.assert_allclose(outputs["five"], expected, atol=5e-6 * np.abs(expected).max())
    (expected,) = model_run(of, original.flat)(Inputs(*(array[:1] for array in inputs)))
    np.testing.assert_allclose(outputs["one"], expected, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("mask_padding", [False, True])
def test_rows_longer_than_the_longest_dense_matrix(mask_padding: bool, tmp_path: Path) -> None:
    of = config(hidden_size=16, max_position_embeddings=1300, mask_padding=mask_padding)
    # The published initial decay rates: a kernel without decay would sum 1,300 random numbers.
    flat = {path: -np.abs(array) if path.endswith("A_re") else array for path, array in parameters(of).items()}
    result = export(OpenModel("tiny", of, flat, None, "a tiny model"), "stablehlo", tmp_path / "out")
    assert result.differences.keys() == {"model-1300.stablehlo"}  # `export` has checked that it is below 5e-5


@pytest.mark.parametrize(("name", "value"), [("ids", 11), ("ids", -1), ("types", 2), ("types", -1)])
def test_ids_out_of_range_give_nan(name: str, value: int, tmp_path: Path) -> None:
    of = config(head="token-classification")
    original = OpenModel("tiny", of, parameters(of), None, "a tiny model")
    export(original, "stablehlo", tmp_path / "out")
    inputs = inputs_of(original, 5)
    getattr(inputs, name)[0, 0] = value
    (logits,) = program_run(tmp_path / "out", 5)(inputs)
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()
