"""BiGS for `transformers`, in PyTorch: a bidirectional language model without attention (arXiv 2212.10544).

It stands beside the weights it runs: `AutoModelForMaskedLM.from_pretrained(FOLDER, trust_remote_code=True)`.
"""

from __future__ import annotations

import math
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

LARGEST_DECAY_RATE = -1e-4  # Re A is clipped to this: no state may grow
LONGEST_MATRIX = 1024  # up to so many tokens a direction is one matrix [L, L]
CHUNK = 256  # tokens of a chunk beyond that


class Kernel(nn.Module):
    """The trained numbers of one state-space model: A `[N]`, C `[N, 2]`, and the step of time."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        N = config.num_ssm
        self.A_re = nn.Parameter(torch.empty(N))
        self.A_im = nn.Parameter(torch.empty(N))
        self.C = nn.Parameter(torch.empty(N, 2))
        self.log_step = nn.Parameter(torch.empty(1))

    def discrete(self) -> tuple[Tensor, Tensor]:
        """Return sA and C(e^{sA} − 1)/A, each `[N]` complex; zero-order hold over steps of s = exp(log_step).

        In double precision: a phase of thousands of turns has to be right to a small part of one.
        """
        wide = torch.float32 if self.A_re.device.type == "mps" else torch.float64
        A = torch.complex(self.A_re.to(wide).clamp(max=LARGEST_DECAY_RATE), self.A_im.to(wide))
        sA = self.log_step.to(wide).exp() * A
        C = torch.view_as_complex(self.C.to(wide).contiguous())
        # e^{a+ib} − 1 without cancellation: expm1(a) cos b − 2 sin²(b/2) + i eᵃ sin b.
        a, b = sA.real, sA.imag
        held = torch.complex(torch.expm1(a) * torch.cos(b) - 2 * torch.sin(b / 2) ** 2, torch.exp(a) * torch.sin(b))
        return sA, C * held / A


class SSM(nn.Module):
    """y[l] = Σ_{j ≤ l} K[l−j] u[j] + D u[l], with K[l] = Re Σ_n C_n (e^{sA_n} − 1)/A_n · e^{l s A_n}, for all channels.

    Up to 1,024 tokens by one matrix, beyond that in chunks whose states are handed on: O(L).
    """

    def __init__(self, config: BiGSConfig, backward: bool) -> None:
        super().__init__()
        self.kernel = Kernel(config)
        self.D = nn.Parameter(torch.empty(1))
        self.backward_in_time = backward
        self._kept: tuple[Any, tuple[Tensor, ...]] | None = None

    def forward(self, u: Tensor) -> Tensor:
        """Mix u `[B, L, H]` along L; backward in time, y[l] hears u[j] with j ≥ l."""
        L = u.shape[1]
        if L <= LONGEST_MATRIX:
            (T,) = self._constants(L, u.dtype)
            return torch.matmul(T.T if self.backward_in_time else T, u)
        return self._chunked(u.flip(1)).flip(1) if self.backward_in_time else self._chunked(u)

    def _chunked(self, u: Tensor) -> Tensor:
        B, L, H = u.shape
        T, absorb, decay, emit = self._constants(CHUNK, u.dtype)
        rows = F.pad(u, (0, 0, 0, -L % CHUNK)).reshape(B, -1, CHUNK, H)
        added = torch.matmul(absorb, rows).unflatten(2, (2, -1))  # [B, C, 2, N, H]
        states = [torch.zeros_like(added[:, 0])]
        for chunk in range(rows.shape[1] - 1):
            re, im = states[-1].unbind(1)
            carried = torch.stack([decay[0] * re - decay[1] * im, decay[1] * re + decay[0] * im], 1)
            states.append(carried + added[:, chunk])
        y = torch.matmul(T, rows) + torch.matmul(emit, torch.stack(states, 1).flatten(2, 3))
        return y.reshape(B, -1, H)[:, :L]

    def _constants(self, L: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return T `[L, L]` and, for chunks, absorb `[2N, L]`, decay `[2, N, 1]`, emit `[L, 2N]`.

        Outside training they are kept until a parameter, the length or the number format changes.
        """
        parameters = (*self.kernel.parameters(), self.D)
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return self._computed(L, dtype)
        key = (L, dtype, *((id(p), p._version, p.device) for p in parameters))
        if self._kept is None or self._kept[0] != key:
            # Tensors of inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = (key, self._computed(L, dtype))
        return self._kept[1]

    def _computed(self, L: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
        sA, weight = self.kernel.discrete()
        l = torch.arange(L + 1, device=sA.device, dtype=sA.real.dtype)
        powers = torch.exp(l[:, None] * sA)  # [L + 1, N]
        K = (powers[:L] * weight).real.sum(1)
        K = torch.cat([K[:1] + self.D.to(K.dtype), K[1:]])
        lag = torch.arange(L, device=sA.device)
        lag = lag[:, None] - lag
        T = torch.where(lag >= 0, K[lag.clamp(min=0)], K.new_zeros(()))
        if L != CHUNK:
            return (T.to(dtype),)
        absorb, out = powers[:L].flip(0).T, powers[1:] * weight
        parts = (
            T,
            torch.cat([absorb.real, absorb.imag]),
            torch.stack([powers[L].real, powers[L].imag])[..., None],
            torch.cat([out.real, -out.imag], 1),
        )
        return tuple(part.to(dtype) for part in parts)


class Layer(nn.Module):
    """With h = LN(x): v = gelu(dv·h), u = gelu(du·h) in both directions, out = x + do(gelu(dol(f ⊙ b)) ⊙ v).

    f = duc_forward·S_f(u_f), b = duc_backward·S_b(u_b). Without `pre_norm`, h = x and the sum is normalized.
    """

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        H, I = config.hidden_size, config.intermediate_size
        self.pre_norm = config.pre_norm
        self.LayerNorm = nn.LayerNorm(H, eps=config.layer_norm_eps)
        self.dv = nn.Linear(H, I)
        self.du_forward = nn.Linear(H, H)
        self.du_backward = nn.Linear(H, H)
        self.duc_forward = nn.Linear(H, H)
        self.duc_backward = nn.Linear(H, H)
        self.dol = nn.Linear(H, I)
        self.do = nn.Linear(I, H)
        self.fs4 = SSM(config, backward=False)
        self.bs4 = SSM(config, backward=True)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Map x `[B, L, H]`; `keep` `[B, L, 1]` is 0 where mixing must not see a position."""
        h = self.LayerNorm(x) if self.pre_norm else x
        v = _gelu(self.dv(h))
        forward, backward = _gelu(self.du_forward(h)), _gelu(self.du_backward(h))
        if keep is not None:
            forward, backward = forward * keep, backward * keep
        mixed = self.duc_forward(self.fs4(forward)) * self.duc_backward(self.bs4(backward))
        out = x + self.do(_gelu(self.dol(mixed)) * v)
        return out if self.pre_norm else self.LayerNorm(out)


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class Embeddings(nn.Module):
    """word + token type + position → LayerNorm → dropout."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, words: Tensor, token_type_ids: Tensor | None) -> Tensor:
        """Add what belongs to words already looked up, `[B, L, H]`."""
        L, longest = words.shape[1], self.position_embeddings.num_embeddings
        if longest < L:
            raise ValueError(f"The input has {L} tokens; this model takes at most {longest}.")
        types = (
            self.token_type_embeddings.weight[0]
            if token_type_ids is None
            else self.token_type_embeddings(token_type_ids)
        )
        return self.dropout(self.LayerNorm(words + types + self.position_embeddings.weight[:L]))


class Encoder(nn.Module):
    """The layers."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])


class Pooler(nn.Module):
    """The mean over the real tokens (or over every position) → dense → tanh."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.everywhere = config.pooler_type == "mean"
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool x `[B, L, H]` to `[B, H]`."""
        weight = torch.ones_like(attention_mask) if self.everywhere else attention_mask
        weight = weight.to(x.dtype)[..., None]
        return torch.tanh(self.dense((x * weight).sum(1) / weight.sum(1).clamp(min=1)))


class BiGSPreTrainedModel(PreTrainedModel):
    """What all heads share with `transformers`."""

    config_class = BiGSConfig
    base_model_prefix = "bigs"
    supports_gradient_checkpointing = False
    # Kernels of parameters rounded to 16 bits are other kernels.
    _keep_in_fp32_modules_strict: ClassVar[set[str]] = {"fs4", "bs4"}
    accepts_loss_kwargs = False  # losses are means over the batch at hand
    _no_split_modules: ClassVar[list[str]] = ["Layer"]
    # Written by the original's port beside the weights; it is no weight.
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"position_ids$", r"cls\.predictions\.decoder\.bias$"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights the file does not have: N(0, initializer_range), and the published start of an SSM."""
        spread = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=spread)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Kernel):
            module.A_re.fill_(-0.5)
            module.A_im.copy_(_initial_A_im(self.config.scaling, self.config.num_ssm))
            nn.init.normal_(module.C, std=math.sqrt(0.5))
            nn.init.uniform_(module.log_step, math.log(0.01), 0.0)
        elif isinstance(module, SSM):
            nn.init.ones_(module.D)
        elif isinstance(module, Words):
            nn.init.zeros_(module.bias)


