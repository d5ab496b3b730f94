"""One measurement of `bigs bench export`, run as a separate process: prints the seconds of a forward pass."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bigs_cli.bench.bert import make_bert
from bigs_cli.checkpoints.folder import read_model
from bigs_cli.core.memory import keep_freed_memory
from bigs_cli.export.check import model_run
from bigs_cli.export.onnx_file import session_run
from bigs_cli.export.settings import Inputs
from bigs_cli.export.stablehlo_file import program_run
from bigs_cli.export.transformers_folder import torch_run
from bigs_cli.models.config import BiGSConfig

_PASSES = 5


def measure(runner: str, folder: Path, length: int, batch: int, config: dict[str, Any]) -> float:
    """Return the seconds of a forward pass: the median of five, after two warm-up passes."""
    ids = np.random.default_rng(0).integers(200, config["vocab_size"], (batch, length)).astype(np.int32)
    inputs = Inputs(ids, np.ones_like(ids), np.zeros_like(ids))
    run = _runner(runner, folder, length, config)
    times = []
    for _ in range(_PASSES + 2):
        started = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def _runner(name: str, folder: Path, length: int, config: dict[str, Any]) -> Callable[[Inputs], Any]:
    if name == "onnx":
        return session_run(folder / "model.onnx")
    if name == "stablehlo":
        return program_run(folder, length)
    if name == "transformers":
        return torch_run(folder, "masked-lm")
    if name == "bert":
        return _bert(config)
    loaded = read_model(folder)
    return model_run(loaded.config, loaded.flat)


def _bert(config: dict[str, Any]) -> Callable[[Inputs], Any]:
    import torch  # pyright: ignore[reportMissingImports]

    model = make_bert(BiGSConfig.model_validate(config))
    model.train(False)

    def run(inputs: Inputs) -> Any:
        ids, mask, types = (torch.from_numpy(np.asarray(array, np.int64)) for array in inputs)
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits.numpy()

    return run


if __name__ == "__main__":
    keep_freed_memory()
    arguments = json.loads(sys.argv[1])
    print(json.dumps(measure(**{**arguments, "folder": Path(arguments["folder"])})))
