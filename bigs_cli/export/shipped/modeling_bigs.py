"""BiGS for `transformers`, in PyTorch: a bidirectional language model without attention (arXiv 2212.10544).

The file is stored in the folder of the weights: `AutoModelForMaskedLM.from_pretrained(FOLDER, trust_remote_code=True)`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput

from .configuration_bigs import BiGSConfig
from .layers_bigs import SSM, Embeddings, Encoder, Float32Linear, Kernel, Pooler, PredictionHeads, Words, initial_A_im


class BiGSPreTrainedModel(PreTrainedModel):
    """The base class of all models: settings for `transformers`, and initial values."""

    config_class = BiGSConfig
    base_model_prefix = "bigs"
    supports_gradient_checkpointing = True
    # Rounding the SSM parameters to 16 bits would change the kernels.
    _keep_in_fp32_modules_strict: ClassVar[set[str]] = {"fs4", "bs4"}
    accepts_loss_kwargs = False  # losses are means over the batch
    _no_split_modules: ClassVar[list[str]] = ["Layer"]
    # Files of the original PyTorch port contain these, which are not separate weights here.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"position_ids$", r"cls\.predictions\.decoder\.bias$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize weights that the file lacks: N(0, initializer_range²), and the published values of an SSM."""
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Kernel):
            module.A_re.fill_(-0.5)
            module.A_im.copy_(initial_A_im(self.config.scaling, self.config.num_ssm))
            nn.init.normal_(module.C, std=math.sqrt(0.5))
            nn.init.uniform_(module.log_step, math.log(0.01), 0.0)
        elif isinstance(module, SSM):
            nn.init.ones_(module.D)
        elif isinstance(module, Words):
            nn.init.zeros_(module.bias)


