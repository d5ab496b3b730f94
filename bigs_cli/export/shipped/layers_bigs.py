"""The modules of BiGS in PyTorch: kernels, mixing, layers, embeddings, pooler, vocabulary logits (arXiv 2212.10544)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_bigs import BiGSConfig

MAX_REAL_PART = -1e-4  # the maximum of Re A, so that no state grows
LONGEST_MATRIX = 1024  # up to this many tokens, a direction is mixed with one matrix [L, L]
CHUNK = 256  # tokens per chunk of longer rows


class Kernel(nn.Module):
    """The trained parameters of one state-space model: A `[N]`, C `[N, 2]`, and the logarithm of the time step."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        N = config.num_ssm
        self.A_re = nn.Parameter(torch.empty(N))
        self.A_im = nn.Parameter(torch.empty(N))
        self.C = nn.Parameter(torch.empty(N, 2))
        self.log_step = nn.Parameter(torch.empty(1))

    def forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return Re sA, Im sA, and Re and Im of C(e^{sA} − 1)/A, each `[N]`; zero-order hold over s = exp(log_step).

        Computed in double precision, because a phase of thousands of turns must be accurate to a small part of one, and
        in real arithmetic, because compilers do not generate code for complex numbers.
        """
        dtype = torch.float32 if self.A_re.device.type == "mps" else torch.float64
        A_re, A_im = self.A_re.to(dtype).clamp(max=MAX_REAL_PART), self.A_im.to(dtype)
        C_re, C_im = self.C.to(dtype).unbind(-1)
        step = self.log_step.to(dtype).exp()
        a, b = step * A_re, step * A_im
        # e^{a+ib} − 1 without cancellation: expm1(a) cos b − 2 sin²(b/2) + i eᵃ sin b.
        held_re = torch.expm1(a) * torch.cos(b) - 2 * torch.sin(b / 2) ** 2
        held_im = torch.exp(a) * torch.sin(b)
        square = A_re**2 + A_im**2
        ratio_re = (held_re * A_re + held_im * A_im) / square
        ratio_im = (held_im * A_re - held_re * A_im) / square
        return a, b, C_re * ratio_re - C_im * ratio_im, C_re * ratio_im + C_im * ratio_re


def initial_A_im(scaling: str, N: int) -> Tensor:
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


class SSM(nn.Module):
    """y[l] = Σ_{j ≤ l} K[l−j] u[j] + D u[l], with K[l] = Re Σ_n C_n (e^{sA_n} − 1)/A_n · e^{l s A_n}, for all channels.

    Rows of up to 1,024 tokens are mixed with one matrix, longer rows in chunks with a carried state, which is O(L). The
    matrices are computed in every call and never cached, so that they always match the parameters.
    """

    def __init__(self, config: BiGSConfig, backward: bool) -> None:
        super().__init__()
        self.kernel = Kernel(config)
        self.D = nn.Parameter(torch.empty(1))
        self.backward_in_time = backward

    def forward(self, u: Tensor) -> Tensor:
        """Mix u `[B, L, H]` along L; backward in time, y[l] depends on u[j] with j ≥ l."""
        L = u.shape[1]
        if L <= LONGEST_MATRIX:
            a, b, w_re, w_im = self.kernel()
            re, im = _powers(a, b, L)
            T = _toeplitz(re * w_re - im * w_im, self.D, u.dtype)
            return torch.matmul(T.T if self.backward_in_time else T, u)
        return self._chunked(u.flip(1)).flip(1) if self.backward_in_time else self._chunked(u)

    def _chunked(self, u: Tensor) -> Tensor:
        B, L, H = u.shape
        T, absorb, decay, emit = self._operators(u.dtype)
        rows = F.pad(u, (0, 0, 0, -L % CHUNK)).reshape(B, -1, CHUNK, H)
        added = torch.matmul(absorb, rows).unflatten(2, (2, -1))  # [B, C, 2, N, H]
        states = [torch.zeros_like(added[:, 0])]
        for chunk in range(rows.shape[1] - 1):
            re, im = states[-1].unbind(1)
            carried = torch.stack([decay[0] * re - decay[1] * im, decay[1] * re + decay[0] * im], 1)
            states.append(carried + added[:, chunk])
        y = torch.matmul(T, rows) + torch.matmul(emit, torch.stack(states, 1).flatten(2, 3))
        return y.reshape(B, -1, H)[:, :L]

    def _operators(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return T `[Q, Q]`, absorb `[2N, Q]`, decay `[2, N, 1]` and emit `[Q, 2N]` for chunks of Q tokens."""
        a, b, w_re, w_im = self.kernel()
        re, im = _powers(a, b, CHUNK + 1)
        out_re, out_im = re * w_re - im * w_im, re * w_im + im * w_re
        absorb = torch.cat([re[:CHUNK], im[:CHUNK]], 1).flip(0).T
        decay = torch.stack([re[CHUNK], im[CHUNK]])[..., None]
        emit = torch.cat([out_re[1:], -out_im[1:]], 1)
        return _toeplitz(out_re[:CHUNK], self.D, dtype), absorb.to(dtype), decay.to(dtype), emit.to(dtype)


