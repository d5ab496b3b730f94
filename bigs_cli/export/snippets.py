"""The code on a model card that makes inputs, so that the snippet of every format runs as it is printed."""

from __future__ import annotations

import json

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.forward import OUTPUTS
from bigs_cli.export.settings import Format, trained_length
from bigs_cli.models.config import BiGSConfig, Head

AUTO_CLASSES: dict[str, Head] = {
    "AutoModel": "encoder",
    "AutoModelForMaskedLM": "masked-lm",
    "AutoModelForPreTraining": "pretraining",
    "AutoModelForNextSentencePrediction": "next-sentence",
    "AutoModelForSequenceClassification": "sequence-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMultipleChoice": "multiple-choice",
}
"""The class of `transformers` that loads each head."""

_EXAMPLES: dict[Head, str] = {
    "masked-lm": '"The goal of life is [MASK]."',
    "pretraining": '"The goal of life is [MASK]."',
    "next-sentence": '"She opened the door.", "It was cold outside."',
    "question-answering": '"What is the capital?", "Oslo is the capital of Norway."',
    "multiple-choice": '["She opened the door"] * 2, ["and went in.", "and flew away."]',
}


def snippet(model: OpenModel, chosen: Format, folder: str, file: str, length: int) -> str:
    """Return the code that loads and runs an export: `folder` as seen from the folder above it, `file` in it.

    `length` is the tokens of a row, of formats that fix it.
    """
    config = model.config
    path = json.dumps(folder, ensure_ascii=False)[1:-1]  # as it is written in double quotes
    by_length = _with_tokenizer(config, path, length) if model.tokenizer else _without_tokenizer(config, length)
    return chosen.snippet.format(
        folder=path,
        file=file,
        auto=next(auto for auto, head in AUTO_CLASSES.items() if head == config.head),
        outputs=f"[{', '.join(OUTPUTS[config.head])}]",
        numpy_inputs=by_length,
        torch_inputs=_torch_inputs(model, path),
    )


def _example(config: BiGSConfig) -> str:
    return _EXAMPLES.get(config.head, '"A text."')


def _with_tokenizer(config: BiGSConfig, folder: str, length: int) -> str:
    """Return code that makes `ids`, `mask` and `types` of an example by the `tokenizers` library."""
    choices = config.head == "multiple-choice"
    texts = f"list(zip({_example(config)}))" if choices else f"[({_example(config)})]"
    array = (
        "np.array([[getattr(row, name) for row in rows]])"
        if choices
        else "np.array([getattr(row, name) for row in rows])"
    )
    return f"""from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("{folder}/tokenizer.json")
tokenizer.enable_truncation({length})
tokenizer.enable_padding(length={length}, pad_id={config.pad_token_id})
rows = tokenizer.encode_batch({texts})
ids, mask, types = ({array} for name in ("ids", "attention_mask", "type_ids"))"""


def _without_tokenizer(config: BiGSConfig, length: int) -> str:
    shape = f"(1, 2, {length})" if config.head == "multiple-choice" else f"(1, {length})"
    return f"""
ids = np.random.default_rng(0).integers({config.vocab_size}, size={shape})  # there is no tokenizer: put your ids here
mask, types = np.ones_like(ids), np.zeros_like(ids)"""


def _torch_inputs(model: OpenModel, folder: str) -> str:
    """Return code that makes `inputs`, the arguments of a model of `transformers`."""
    config, choices = model.config, model.config.head == "multiple-choice"
    longest = trained_length(model)
    if not model.tokenizer:
        shape = f"(1, 2, {longest})" if choices else f"(1, {longest})"
        return f"""
import torch

inputs = {{"input_ids": torch.randint({config.vocab_size}, {shape})}}  # there is no tokenizer: put your ids here"""
    padding = ", padding=True" if choices else ""
    if not config.mask_padding:
        padding = f', padding="max_length", max_length={longest}, truncation=True'
    row = "\ninputs = {name: value[None] for name, value in inputs.items()}" if choices else ""
    return f"""from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{folder}", trust_remote_code=True)
inputs = tokenizer({_example(config)}{padding}, return_tensors="pt"){row}"""
