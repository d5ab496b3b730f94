"""Differences between a model, the original Flax code and its PyTorch port (github.com/jxiw/BiGS, commit 96fa408)."""

from __future__ import annotations

from bigs_cli.checkpoints.resolve import OpenModel
from bigs_cli.export.settings import Limit, Settings, Tool
from bigs_cli.models.config import Head

_READ_BY_BOTH = {
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_ssm",
    "type_vocab_size",
    "pad_token_id",
    "hidden_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
    "scaling",
    "tie_word_embeddings",
    *("multi_label", "label_threshold"),  # They say what the logits mean, and do not change them.
    "pooler_type",
    "labels",
    *("block", "num_attention_heads", "final_norm"),  # covered by _ARCHITECTURE
}
_NOT_PORTED: tuple[Head, ...] = ("pretraining", "next-sentence")
_CLASSIFIER_DROPOUT_UNREAD: tuple[Head, ...] = ("token-classification", "multiple-choice")
_FIXED_OUTPUTS: dict[Head, int] = {"question-answering": 2}  # the number of outputs, whatever num_labels is
_ELSEWHERE = (
    "use --format transformers, onnx or stablehlo, load the folder with bigs, or train with mask_padding: false."
)


def _trained_on_shorter_rows(model: OpenModel, settings: Settings) -> bool:
    return not model.config.ignores_padding and model.trained_length < model.config.max_position_embeddings


def _has_classifier_dropout(model: OpenModel, settings: Settings) -> bool:
    config = model.config
    differs = config.classifier_dropout not in (None, config.hidden_dropout_prob)
    return differs and config.head in _CLASSIFIER_DROPOUT_UNREAD


def _has_other_outputs(model: OpenModel, settings: Settings) -> bool:
    config = model.config
    return _FIXED_OUTPUTS.get(config.head, config.num_labels) != config.num_labels


_DROPOUT = Limit(
    "classifier_dropout",
    _has_classifier_dropout,
    "The original code does not read classifier_dropout for {head}: if you train the model further there, its dropout "
    "is {hidden_dropout_prob} (hidden_dropout_prob) instead of {classifier_dropout}.",
)


def _is_another_architecture(model: OpenModel, settings: Settings) -> bool:
    config = model.config
    return config.attends or config.block != "gated" or config.final_norm or config.pooler_type == "pair"


_ARCHITECTURE = Limit(
    "mixer",
    _is_another_architecture,
    "The original code has only gated blocks with SSMs, no final LayerNorm and no pooler for pairs, so it cannot run "
    "this model. Use --format transformers, safetensors, onnx or stablehlo, or load the folder with bigs.",
)

ORIGINAL = Tool(
    "the original Flax code",
    frozenset({*_READ_BY_BOTH, "head", "pre_norm"}),
    (
        Limit(
            "mask_padding",
            lambda model, settings: model.config.mask_padding,
            "mask_padding is on, and the original Flax code does not read it: padding changes its outputs, and it pads "
            "every text to {max_position_embeddings} tokens, the only length it takes. Instead, " + _ELSEWHERE,
        ),
        Limit(
            "max_position_embeddings",
            _trained_on_shorter_rows,
            "The original Flax code takes rows of exactly {max_position_embeddings} tokens. This model reads its "
            "padding and was trained on shorter rows, so its outputs differ there. Use --format torch or transformers, "
            "or load the folder with bigs.",
        ),
        Limit(
            "num_labels",
            _has_other_outputs,
            "The original Flax code creates {num_labels} outputs (num_labels) for question answering instead of 2, and "
            "cannot load these weights. Remove id2label and label2id from config.json.",
        ),
        _ARCHITECTURE,
        _DROPOUT,
        Limit(
            "dtype",
            lambda model, settings: settings.dtype != "float32",
            "The original Flax code adds the embeddings in 16 bits. Convert the weights after loading them: "
            "model.params = model.to_fp32(model.params).",
        ),
    ),
)

TORCH_PORT = Tool(
    "the PyTorch port",
    frozenset({*_READ_BY_BOTH, "num_labels", "max_position_embeddings"}),
    (
        Limit(
            "mask_padding",
            lambda model, settings: model.config.mask_padding,
            "mask_padding is on, and the PyTorch port does not read it: padding changes its outputs. Give it one text "
            "at a time, without padding; or " + _ELSEWHERE,
        ),
        Limit(
            "pre_norm",
            lambda model, settings: not model.config.pre_norm,
            "pre_norm is off, but the PyTorch port normalizes before every layer regardless: all its outputs differ. "
            "Use --format flax, transformers, onnx or stablehlo, or load the folder with bigs.",
        ),
        Limit(
            "head",
            lambda model, settings: model.config.head in _NOT_PORTED,
            "The PyTorch port has no {head} model, so it cannot load this folder. Use --format flax or transformers, "
            "or load it with bigs.",
        ),
        Limit(
            "hidden_act",
            lambda model, settings: True,
            "The PyTorch port computes the exact GELU in its layers where the model has the tanh approximation: its "
            "logits differ by about 6e-4 of the largest.",
        ),
        _ARCHITECTURE,
        _DROPOUT,
        Limit(
            "dtype",
            lambda model, settings: settings.dtype != "float32",
            "The PyTorch port's FFT rejects 16-bit numbers on CPU. Convert the model after loading it: model.float().",
        ),
    ),
)
