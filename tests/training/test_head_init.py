"""`head_init: unit`: a new head starts near chance level, however large the hidden states are."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bigs_cli.checkpoints.folder import write_flax
from bigs_cli.checkpoints.resolve import OpenModel, find_model, open_model
from bigs_cli.data.encode import Encoded
from bigs_cli.models.config import BiGSConfig
from bigs_cli.models.functional import initialize, make_apply
from bigs_cli.models.published import to_flat
from bigs_cli.recipe.groups import Compute
from bigs_cli.reporting.metrics_log import read_metrics
from bigs_cli.training.head_init import LOGIT_SIZE, unit_head
from bigs_cli.training.job import initial_parameters
from tests.tiny import bigs, finetune
from tests.training.test_task_types import write_choices, write_questions, write_tagged

CONFIG = BiGSConfig(
    head="sequence-classification",
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    intermediate_size=24,
    num_ssm=4,
    max_position_embeddings=32,
)
NEW = ["s4_bert/pooler/dense/kernel", "classifier/kernel"]


@pytest.fixture(scope="module")
def grown(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pretrained model with hidden states 1,000 times as large.

    All contributions to the residual stream are scaled. The function is the same, because every layer normalizes its
    input.
    """
    folder = tmp_path_factory.mktemp("grown")
    model = open_model(find_model(str(pretrained)))
    added = ("/do/kernel", "/do/bias", "embeddings/LayerNorm/scale", "embeddings/LayerNorm/bias")
    flat = {path: a * np.float32(1000 if path.endswith(added) else 1) for path, a in model.flat.items()}
    write_flax(folder, model.config, flat)
    shutil.copy(pretrained / "tokenizer.json", folder)
    return folder


def first_loss(start: Path, data: Path, task: str, recipe: str, run: Path, *sets: str) -> float:
    """Return the loss of a new, untrained head on the first batch."""
    more = [word for value in ("epochs=0.1", "batch_size=24", *sets) for word in ("--set", value)]
    bigs(*finetune(task, start, data, run, "--recipe", recipe, *more)).fine()
    return read_metrics(run / "metrics.jsonl")[0]["loss"]


@pytest.mark.parametrize("task", ["wikiann", "squad", "codah", "mrpc"])
def test_the_first_loss_is_near_chance_level(task: str, grown: Path, glue: Path, tmp_path: Path) -> None:
    data = glue if task == "mrpc" else tmp_path / "data"
    {"wikiann": write_tagged, "codah": write_choices, "squad": lambda path: write_questions(path, "v1.1", 0.0)}.get(
        task, lambda path: None
    )(data)
    # In question answering, a window has 12 to 24 tokens.
    guessing = math.log({"wikiann": 7, "squad": 18, "codah": 4, "mrpc": 2}[task])
    for recipe in (f"{task}-small", task):
        if (recipe, task) != ("mrpc", "mrpc"):
            loss = first_loss(grown, data, task, recipe, tmp_path / recipe)
            assert loss < 1.5 * guessing, recipe
    if task in ("wikiann", "squad"):
        assert first_loss(grown, data, task, task, tmp_path / "published", "head_init=published") > 20 * guessing


def test_a_new_regression_head_starts_at_the_mean_label(grown: Path, glue: Path, tmp_path: Path) -> None:
    rows = (glue / "STS-B" / "train.tsv").read_text().splitlines()[1:]
    scores = np.array([float(row.split("\t")[-1]) for row in rows])
    assert first_loss(grown, glue, "stsb", "stsb-small", tmp_path / "run") < 1.5 * scores.var()


@pytest.fixture(scope="module")
def examples() -> Encoded:
    ids = np.random.default_rng(0).integers(1, 50, 8 * 12).astype(np.int32)
    return Encoded(ids, np.arange(0, 97, 12), np.full(8, 12), 32)


def test_large_hidden_states_do_not_saturate_the_pooler(examples: Encoded) -> None:
    params = initialize(CONFIG, 0)
    params["s4_bert"]["encoder"]["layer"]["do"]["bias"] += 1000.0
    params["s4_bert"]["embeddings"]["LayerNorm"]["scale"] *= 1000.0
    batch = examples.batch(np.arange(8), 8)
    apply = jax.jit(make_apply(CONFIG, Compute()))

    def saturated(params: Any) -> float:
        pooled = apply(params, batch["input_ids"], batch["attention_mask"]).pooler_output
        return float((np.abs(np.asarray(pooled)) > 0.999).mean())

    assert saturated(params) > 0.5
    assert saturated(unit_head(CONFIG, Compute(), params, NEW, examples)) < 0.05


@pytest.mark.parametrize("changes", [{}, {"pooler_type": "mean"}, {"pooler_type": "pair"}, {"final_norm": True}])
def test_large_logits_of_a_new_head_are_scaled_to_the_limit(changes: dict[str, Any], examples: Encoded) -> None:
    config = CONFIG.model_copy(update=changes)
    params = initialize(config, 0)
    params["classifier"]["kernel"] *= 1000.0
    params = unit_head(config, Compute(), params, NEW, examples)
    batch = examples.batch(np.arange(8), 8)
    logits = make_apply(config, Compute())(params, batch["input_ids"], batch["attention_mask"]).logits
    assert np.sqrt(np.square(logits).mean()) == pytest.approx(LOGIT_SIZE, rel=1e-3)


def test_only_new_layers_are_scaled(examples: Encoded) -> None:
    params = initialize(CONFIG, 0)
    params["s4_bert"]["embeddings"]["LayerNorm"]["scale"] *= 1000.0
    for new in ([], NEW[1:], NEW):
        changed = unit_head(CONFIG, Compute(), params, new, examples)
        before = dict(jax.tree_util.tree_leaves_with_path(params))
        paths = [path for path, leaf in jax.tree_util.tree_leaves_with_path(changed) if (leaf != before[path]).any()]
        assert ["/".join(key.key for key in path) for path in paths] == sorted(new)


def test_transferred_layers_are_not_new() -> None:
    # Initial values of another seed than 0 count as trained.
    for seed, untrained in ((0, set(NEW)), (1, set())):
        start = OpenModel("start", CONFIG, to_flat(initialize(CONFIG, seed), CONFIG), None, "a model")
        params, paths = initial_parameters(CONFIG, 2, start)
        assert paths == untrained
        np.testing.assert_array_equal(to_flat(params, CONFIG)[NEW[0]], start.flat[NEW[0]])
    assert initial_parameters(CONFIG, 2, None)[1] == set()
