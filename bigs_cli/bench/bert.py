"""BERT in PyTorch (transformers), as the alternative to a BiGS of the same width in `bigs bench`."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bigs_cli.models.config import BiGSConfig

if TYPE_CHECKING:
    from bigs_cli.bench.train_probe import Setting

PACKAGES = ("torch", "transformers")
_IGNORED = -100  # the label of positions without a prediction


def bert_config(config: BiGSConfig) -> BiGSConfig:
    """Return the config of a BERT with the width of `config` and about as many parameters.

    Heads have 64 channels and feed-forward layers 4 H. A layer of BERT then has 12 H² parameters, and a layer of a
    gated BiGS 4 H² + 3 H·I.
    """
    H = config.hidden_size
    layers = config.num_hidden_layers * (4 * H + 3 * config.intermediate_size) // (12 * H)
    changes = {"intermediate_size": 4 * H, "num_attention_heads": max(1, H // 64), "num_hidden_layers": max(1, layers)}
    return config.model_copy(update={"block": "stacked", "mixer": "attention", **changes})


def make_bert(config: BiGSConfig) -> Any:
    """Return an untrained BertForMaskedLM of `bert_config`, with the attention that transformers chooses (SDPA)."""
    from transformers import BertConfig, BertForMaskedLM  # pyright: ignore[reportMissingImports]

    bert = bert_config(config)
    names = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"),
        "max_position_embeddings",
    )
    return BertForMaskedLM(BertConfig(**{name: getattr(bert, name) for name in names}))


def bert_run(setting: Setting) -> Callable[[], None]:
    """Return a function that runs a training step (AdamW, 15% of the tokens predicted) or a forward pass of BERT.

    It runs on the first GPU, if there is one. bfloat16 is mixed precision (`torch.autocast`).
    """
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = make_bert(setting.model).to(device)
    draw = np.random.default_rng(0)
    ids = draw.integers(200, setting.model.vocab_size, (setting.batch, setting.length))
    labels = np.where(draw.random(ids.shape) < 0.15, ids, _IGNORED)
    inputs, targets = (torch.from_numpy(array).to(device) for array in (ids, labels))
    trains = setting.pass_ == "train"
    model.train(trains)
    part = model.bert if setting.pass_ == "encode" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

    def run() -> None:
        mixed = torch.autocast(device, torch.bfloat16, enabled=setting.compute.dtype == "bfloat16")
        with mixed, torch.set_grad_enabled(trains):
            outputs = part(input_ids=inputs, **({"labels": targets} if trains else {}))
        if trains:
            outputs.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def bert_memory() -> int:
    """Return the peak memory in bytes: that of the GPU, or else of this process."""
    import torch  # pyright: ignore[reportMissingImports]

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