class BiGSModel(BiGSPreTrainedModel):
    """The encoder, with its pooler if `add_pooling_layer`."""

    def __init__(self, config: BiGSConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.pooler = Pooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the word embedding."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embedding."""
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Encode ids `[B, L]`; without a mask every token except [PAD] is real.

        Raises:
            TypeError: an unknown argument is neither None nor False.
            ValueError: both or neither of `input_ids` and `inputs_embeds` are given, a row is too long, or
                `output_attentions` is set.
        """
        if others.pop("output_attentions", None) or getattr(self.config, "output_attentions", False):
            raise ValueError(
                "This model does not return attention weights: leave out output_attentions. "
                "output_hidden_states=True returns the hidden states of all layers."
            )
        unknown = [name for name, value in others.items() if value is not None and value is not False]
        if unknown:
            raise TypeError(f"BiGS does not take the argument {', '.join(unknown)}.")
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either input_ids or inputs_embeds.")
        if attention_mask is None:
            attention_mask = (
                torch.ones(inputs_embeds.shape[:2], dtype=torch.long, device=inputs_embeds.device)
                if input_ids is None
                else (input_ids != self.config.pad_token_id).long()
            )
        words = self.embeddings.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        x = self.embeddings(words, token_type_ids)
        ignores_padding = self.config.mask_padding or self.config.mixer == "attention"
        keep = attention_mask[..., None].to(x.dtype) if ignores_padding else None
        states = [x]
        for layer in self.encoder.layer:
            x = layer(x, keep)
            states.append(x)
        if self.encoder.LayerNorm is not None:
            x = states[-1] = self.encoder.LayerNorm(x)
        return_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        outputs = BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x, attention_mask, token_type_ids),
            hidden_states=tuple(states) if return_states else None,
        )
        return _pack(outputs, self.config, return_dict)


class _ModelWithHead(BiGSPreTrainedModel, ABC):
    """An encoder with a head: `add_head` creates the head, and `apply_head` maps the encoder's outputs to its own."""

    pooled: ClassVar[bool]

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bigs = BiGSModel(config, add_pooling_layer=self.pooled)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.add_head(config)
        self.post_init()

    @abstractmethod
    def add_head(self, config: BiGSConfig) -> None:
        """Create the modules of the head."""

    @abstractmethod
    def apply_head(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> Any:
        """Return the outputs of the head, with the loss if there are labels."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """Encode and apply the head; see `BiGSModel.forward`. Trainers look for the argument name `labels`."""
        return self.run((input_ids, attention_mask, token_type_ids, inputs_embeds), {"labels": labels}, **more)

    def run(
        self,
        inputs: tuple[Tensor | None, ...],
        labels: dict[str, Tensor | None],
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Encode `inputs` and apply the head; the values of `labels` may be None."""
        encoded = self.bigs(*inputs, output_hidden_states=output_hidden_states, return_dict=True, **others)
        outputs = self.apply_head(encoded, labels)
        if encoded.hidden_states is not None:
            outputs["hidden_states"] = encoded.hidden_states
        return _pack(outputs, self.config, return_dict)


def _pack(outputs: Any, config: BiGSConfig, return_dict: bool | None) -> Any:
    as_dict = getattr(config, "return_dict", True) if return_dict is None else return_dict
    return outputs if as_dict is not False else outputs.to_tuple()


class _PredictsWords(_ModelWithHead):
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "cls.predictions.decoder.weight": "bigs.embeddings.word_embeddings.weight"
    }

    def get_output_embeddings(self) -> nn.Linear:
        """Return the output matrix."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the output matrix, and resize the bias accordingly."""
        words = self.cls.predictions
        words.decoder = new_embeddings
        more = new_embeddings.weight.shape[0] - words.bias.shape[0]
        if more:
            words.bias = nn.Parameter(F.pad(words.bias.data, (0, more)))


class BiGSForMaskedLM(_PredictsWords):
    """Masked-word prediction: logits `[B, L, V]`."""

    pooled = False

    def add_head(self, config: BiGSConfig) -> None:
        """Create the masked-LM head."""
        self.cls = PredictionHeads(config, words=True, sentences=False)

    def apply_head(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> MaskedLMOutput:
        """Score every word at every position."""
        logits = self.cls.predictions(encoded.last_hidden_state)
        return MaskedLMOutput(loss=_cross_entropy(logits, labels["labels"]), logits=logits)


class BiGSForPreTraining(_PredictsWords):
    """Masked-word and next-sentence prediction."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Create the masked-LM head and the next-sentence head."""
        self.cls = PredictionHeads(config, words=True, sentences=True)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """Encode and apply the head; see `BiGSModel.forward`."""
        targets = {"labels": labels, "next_sentence_label": next_sentence_label}
        return self.run((input_ids, attention_mask, token_type_ids, inputs_embeds), targets, **more)

    def apply_head(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> BertForPreTrainingOutput:
        """Score words at every position, and whether the second text follows the first."""
        words = self.cls.predictions(encoded.last_hidden_state)
        follows = self.cls.seq_relationship(encoded.pooler_output)
        losses = (_cross_entropy(words, labels["labels"]), _cross_entropy(follows, labels["next_sentence_label"]))
        known = [loss for loss in losses if loss is not None]
        return BertForPreTrainingOutput(
            loss=sum(known) if known else None, prediction_logits=words, seq_relationship_logits=follows
        )


class BiGSForNextSentencePrediction(_ModelWithHead):
    """Whether the second text follows the first: logits `[B, 2]`."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Create the next-sentence head."""
        self.cls = PredictionHeads(config, words=False, sentences=True)

    def apply_head(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> NextSentencePredictorOutput:
        """Score the classes: the second text follows (0), or does not (1)."""
        logits = self.cls.seq_relationship(encoded.pooler_output)
        return NextSentencePredictorOutput(loss=_cross_entropy(logits, labels["labels"]), logits=logits)


class BiGSForSequenceClassification(_ModelWithHead):
    """A class or a score for each text: logits `[B, num_labels]`."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Create the classifier."""
        self.classifier = Float32Linear(config.hidden_size, config.num_labels)

    def apply_head(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> SequenceClassifierOutput:
        """Score the classes; one label is regression."""
        logits = self.classifier(self.dropout(encoded.pooler_output))
        targets = labels["labels"]
        if targets is None:
            loss = None
        elif self.num_labels == 1:
            loss = F.mse_loss(logits.reshape(-1), targets.reshape(-1).to(logits.dtype))
        elif targets.is_floating_point():
            loss = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))
        else:
            loss = _cross_entropy(logits, targets)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class BiGSForTokenClassification(_ModelWithHead):
    """A class for each token: logits `[B, L, num_labels]`."""

    pooled = False

    def add_head(self, config: BiGSConfig) -> None:
        """Create the classifier."""
        self.classifier = Float32Linear(config.hidden_size, config.num_labels)

    def apply_head(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> TokenClassifierOutput:
        """Score the classes of every token."""
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        return TokenClassifierOutput(loss=_cross_entropy(logits, labels["labels"]), logits=logits)


class BiGSForQuestionAnswering(_ModelWithHead):
    """Scores for the start and end of an answer: `start_logits`, `end_logits`, each `[B, L]`."""

    pooled = False

    def add_head(self, config: BiGSConfig) -> None:
        """Create the layer with two scores per position."""
        self.qa_outputs = Float32Linear(config.hidden_size, 2)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """Encode and apply the head; see `BiGSModel.forward`."""
        targets = {"start_positions": start_positions, "end_positions": end_positions}
        return self.run((input_ids, attention_mask, token_type_ids, inputs_embeds), targets, **more)

    def apply_head(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> QuestionAnsweringModelOutput:
        """Score every position as start and end."""
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if labels["start_positions"] is not None and labels["end_positions"] is not None:
            # Positions outside the text are ignored.
            L = start.shape[1]
            targets = [labels[name].reshape(-1) for name in ("start_positions", "end_positions")]
            targets = [torch.where((at >= 0) & (at < L), at, -100) for at in targets]
            loss = (F.cross_entropy(start, targets[0]) + F.cross_entropy(end, targets[1])) / 2
        return QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end)


class BiGSForMultipleChoice(_ModelWithHead):
    """One score per ending: ids `[B, choices, L]`, logits `[B, choices]`."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Create the layer with one score per ending."""
        self.classifier = Float32Linear(config.hidden_size, 1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Score each choice separately."""
        rows = tuple(None if a is None else a.flatten(0, 1) for a in (input_ids, attention_mask, token_type_ids))
        each = self.run(rows, {}, output_hidden_states, True, **others)
        logits = each.logits.reshape(input_ids.shape[:2])
        outputs = MultipleChoiceModelOutput(
            loss=_cross_entropy(logits, labels), logits=logits, hidden_states=each.hidden_states
        )
        return _pack(outputs, self.config, return_dict)

    def apply_head(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> SequenceClassifierOutput:
        """Score every row."""
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(encoded.pooler_output)))


def _cross_entropy(logits: Tensor, labels: Tensor | None) -> Tensor | None:
    """Return the mean cross-entropy over labels other than −100, or None without labels."""
    return None if labels is None else F.cross_entropy(logits.flatten(0, -2), labels.flatten())
