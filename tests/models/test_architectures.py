"""The four architectures of the paper, gated and stacked blocks with SSMs and attention, and the final LayerNorm."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest

from bigs_cli.checkpoints.config_json import config_values
from bigs_cli.models import blocks, encoder
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.flops import count_flops
from bigs_cli.models.functional import initialize, make_apply
from bigs_cli.models.mixers import attend
from bigs_cli.models.published import from_torch, published_shapes, to_flat, to_torch, to_unstacked
from bigs_cli.recipe.groups import Compute

Array = np.ndarray[Any, Any]
V, H, I, L, HEADS = 40, 8, 12, 10, 2
ARCHITECTURES = tuple(itertools.product(("gated", "stacked"), ("ssm", "attention")))


def config(block: str, mixer: str, **changes: Any) -> BiGSConfig:
    sizes = {"vocab_size": V, "hidden_size": H, "num_hidden_layers": 2, "intermediate_size": I, "num_ssm": 4}
    more = {"max_position_embeddings": L, "num_attention_heads": HEADS, "initializer_range": 0.4, "final_norm": True}
    return BiGSConfig.model_validate({**sizes, **more, "block": block, "mixer": mixer, **changes})


def ids(rows: int = 3) -> Array:
    made = np.random.default_rng(0).integers(1, V, (rows, L)).astype(np.int32)
    made[1, 6:] = 0
    return made


@pytest.mark.parametrize(("block", "mixer"), ARCHITECTURES)
@pytest.mark.parametrize("pre_norm", [True, False])
def test_stacked_and_unstacked_layers_give_the_same_logits(block: str, mixer: str, pre_norm: bool) -> None:
    of = config(block, mixer, pre_norm=pre_norm)
    params = initialize(of, 0)
    stacked = make_apply(of, Compute())(params, ids()).logits
    unstacked = make_apply(of, Compute(), unstacked=True)(to_unstacked(to_flat(params, of)), ids()).logits
    np.testing.assert_allclose(stacked, unstacked, atol=2e-5 * np.abs(stacked).max())
    assert np.ptp(stacked) > 0.1


@pytest.mark.parametrize(("block", "mixer"), ARCHITECTURES)
@pytest.mark.parametrize("unstacked", [False, True])
def test_long_rows_in_parts_give_the_same_logits_and_gradients(
    block: str, mixer: str, unstacked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = config(block, mixer, mask_padding=True)
    params = initialize(of, 0)
    if unstacked:
        params = to_unstacked(to_flat(params, of))

    def loss(params: Any) -> Any:
        logits = make_apply(of, Compute(), unstacked)(params, ids()).logits
        return (logits**2).sum(), logits

    expected = jax.grad(loss, has_aux=True)(params)
    for module in (blocks, encoder):
        monkeypatch.setattr(module, "PART", 4)
    found = jax.grad(loss, has_aux=True)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * max(1, np.abs(b).max())), found, expected)


@pytest.mark.parametrize(("block", "mixer"), ARCHITECTURES)
def test_padding_changes_only_the_outputs_of_ssms_without_mask_padding(block: str, mixer: str) -> None:
    for mask_padding in (False, True):
        of = config(block, mixer, mask_padding=mask_padding)
        apply, params = make_apply(of, Compute()), initialize(of, 0)
        padded = apply(params, ids()[1:2]).logits[:, :6]
        same = np.allclose(padded, apply(params, ids()[1:2, :6]).logits, atol=1e-5)
        assert same == of.ignores_padding == (mask_padding or mixer == "attention")


@pytest.mark.parametrize(("block", "mixer"), ARCHITECTURES)
def test_every_parameter_has_a_gradient_and_a_torch_name(block: str, mixer: str) -> None:
    of = config(block, mixer)
    params = initialize(of, 0)
    gradients = jax.grad(lambda p: (make_apply(of, Compute())(p, ids()).logits ** 2).sum())(params)
    without = [path for path, leaf in to_flat(gradients, of).items() if not np.any(leaf)]
    assert not [path for path in without if not path.endswith(("key/bias", "token_type_embeddings/embedding"))]
    flat = to_flat(params, of)
    again = from_torch(to_torch(flat, of), of)
    assert all(np.array_equal(again[path], flat[path]) for path in published_shapes(of))


def test_attention_matches_its_definition() -> None:
    random = np.random.default_rng(1)
    query, key, value = random.standard_normal((3, 2, L, H)).astype(np.float32)
    keep = np.ones((2, L), np.int32)
    keep[1, 7:] = 0
    expected = np.zeros_like(query)
    for row, head in itertools.product(range(2), range(HEADS)):
        part = slice(head * H // HEADS, (head + 1) * H // HEADS)
        scores = query[row][:, part] @ key[row][:, part].T / np.sqrt(H / HEADS)
        weights = np.exp(scores) * keep[row]
        expected[row][:, part] = weights / weights.sum(-1, keepdims=True) @ value[row][:, part]
    np.testing.assert_allclose(attend(*map(jax.numpy.asarray, (query, key, value, keep)), HEADS), expected, atol=1e-5)


def test_a_row_of_padding_gives_finite_outputs() -> None:
    of = config("stacked", "attention")
    assert np.isfinite(make_apply(of, Compute())(initialize(of, 0), np.zeros((1, L), np.int32)).logits).all()


def test_the_final_norm_normalizes_the_last_hidden_state() -> None:
    of = config("gated", "ssm", head="encoder")
    last = np.asarray(make_apply(of, Compute())(initialize(of, 0), ids()).last_hidden_state)
    np.testing.assert_allclose(last.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(last.std(-1), 1, atol=1e-3)


def test_the_pooler_for_pairs_compares_the_means_of_both_texts() -> None:
    of = config("gated", "ssm", head="encoder", pooler_type="pair")
    params, types = initialize(of, 0), np.zeros((3, L), np.int32)
    types[:, 4:] = 1
    types[2] = 0  # a single text
    outputs = make_apply(of, Compute())(params, ids(), token_type_ids=types)
    states, real = np.asarray(outputs.last_hidden_state), ids() > 0

    def mean(where: Any) -> Any:
        return (states * where[..., None]).sum(1) / np.maximum(where.sum(1), 1)[:, None]

    u, v = mean(real & (types == 0)), mean(real & (types == 1))
    assert not v[2].any()
    dense = params["pooler"]["dense"]
    expected = np.tanh(np.concatenate([u, v, abs(u - v), u * v], -1) @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(outputs.pooler_output, expected, atol=1e-5)


def test_a_published_config_has_none_of_the_new_keys() -> None:
    new = {"block", "mixer", "num_attention_heads", "final_norm", "mask_padding"}
    assert not new & config_values(BiGSConfig()).keys()
    assert new - {"mask_padding"} <= config_values(config("stacked", "attention")).keys()


def test_flops_of_the_architectures() -> None:
    """One row of L tokens, without the head: dense layers per token, then mixing."""
    dense = {
        ("gated", "ssm"): 3 * H * I + 4 * H * H,
        ("gated", "attention"): 3 * H * I + 3 * H * H,
        ("stacked", "ssm"): 2 * H * I + 4 * H * H,
        ("stacked", "attention"): 2 * H * I + 4 * H * H,
    }
    for (block, mixer), products in dense.items():
        flops = count_flops(config(block, mixer), L, "dense")
        assert flops.dense == 2 * 2 * L * products
        assert flops.mixing == 2 * H * 4 * L * L