def _initial_A_im(scaling: str, N: int) -> Tensor:
    """Return the initial Im A `[N]` (arXiv 2206.11893, §4): ``hippo``, ``lin`` or ``inv``."""
    n = torch.arange(N, dtype=torch.float64)
    if scaling == "lin":
        return (math.pi * n).float()
    if scaling == "inv":
        return (N / math.pi * (N / (2 * n + 1) - 1)).float()
    root = torch.sqrt(2 * n + 1)
    product = root[:, None] * root / 2
    skew = torch.triu(product, 1) - torch.tril(product, -1)
    return torch.linalg.eigvalsh(skew * -1j).float()


class BiGSModel(BiGSPreTrainedModel):
    """The encoder, with its pooler unless `add_pooling_layer` says otherwise."""

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
        **_: Any,
    ) -> Any:
        """Encode ids `[B, L]`; without a mask every token but [PAD] is real."""
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
        keep = attention_mask[..., None].to(x.dtype) if self.config.mask_padding else None
        states = [x]
        for layer in self.encoder.layer:
            x = layer(x, keep)
            states.append(x)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        outputs = BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(x, attention_mask),
            hidden_states=tuple(states) if wanted else None,
        )
        return _packed(outputs, self.config, return_dict)


class Transform(nn.Module):
    """dense → exact GELU → LayerNorm, before the vocabulary."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., H]` to the same shape."""
        return self.LayerNorm(F.gelu(self.dense(x)))


