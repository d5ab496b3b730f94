"""`BiGSConfig`: everything that determines the parameters and outputs of a model. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bigs_cli.core.errors import RequestError

Head = Literal[
    "encoder",
    "masked-lm",
    "pretraining",
    "next-sentence",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
]
PoolerType = Literal["non_padding_mean", "mean", "pair"]


class BiGSConfig(BaseModel):
    """Size, shape and head of a BiGS model. The defaults are those of the published models (346.7M parameters).

    Shapes elsewhere write `vocab_size` as V, `hidden_size` H, `intermediate_size` I, `num_ssm` N. The field
    names are those of the published `config.json`, except `head`, which replaces its `architectures`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    head: Head = Field(default="masked-lm", description="type of the head")
    vocab_size: int = Field(default=30522, ge=1, description="vocabulary size (V)")
    hidden_size: int = Field(default=1024, ge=1, description="width of the residual stream (H)")
    num_hidden_layers: int = Field(default=23, ge=1, le=10_000, description="number of layers")
    intermediate_size: int = Field(default=3072, ge=1, description="width of the gated or feed-forward units (I)")
    block: Literal["gated", "stacked"] = Field(
        default="gated", description="gated: the block of BiGS; stacked: mixer, then feed-forward layers"
    )
    mixer: Literal["ssm", "attention"] = Field(
        default="ssm", description="what mixes the sequence: an SSM in each direction, or attention"
    )
    num_ssm: int = Field(default=64, ge=1, description="number of complex states per SSM (N)")
    num_attention_heads: int = Field(default=16, ge=1, description="attention: number of heads; divides hidden_size")
    final_norm: bool = Field(default=False, description="LayerNorm after the last layer")
    max_position_embeddings: int = Field(default=512, ge=1, description="maximum input length in tokens")
    type_vocab_size: int = Field(default=2, ge=1, description="number of token types (first and second text)")
    pad_token_id: int = Field(
        default=0, ge=0, description="id of [PAD]; if no attention mask is given, these tokens count as padding"
    )
    hidden_dropout_prob: float = Field(default=0.1, ge=0, lt=1, description="dropout rate after the embeddings")
    classifier_dropout: float | None = Field(
        default=None, ge=0, lt=1, description="dropout rate before a classifier; null: hidden_dropout_prob"
    )
    layer_norm_eps: float = Field(default=1e-12, gt=0, description="epsilon of LayerNorm, added to the variance")
    initializer_range: float = Field(
        default=0.02, gt=0, description="standard deviation of new dense and embedding weights"
    )
    scaling: Literal["hippo", "lin", "inv"] = Field(
        default="hippo", description="initialization of the SSM parameter A"
    )
    pre_norm: bool = Field(default=True, description="true: x + f(LN(x)); false: LN(x + f(x))")
    tie_word_embeddings: bool = Field(
        default=True, description="use the word embeddings as output weights of the masked-lm head"
    )
    pooler_type: PoolerType = Field(
        default="non_padding_mean",
        description="pooling: mean over non-padding tokens, or over all positions; pair: for pairs of texts, the means "
        "u and v of both texts, |u − v| and u · v",
    )
    mask_padding: bool = Field(
        default=False, description="set the SSM inputs at padding to zero, so that outputs do not depend on padding"
    )
    num_labels: int = Field(default=2, ge=1, description="number of classes; 1 for regression")
    labels: tuple[str, ...] | None = Field(default=None, description="label names in id order")
    multi_label: bool = Field(
        default=False, description="sequence classification with any number of labels per text instead of one class"
    )
    label_threshold: float = Field(
        default=0.5, gt=0, lt=1, description="multi_label: probability from which a label is predicted"
    )

    @model_validator(mode="after")
    def _labels_are_counted(self) -> BiGSConfig:
        if self.labels is not None and len(self.labels) != self.num_labels:
            raise ValueError(f"labels names {len(self.labels)} classes but num_labels is {self.num_labels}")
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> BiGSConfig:
        if self.attends and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}"
            )
        return self

    @property
    def attends(self) -> bool:
        """Whether the sequence is mixed by attention."""
        return self.mixer == "attention"

    @property
    def has_choices(self) -> bool:
        """Whether the input is `[B, choices, L]` instead of `[B, L]`; the head then has one output per choice."""
        return self.head == "multiple-choice"

    @property
    def pools(self) -> bool:
        """Whether the head has a pooler."""
        return self.head not in ("masked-lm", "token-classification", "question-answering")

    @property
    def mixer_masks_padding(self) -> bool:
        """Whether the hidden states of real tokens do not depend on padding.

        SSMs mix padding into them unless `mask_padding` is set; attention never does.
        """
        return self.mask_padding or self.attends

    @property
    def ignores_padding(self) -> bool:
        """Whether outputs do not depend on padding, over which the pooler `mean` averages."""
        return self.mixer_masks_padding and not (self.pools and self.pooler_type == "mean")


def length_within(config: BiGSConfig, length: int | None) -> int:
    """Return the row length in tokens; None: the maximum of the model.

    Raises:
        RequestError: the model has fewer positions.
    """
    longest = config.max_position_embeddings
    if length is not None and length > longest:
        raise RequestError(f"Length {length} is too long: the model takes at most {longest} tokens.")
    return length or longest
