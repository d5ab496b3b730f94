"""The held-out masked-LM loss does not depend on batching, and the unigram baseline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bigs_cli.checkpoints.resolve import find_model, open_model
from bigs_cli.data.corpus import Validation
from bigs_cli.data.loader import heldout_batches
from bigs_cli.data.manifest import Split
from bigs_cli.data.shards import open_shards
from bigs_cli.evaluation.mlm import MaskedLMEvaluator, unigram_loss
from bigs_cli.models.functional import make_apply
from bigs_cli.models.published import to_tree
from bigs_cli.recipe import PretrainRecipe, load_recipe
from bigs_cli.recipe.groups import Compute


def test_held_out_metrics_do_not_depend_on_the_batch_size(pretrained: Path, shards: Path) -> None:
    model, rows = open_model(find_model(str(pretrained))), open_shards(shards)
    recipe = load_recipe(str(pretrained / "recipe.yaml"))
    assert isinstance(recipe, PretrainRecipe)
    params = to_tree(model.flat, model.config)
    apply = make_apply(model.config, Compute())
    evaluator = MaskedLMEvaluator(apply, rows, model.config.vocab_size, masking=recipe.masking)
    seen: list[int] = []
    # With 7, most rows of the last batch are padding.
    ours, theirs = (evaluator(params, heldout_batches(rows.split("heldout"), size), seen.append) for size in (8, 7))
    assert sum(seen) == 2 * rows.manifest.rows("heldout")
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours["perplexity"] == pytest.approx(np.exp(ours["loss"]))
    assert 0 < ours["predictions"] <= 5 * rows.manifest.rows("heldout")


def test_unigram_loss_is_the_cross_entropy_of_smoothed_frequencies(shards: Path) -> None:
    opened = open_shards(shards)
    special = list(opened.manifest.special_ids.values())

    def words(split: Split) -> np.ndarray:
        ids = opened.split(split).take(np.arange(opened.manifest.rows(split)))["input_ids"].ravel()
        return ids[~np.isin(ids, special)]

    train, held_out = words("train"), words("heldout")
    size = opened.manifest.vocab_size
    total = len(train) + size - len(special)
    expected = np.mean([-np.log((np.sum(train == word) + 1) / total) for word in held_out])
    # The smoothed count of special tokens has little effect on the others.
    assert unigram_loss(opened, Validation.of(opened)) == pytest.approx(expected, abs=0.01)