def _powers(a: Tensor, b: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return Re and Im of e^{l(a + ib)} for l = 0 … count − 1, each `[count, N]`."""
    l = torch.arange(count, device=a.device, dtype=a.dtype)[:, None]
    decay = torch.exp(l * a)
    return decay * torch.cos(l * b), decay * torch.sin(l * b)


def _toeplitz(terms: Tensor, D: Tensor, dtype: torch.dtype) -> Tensor:
    """Return T `[L, L]`, T[l, j] = K[l − j] for j ≤ l, else 0; K is the sum of `terms` `[L, N]` over N, plus D at 0."""
    L = terms.shape[0]
    K = terms.sum(1) + F.pad(D.to(terms.dtype), (0, L - 1))
    K = K.to(torch.promote_types(dtype, torch.float32))  # so that gradients are summed in float32
    # Row l is the window of [K[L−1], …, K[0], 0, …, 0] that starts at L − 1 − l. `unfold` would recompile per length.
    return F.pad(K.flip(0), (0, L - 1)).as_strided((L, L), (1, 1)).flip(0).to(dtype)


class Layer(GradientCheckpointingLayer):
    """With h = LN(x), a gated layer is x + do(gelu(dol(m)) ⊙ gelu(dv(h))), a stacked one y + output(gelu(intermediate(
    LN(y)))) with y = x + m.

    m is the mixed sequence: with SSMs duc_forward·S_f(gelu(du_forward·h)) and duc_backward·S_b(gelu(du_backward·h)),
    multiplied if gated and added if stacked; else attention. Without `pre_norm`, the sums are normalized instead.
    """

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        H, I = config.hidden_size, config.intermediate_size
        self.pre_norm, self.gated = config.pre_norm, config.block == "gated"
        self.heads = config.num_attention_heads if config.mixer == "attention" else None
        self.LayerNorm = nn.LayerNorm(H, eps=config.layer_norm_eps)
        if self.heads:
            self.query, self.key, self.value = nn.Linear(H, H), nn.Linear(H, H), nn.Linear(H, H)
            if not self.gated:
                self.attention_output = nn.Linear(H, H)
        else:
            self.du_forward, self.du_backward = nn.Linear(H, H), nn.Linear(H, H)
            self.duc_forward, self.duc_backward = nn.Linear(H, H), nn.Linear(H, H)
            self.fs4, self.bs4 = SSM(config, backward=False), SSM(config, backward=True)
        if self.gated:
            self.dv, self.dol, self.do = nn.Linear(H, I), nn.Linear(H, I), nn.Linear(I, H)
        else:
            self.feed_forward_norm = nn.LayerNorm(H, eps=config.layer_norm_eps)
            self.intermediate, self.output = nn.Linear(H, I), nn.Linear(I, H)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Map x `[B, L, H]`; `keep` `[B, L, 1]` is 0 at positions that mixing must ignore."""
        h = self.LayerNorm(x) if self.pre_norm else x
        m = self._attend(h, keep) if self.heads else self._mix(h, keep)
        if self.gated:
            out = x + self.do(_gelu(self.dol(m)) * _gelu(self.dv(h)))
            return out if self.pre_norm else self.LayerNorm(out)
        y = x + m if self.pre_norm else self.LayerNorm(x + m)
        h = self.feed_forward_norm(y) if self.pre_norm else y
        out = y + self.output(_gelu(self.intermediate(h)))
        return out if self.pre_norm else self.feed_forward_norm(out)

    def _mix(self, h: Tensor, keep: Tensor | None) -> Tensor:
        forward, backward = _gelu(self.du_forward(h)), _gelu(self.du_backward(h))
        if keep is not None:
            forward, backward = forward * keep, backward * keep
        f, b = self.duc_forward(self.fs4(forward)), self.duc_backward(self.bs4(backward))
        return f * b if self.gated else f + b

    def _attend(self, h: Tensor, keep: Tensor) -> Tensor:
        query, key, value = (
            dense(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for dense in (self.query, self.key, self.value)
        )
        # A finite mask: a row without a real token then attends to all positions instead of giving NaN.
        mask = (1 - keep[:, None, None, :, 0]) * torch.finfo(query.dtype).min
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        mixed = mixed.transpose(1, 2).flatten(2)
        return mixed if self.gated else self.attention_output(mixed)


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
        """Add types and positions to the word embeddings `words` `[B, L, H]`."""
        L, longest = words.shape[1], self.position_embeddings.num_embeddings
        if longest < L:
            raise ValueError(f"The input has {L} tokens; this model takes at most {longest}.")
        if token_type_ids is None:
            token_type_ids = torch.zeros(1, dtype=torch.long, device=words.device)
        # Call the modules instead of reading their weights: the hooks of `accelerate` load the weights of a module when
        # it is called.
        positions = self.position_embeddings(torch.arange(L, device=words.device))
        return self.dropout(self.LayerNorm(words + self.token_type_embeddings(token_type_ids) + positions))


class Encoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if config.final_norm else None


class Pooler(nn.Module):
    """Features of the hidden states → dense → tanh; `pooler_type` determines the features.

    `non_padding_mean`: the mean over the real tokens; `mean`: over every position; `pair`: the means u and v over the
    real tokens of both texts, |u − v| and u · v.
    """

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.type = config.pooler_type
        self.dense = nn.Linear(config.hidden_size * (4 if self.type == "pair" else 1), config.hidden_size)

    def forward(self, x: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Pool x `[B, L, H]` to `[B, H]`."""
        if self.type != "pair":
            features = masked_mean(x, torch.ones_like(attention_mask) if self.type == "mean" else attention_mask)
        else:
            second = torch.zeros_like(attention_mask) if token_type_ids is None else token_type_ids
            u, v = masked_mean(x, attention_mask * (second == 0)), masked_mean(x, attention_mask * (second != 0))
            features = torch.cat([u, v, (u - v).abs(), u * v], dim=-1)
        return torch.tanh(self.dense(features))


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean `[B, H]` of x `[B, L, H]` over the positions where `mask` `[B, L]` is 1; 0 if none is."""
    weight = mask.to(x.dtype)[..., None]
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1)


class Transform(nn.Module):
    """dense → exact GELU → LayerNorm, before the product with the vocabulary."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., H]` to the same shape."""
        return self.LayerNorm(F.gelu(self.dense(x)))


class Float32Linear(nn.Linear):
    """A linear layer whose outputs are at least float32: bfloat16 would round them to three digits."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., I]` to `[..., O]` in float32, or in float64 if the weights are, even under autocast."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.to(dtype), self.weight.to(dtype), bias)


class Words(nn.Module):
    """Hidden states → vocabulary logits: the transposed word embedding (or an untied matrix) and a bias."""

    def __init__(self, config: BiGSConfig) -> None:
        super().__init__()
        self.transform = Transform(config)
        self.decoder = Float32Linear(config.hidden_size, config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., H]` to float32 `[..., V]`."""
        logits = self.decoder(self.transform(x))
        return logits + self.bias.to(logits.dtype)


class PredictionHeads(nn.Module):
    """Masked-word prediction, next-sentence prediction, or both."""

    def __init__(self, config: BiGSConfig, words: bool, sentences: bool) -> None:
        super().__init__()
        if words:
            self.predictions = Words(config)
        if sentences:
            self.seq_relationship = Float32Linear(config.hidden_size, 2)
