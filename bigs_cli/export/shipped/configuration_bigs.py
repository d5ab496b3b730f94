"""The configuration of BiGS for `transformers`, stored as config.json in the folder of the weights."""

from __future__ import annotations

from typing import Any

try:
    from transformers import PreTrainedConfig
except ImportError:  # the spelling in transformers 4
    from transformers import PretrainedConfig as PreTrainedConfig


class BiGSConfig(PreTrainedConfig):
    """Size, shape and head of a bidirectional gated state-space model (arXiv 2212.10544)."""

    model_type = "BiGS"

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 1024,
        num_hidden_layers: int = 23,
        intermediate_size: int = 3072,
        num_ssm: int = 64,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        pad_token_id: int = 0,
        hidden_dropout_prob: float = 0.1,
        classifier_dropout: float | None = None,
        layer_norm_eps: float = 1e-12,
        initializer_range: float = 0.02,
        scaling: str = "hippo",
        pre_norm: bool = True,
        tie_word_embeddings: bool = True,
        pooler_type: str = "non_padding_mean",
        mask_padding: bool = False,
        block: str = "gated",
        mixer: str = "ssm",
        num_attention_heads: int = 16,
        final_norm: bool = False,
        **others: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.intermediate_size = intermediate_size
        self.num_ssm = num_ssm
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.classifier_dropout = classifier_dropout
        self.layer_norm_eps = layer_norm_eps
        self.initializer_range = initializer_range
        self.scaling = scaling
        self.pre_norm = pre_norm
        self.pooler_type = pooler_type
        self.mask_padding = mask_padding
        self.block = block
        self.mixer = mixer
        self.num_attention_heads = num_attention_heads
        self.final_norm = final_norm
        super().__init__(pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **others)
        self.pad_token_id = pad_token_id
        self.tie_word_embeddings = tie_word_embeddings
