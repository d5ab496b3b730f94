"""The model against the original's outputs: logits, hidden states, losses, every gradient, five optimizer steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bigs_cli.checkpoints.folder import read_model
from bigs_cli.models.functional import initialize, make_apply
from bigs_cli.models.losses import classification_sums, cross_entropy, regression_sums
from bigs_cli.models.published import to_flat, to_tree
from bigs_cli.models.ssm import SSMParameters, convolution_kernel, discretize
from bigs_cli.recipe.groups import Compute, Optimizer, Schedule, SSMGroup
from bigs_cli.training.optimizer import decayed, learning_rate, make_optimizer
from bigs_cli.training.step import make_step, new_state

LOGITS, LOSS, DENSE_GRADIENT, SSM_GRADIENT, KERNEL = 5e-5, 1e-5, 1e-4, 1e-3, 2e-5
SSM = {"A_re", "A_im", "C", "D", "log_step"}
FLAX = ["hippo_mlm", "lin_mlm", "hippo_seqcls", "hippo_seqreg", "hippo_pretraining", "lin_qa", "hippo_mc"]


def difference(actual, expected):
    """Return the largest difference relative to the largest expected value."""
    expected = np.asarray(expected)
    return float(np.abs(np.asarray(actual) - expected).max() / max(np.abs(expected).max(), 1e-30))


class Case:
    def __init__(self, shared, name):
        folder = shared / "fixtures" / name
        loaded = read_model(folder)
        self.config = loaded.config
        self.tree = to_tree(loaded.flat, loaded.config)
        self.apply = make_apply(self.config, Compute())
        self.reference = dict(np.load(folder / "reference.npz"))
        given = dict(np.load(shared / "fixtures" / "inputs.npz"))
        prefix = "mc_" if self.config.head == "multiple-choice" else ""
        self.inputs = [given[prefix + n] for n in ("input_ids", "attention_mask", "token_type_ids")]
        self.given = given

    def outputs(self, inputs=None):
        return jax.jit(self.apply)(self.tree, *(inputs or self.inputs))


@pytest.mark.parametrize("name", FLAX)
def test_outputs_of_every_head(shared, name):
    case = Case(shared, f"flax_{name}")
    outputs = case.outputs()
    checked = 0
    for key, expected in case.reference.items():
        if key.startswith("hidden_"):
            actual = outputs.hidden_states[int(key.removeprefix("hidden_"))]
        elif key.endswith("logits") or key in ("pooler_output", "last_hidden_state"):
            actual = outputs[key]
        else:
            continue
        assert difference(actual, expected) < LOGITS, key
        checked += 1
    assert checked >= 4


def test_shorter_inputs_match_a_model_of_that_length(shared):
    case = Case(shared, "flax_hippo_mlm")
    expected = np.load(shared / "fixtures" / "flax_hippo_mlm" / "reference_len40.npz")["logits"]
    assert difference(case.outputs([a[:, :40] for a in case.inputs]).logits, expected) < LOGITS


@pytest.mark.parametrize("name", ["hippo_mlm", "hippo_seqcls"])
def test_torch_weights_run_with_the_tanh_gelu(shared, name):
    case = Case(shared, f"torch_{name}")
    assert difference(case.outputs().logits, case.reference["tanh:logits"]) < LOGITS
    shorter = case.outputs([a[:, :40] for a in case.inputs])
    assert difference(shorter.logits, case.reference["len40_tanh:logits"]) < LOGITS


def mlm_loss(case):
    labels = case.given["mlm_labels"]
    predicted = labels > 0  # as in the original code, a label of 0 is ignored

    def loss(tree):
        each, _ = cross_entropy(case.apply(tree, *case.inputs).logits, jnp.maximum(labels, 0))
        return (each * predicted).sum() / predicted.sum()

    return loss


def task_loss(case):
    if case.config.num_labels == 1:
        labels, sums = case.given["reg_labels"], regression_sums
    else:
        labels, sums = case.given["cls_labels"], classification_sums

    def loss(tree):
        total, further = sums(case.apply(tree, *case.inputs).logits, labels, jnp.ones(len(labels)))
        return total / further["weight"]

    return loss


@pytest.mark.parametrize(
    ("name", "loss_of"),
    [
        ("hippo_mlm", mlm_loss),
        ("lin_mlm", mlm_loss),
        ("hippo_seqcls", task_loss),
        ("hippo_seqreg", task_loss),
    ],
)
def test_loss_and_every_gradient(shared, name, loss_of):
    case = Case(shared, f"flax_{name}")
    loss, gradients = jax.jit(jax.value_and_grad(loss_of(case)))(case.tree)
    assert float(loss) == pytest.approx(float(case.reference["loss"]), rel=LOSS)
    flat = to_flat(gradients, case.config)
    expected = {key.removeprefix("grad:"): a for key, a in case.reference.items() if key.startswith("grad:")}
    assert flat.keys() == expected.keys()
    for path, gradient in expected.items():
        tolerance = SSM_GRADIENT if path.rsplit("/")[-1] in SSM else DENSE_GRADIENT
        assert difference(flat[path], gradient) < tolerance, path
        if path.endswith("A_re"):
            assert flat[path][2] == flat[path][5] == 0, "A_re above its limit has no gradient"


def test_kernels_of_a_checkpoint(shared):
    case = Case(shared, "flax_hippo_mlm")
    flat = to_flat(case.tree, case.config)
    for key in (key for key in case.reference if key.endswith("/K")):
        place = f"s4_bert/encoder/layer/{key.removesuffix('/K')}"
        ssm = SSMParameters(*(jnp.asarray(flat[f"{place}/{name}"]) for name in SSMParameters._fields))
        assert difference(convolution_kernel(discretize(ssm), 64), case.reference[key]) < KERNEL


@pytest.mark.parametrize("scaling", ["hippo", "lin", "inv"])
@pytest.mark.parametrize("slow", ["", "slow_"])
def test_kernels_of_4096_tokens_against_float64(shared, scaling, slow):
    """Phases have 48 bits, so slowly decaying kernels are accurate too."""
    read = np.load(shared / "fixtures" / "kernels_4096.npz")
    ssm = SSMParameters(*(jnp.asarray(read[f"{scaling}/{slow}{name}"]) for name in SSMParameters._fields))
    kernel = jax.jit(lambda ssm: convolution_kernel(discretize(ssm), 4096))(ssm)
    assert difference(kernel, read[f"{scaling}/{slow}K_f64"]) < 1e-6


@pytest.mark.parametrize("scaling", ["hippo", "lin", "inv"])
def test_initial_values(shared, scaling):
    expected = np.load(shared / "fixtures" / f"init_{scaling}.npz")
    config = Case(shared, "flax_hippo_mlm").config.model_copy(update={"scaling": scaling})
    flat = to_flat(initialize(config, 0), config)
    for path in expected:
        if path.endswith(("A_re", "A_im", "D")):
            np.testing.assert_allclose(flat[path], expected[path], rtol=1e-6, atol=1e-5, err_msg=path)
        if path.endswith("log_step"):
            assert np.log(0.01) <= flat[path][0] <= 0


def test_decay_mask(shared):
    import json

    mask = json.loads((shared / "fixtures" / "decay_mask_mlm.json").read_text())
    assert {path: decayed(tuple(path.split("/"))) for path in mask} == mask


def test_learning_rates_step_by_step(shared):
    read = np.load(shared / "fixtures" / "lr_schedules.npz")
    compared = 0
    for name in read:
        if name == "steps":
            continue
        if name.startswith("glue"):
            schedule, peak, steps = Schedule(kind="linear", warmup_fraction=0.1), 2e-5, 117
        else:
            _, kind, total, warmup, _ = name.split("_")
            final = 0.1 if kind == "cosine" else 0.0
            schedule = Schedule(kind=kind, warmup_steps=int(warmup.removeprefix("warmup")), min_lr_ratio=final)  # pyright: ignore
            peak, steps = 6e-4, int(total.removeprefix("total"))
        rates = jax.vmap(learning_rate(schedule, peak, steps))(read["steps"])
        np.testing.assert_allclose(rates, read[name], rtol=3e-6, atol=1e-6 * peak, err_msg=name)
        compared += 1
    assert compared == 7


def test_five_optimizer_steps(shared):
    case = Case(shared, "flax_hippo_mlm")
    expected = np.load(shared / "fixtures" / "train5_hippo_mlm.npz")
    settings = Optimizer(learning_rate=1e-3, beta1=0.9, beta2=0.98, epsilon=1e-6, weight_decay=0.05, ssm=SSMGroup())
    rate = learning_rate(Schedule(kind="linear", warmup_steps=2), 1e-3, 10)
    optimizer, mean = make_optimizer(settings), mlm_loss(case)
    step = make_step(lambda params, *_: (mean(params), {"weight": jnp.float32(1)}), optimizer, rate, seed=0)
    state = new_state(jax.tree.map(jnp.asarray, case.tree), optimizer)
    for i in range(5):
        state, metrics = step(state, None)
        assert float(metrics["learning_rate"]) == pytest.approx(float(expected["lr"][i]), rel=1e-5)
        assert float(metrics["loss"]) == pytest.approx(float(expected["losses"][i]), rel=LOSS)
    assert int(state.skipped) == 0
    for path, array in to_flat(state.params, case.config).items():
        assert difference(array, expected[f"param:{path}"]) < 5e-4, path
