"""The tokenizer beside an export, so that `AutoTokenizer` and our own reader both load it."""

from __future__ import annotations

from pathlib import Path

from bigs_cli.data.encode import add_special_tokens
from bigs_cli.data.tokenizer import load_tokenizer, save_tokenizer


def write_tokenizer(source: Path, folder: Path, longest: int) -> None:
    """Write tokenizer.json, vocab.txt and the tokenizer_config.json that `transformers` reads."""
    save_tokenizer(
        add_special_tokens(load_tokenizer(source)),
        folder,
        model_max_length=longest,
        model_input_names=["input_ids", "attention_mask", "token_type_ids"],
        clean_up_tokenization_spaces=True,
    )