class Words(nn.Module):
    """Hidden states to word logits: the transposed word embedding (or a matrix of its own) and a bias."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., H]` to `[..., V]`."""
        return F.linear(self.transform(x), self.decoder.weight, self.bias)


class PredictionHeads(nn.Module):
    """Masked words, next sentence, or both."""

    def __init__(self, config: BiGSConfig, words: bool, sentences: bool) -> None:
        super().__init__()
        if words:
            self.predictions = Words(config)
        if sentences:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


class Headed(BiGSPreTrainedModel):
    """A head on the encoder: `logits_of` maps what the encoder gives, `output` names it."""

    pooled: ClassVar[bool]

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bigs = BiGSModel(config, add_pooling_layer=self.pooled)
        dropout = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(dropout)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BiGSConfig) -> None:
        """Add what stands on the encoder."""
        raise NotImplementedError

    def answer(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> Any:
        """Return the head's outputs, with the loss if there are labels."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """Encode and answer; see `BiGSModel.forward`. The labels named here are those that trainers look for."""
        return self.respond((input_ids, attention_mask, token_type_ids, inputs_embeds), {"labels": labels}, **more)

    def respond(
        self,
        inputs: tuple[Tensor | None, ...],
        labels: dict[str, Tensor | None],
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> Any:
        """Encode `inputs` and answer; `labels` may hold None."""
        encoded = self.bigs(*inputs, output_hidden_states=output_hidden_states, return_dict=True)
        outputs = self.answer(encoded, labels)
        if encoded.hidden_states is not None:
            outputs["hidden_states"] = encoded.hidden_states
        return _packed(outputs, self.config, return_dict)


def _packed(outputs: Any, config: BiGSConfig, return_dict: bool | None) -> Any:
    wanted = getattr(config, "return_dict", True) if return_dict is None else return_dict
    return outputs if wanted is not False else outputs.to_tuple()


class _PredictsWords(Headed):
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "cls.predictions.decoder.weight": "bigs.embeddings.word_embeddings.weight"
    }

    def get_output_embeddings(self) -> nn.Linear:
        """Return the matrix that scores words."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the matrix that scores words; the bias follows its size."""
        words = self.cls.predictions
        words.decoder = new_embeddings
        more = new_embeddings.weight.shape[0] - words.bias.shape[0]
        if more:
            words.bias = nn.Parameter(F.pad(words.bias.data, (0, more)))


class BiGSForMaskedLM(_PredictsWords):
    """Masked words: logits `[B, L, V]`."""

    pooled = False

    def add_head(self, config: BiGSConfig) -> None:
        """Add the word scores."""
        self.cls = PredictionHeads(config, words=True, sentences=False)

    def answer(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> MaskedLMOutput:
        """Score every word at every position."""
        logits = self.cls.predictions(encoded.last_hidden_state)
        return MaskedLMOutput(loss=_cross_entropy(logits, labels["labels"]), logits=logits)


class BiGSForPreTraining(_PredictsWords):
    """Masked words and next sentence."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Add the word scores and the choice of the next sentence."""
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
        """Encode and answer; see `BiGSModel.forward`."""
        given = {"labels": labels, "next_sentence_label": next_sentence_label}
        return self.respond((input_ids, attention_mask, token_type_ids, inputs_embeds), given, **more)

    def answer(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> BertForPreTrainingOutput:
        """Score words at every position, and whether the second text follows the first."""
        words = self.cls.predictions(encoded.last_hidden_state)
        follows = self.cls.seq_relationship(encoded.pooler_output)
        losses = (_cross_entropy(words, labels["labels"]), _cross_entropy(follows, labels["next_sentence_label"]))
        known = [loss for loss in losses if loss is not None]
        return BertForPreTrainingOutput(
            loss=sum(known) if known else None, prediction_logits=words, seq_relationship_logits=follows
        )


class BiGSForNextSentencePrediction(Headed):
    """Whether the second text follows the first: logits `[B, 2]`."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Add the choice of the next sentence."""
        self.cls = PredictionHeads(config, words=False, sentences=True)

    def answer(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> NextSentencePredictorOutput:
        """Score whether it follows (0) or not (1)."""
        logits = self.cls.seq_relationship(encoded.pooler_output)
        return NextSentencePredictorOutput(loss=_cross_entropy(logits, labels["labels"]), logits=logits)


class BiGSForSequenceClassification(Headed):
    """A class or a score of a text: logits `[B, num_labels]`."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Add the classifier."""
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def answer(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> SequenceClassifierOutput:
        """Score the classes; one label is regression."""
        logits = self.classifier(self.dropout(encoded.pooler_output))
        given = labels["labels"]
        if given is None:
            loss = None
        elif self.num_labels == 1:
            loss = F.mse_loss(logits.reshape(-1), given.reshape(-1).to(logits.dtype))
        elif given.is_floating_point():
            loss = F.binary_cross_entropy_with_logits(logits, given.to(logits.dtype))
        else:
            loss = _cross_entropy(logits, given)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class BiGSForTokenClassification(Headed):
    """A class of every token: logits `[B, L, num_labels]`."""

    pooled = False

    def add_head(self, config: BiGSConfig) -> None:
        """Add the classifier."""
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def answer(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> TokenClassifierOutput:
        """Score the classes of every token."""
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        return TokenClassifierOutput(loss=_cross_entropy(logits, labels["labels"]), logits=logits)


class BiGSForQuestionAnswering(Headed):
    """Where an answer starts and ends: `start_logits`, `end_logits`, each `[B, L]`."""

    pooled = False

    def add_head(self, config: BiGSConfig) -> None:
        """Add the two scores of a position."""
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

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
        """Encode and answer; see `BiGSModel.forward`."""
        given = {"start_positions": start_positions, "end_positions": end_positions}
        return self.respond((input_ids, attention_mask, token_type_ids, inputs_embeds), given, **more)

    def answer(
        self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]
    ) -> QuestionAnsweringModelOutput:
        """Score every position as start and end."""
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if labels["start_positions"] is not None and labels["end_positions"] is not None:
            # A position outside the text counts for nothing.
            L = start.shape[1]
            given = [labels[name].reshape(-1) for name in ("start_positions", "end_positions")]
            given = [torch.where((at >= 0) & (at < L), at, -100) for at in given]
            loss = (F.cross_entropy(start, given[0]) + F.cross_entropy(end, given[1])) / 2
        return QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end)


class BiGSForMultipleChoice(Headed):
    """Which of several endings is right: ids `[B, choices, L]`, logits `[B, choices]`."""

    pooled = True

    def add_head(self, config: BiGSConfig) -> None:
        """Add the score of an ending."""
        self.classifier = nn.Linear(config.hidden_size, 1)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> Any:
        """Score each choice by itself."""
        rows = tuple(None if a is None else a.flatten(0, 1) for a in (input_ids, attention_mask, token_type_ids))
        each = self.respond(rows, {}, output_hidden_states, True)
        logits = each.logits.reshape(input_ids.shape[:2])
        outputs = MultipleChoiceModelOutput(
            loss=_cross_entropy(logits, labels), logits=logits, hidden_states=each.hidden_states
        )
        return _packed(outputs, self.config, return_dict)

    def answer(self, encoded: BaseModelOutputWithPooling, labels: dict[str, Tensor | None]) -> SequenceClassifierOutput:
        """Score every row."""
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(encoded.pooler_output)))


def _cross_entropy(logits: Tensor, labels: Tensor | None) -> Tensor | None:
    """Return the mean over labels that are not −100, or None without labels."""
    return None if labels is None else F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())
