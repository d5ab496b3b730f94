"""Sentence embeddings: the three ways of training them, their evaluation, and every command that uses the model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from bigs_cli.models.losses import ranking_sums, score_order_sums
from bigs_cli.tasks.metrics import ranks, retrieval
from tests.tasks.test_custom import write
from tests.tiny import DOCUMENTS, bigs, on_eight_devices

RETRIEVAL = ("--set", "files.evaluation=retrieval", "--set", "epochs=1")
SENTENCES = [part.strip() for text in DOCUMENTS for part in text.split(".") if part.strip()]


def pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """Return pairs of sentences, shuffled words of another one as negatives, and scores: the share of common words."""
    random, rows = np.random.default_rng(seed), []
    for i in range(count):
        text, other = (SENTENCES[j] for j in ((i * 5 + seed) % len(SENTENCES), random.integers(len(SENTENCES))))
        words = text.split()
        pair = " ".join(random.permutation(words[: 2 + len(words) // 2]))
        score = len({*words} & {*other.split()}) / len({*words} | {*other.split()})
        rows.append({"text": text, "pair": pair, "negative": other, "other": other, "score": round(5 * score, 3)})
    return rows


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for split, seed in (("train", 1), ("dev", 2)):
        write(folder / f"{split}.jsonl", pairs(24, seed))
    return folder


def train(tables: Path, start: Path, run: Path, *more: object) -> Any:
    sets = ("epochs=2", "batch_size=8", "eval_batch_size=8", "sequence_length=24", "optimizer.learning_rate=3e-3")
    words = ["--train", tables / "train.jsonl", "--dev", tables / "dev.jsonl", "--task-type", "embedding", *more]
    return bigs("finetune", *words, "--from", start, "--run", run, *(w for value in sets for w in ("--set", value)))


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def vectors(run: Path, texts: list[str], folder: Path, dimensions: int | None = None) -> np.ndarray[Any, Any]:
    """Return the embeddings that `bigs predict --embed` writes, with length 1."""
    options = () if dimensions is None else ("--dimensions", dimensions)
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    output = folder / "vectors.npy"
    output.unlink(missing_ok=True)
    words = ("predict", "--input", folder / "texts.txt", "--embed", "--output", output, "--model", run, "--length", 24)
    bigs(*words, *options).fine()
    found = np.load(output)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_scored_pairs(tables: Path, pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(tables, pretrained, run, "--pair", "other", "--label", "score").fine()
    assert "24 pairs with scores; dev: 24 pairs, scores: sentence embeddings." in done.err
    found, dev = lines(run), pairs(24, 2)
    first, second = (vectors(run, [row[key] for row in dev], tmp_path) for key in ("text", "other"))
    np.testing.assert_allclose([line["prediction"] for line in found], (first * second).sum(1), atol=2e-5)
    expected = spearmanr([row["score"] for row in dev], [line["prediction"] for line in found]).statistic
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert metrics["spearman"] == pytest.approx(expected)
    again = json.loads(bigs("eval", "--model", run, "--json").fine().out)
    assert again["metrics"] == pytest.approx(metrics)
    found = train(tables, pretrained, tmp_path / "retrieval", "--pair", "other", "--label", "score", *RETRIEVAL).fine()
    assert "nDCG@10" in found.err
    refused = bigs("predict", "a text", "--model", run)
    assert (refused.code, "only embeddings" in refused.err) == (2, True)


def test_triplets_are_evaluated_as_retrieval(tables: Path, pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--pair", "pair", "--negative", "negative", "--set", "loss.dimensions=[8, 4]")
    done = train(tables, pretrained, run, *options).fine()
    assert "24 pairs that belong together, with negatives; dev: 24 pairs, retrieval: sentence embeddings." in done.err
    assert "nDCG@10" in done.err
    dev = pairs(24, 2)
    documents = list(dict.fromkeys([row["pair"] for row in dev] + [row["negative"] for row in dev]))
    similarity = vectors(run, [row["text"] for row in dev], tmp_path) @ vectors(run, documents, tmp_path).T
    for line, row, of in zip(lines(run), dev, similarity, strict=True):
        assert line["prediction"] == 1 + (of > of[documents.index(row["pair"])] + 1e-6).sum()
    queries = list(dict.fromkeys(row["text"] for row in dev))
    relevant = np.array([[any(r["text"] == q and r["pair"] == d for r in dev) for d in documents] for q in queries])
    first = [next(i for i, row in enumerate(dev) if row["text"] == query) for query in queries]
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert metrics["ndcg_at_10"] == pytest.approx(ndcg_score(relevant, similarity[first], k=10), abs=1e-6)
    again = json.loads(bigs("eval", "--model", run, "--json").fine().out)
    assert again["metrics"] == pytest.approx(metrics)
    # The first dimensions only.
    short = json.loads(bigs("eval", "--model", run, "--json", "--dimensions", 4).fine().out)["metrics"]
    similarity = vectors(run, [row["text"] for row in dev], tmp_path, 4) @ vectors(run, documents, tmp_path, 4).T
    assert short["ndcg_at_10"] == pytest.approx(ndcg_score(relevant, similarity[first], k=10), abs=1e-6)
    for words in (("eval",), ("predict", "a text", "--embed", "--output", tmp_path / "v.npy")):
        assert "have only 16" in bigs(*words, "--model", run, "--dimensions", 17).err
    twin = tmp_path / "twin"
    train(tables, pretrained, twin, *options, "--set", "seed=1").fine()
    compared = bigs("runs", "compare", run, twin).fine()
    assert "paired bootstrap" in compared.out
    assert "→" not in train(tables, pretrained, tmp_path / "dry", *options, "--dry-run").fine().out
    bigs("runs", "report", run, "--output", tmp_path / "report.html").fine()
    assert "Ranked lowest" in (tmp_path / "report.html").read_text()
    exported = tmp_path / "exported"
    bigs("export", "--model", run, "--format", "safetensors", "--output", exported).fine()
    np.testing.assert_allclose(vectors(exported, documents, tmp_path), vectors(run, documents, tmp_path), atol=1e-5)


def test_single_texts_and_dropout(tables: Path, pretrained: Path, tmp_path: Path) -> None:
    """SimCSE: the training file has texts only, the dev set has scored pairs."""
    texts = write(tmp_path / "texts.jsonl", [{"text": text} for text in SENTENCES])
    run = tmp_path / "run"
    options = ("--train", texts, "--pair", "other", "--label", "score", "--set", "dropout=0.2")
    done = train(tables, pretrained, run, *options).fine()
    assert f"{len(SENTENCES)} single texts, each paired with itself; dev: 24 pairs, scores" in done.err
    assert "hidden_dropout_prob: 0.2" in (run / "config.json").read_text().replace('"', "")
    assert "spearman" in json.loads((run / "results.json").read_text())["metrics"]


def test_invalid_requests(tables: Path, pretrained: Path, tmp_path: Path) -> None:
    refused = train(tables, pretrained, tmp_path / "run")
    assert (refused.code, "Name it with --pair COLUMN" in refused.err) == (2, True)
    pair = ("--pair", "pair")
    texts = write(tmp_path / "texts.jsonl", [{"text": text} for text in SENTENCES])
    for words, message in (
        ((*pair, "--negative", "negatives"), "has no column 'negatives'"),
        ((*pair, "--set", "files.objective=scores"), "has no scores: there is no column 'label'"),
        ((*pair, "--set", "files.evaluation=scores"), "has no scores: there is no column 'label'"),
        ((*pair, "--set", "loss.dimensions=[16]"), "must be below the 16 dimensions of the model"),
        ((*pair, "--train", texts, "--set", "dropout=0"), "only dropout makes its two vectors differ"),
    ):
        refused = train(tables, pretrained, tmp_path / "run", *words)
        assert (refused.code, message in refused.err) == (2, True), refused.err
    for value in ("loss.class_weights=balanced", "loss.label_smoothing=0.1"):
        refused = train(tables, pretrained, tmp_path / "run", "--pair", "pair", "--set", value)
        assert (refused.code, "are only for tasks with classes" in refused.err) == (2, True)
    words = ("--train", tables / "train.jsonl", "--dev", tables / "dev.jsonl", "--label", "score")
    refused = bigs("finetune", *words, "--from", pretrained, "--run", tmp_path / "run", "--set", "loss.temperature=1")
    assert (refused.code, "are only for sentence embeddings" in refused.err) == (2, True)
    refused = bigs("finetune", *words, "--negative", "negative", "--from", pretrained, "--run", tmp_path / "run")
    assert (refused.code, "need files.task_type: embedding" in refused.err) == (2, True)
    assert not (tmp_path / "run").exists()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=15), st.integers(0, 9))
def test_retrieval_metrics_match_their_definitions(relevant: list[tuple[int, int]], seed: int) -> None:
    """nDCG is compared with scikit-learn; the others are written out."""
    relevant = list(dict.fromkeys(relevant))
    random = np.random.default_rng(seed)
    queries, documents = random.normal(size=(5, 8)), random.normal(size=(12, 8))
    found = ranks(queries[[q for q, _ in relevant]], documents, np.array([d for _, d in relevant]))
    values = retrieval([str(q) for q, _ in relevant], found)
    for i, query in enumerate(dict.fromkeys(q for q, _ in relevant)):
        similarity, wanted = documents @ queries[query], {d for q, d in relevant if q == query}
        order = np.argsort(-similarity).tolist()
        truth = np.isin(np.arange(12), list(wanted))
        assert values["ndcg_at_10"][i] == pytest.approx(ndcg_score([truth], [similarity], k=10))
        assert values["recall_at_1"][i] == len(wanted & {order[0]}) / len(wanted)
        assert values["recall_at_10"][i] == len(wanted & {*order[:10]}) / len(wanted)
        best = min(order.index(d) for d in wanted) + 1
        assert values["mrr_at_10"][i] == (1 / best if best <= 10 else 0)


def test_retrieval_metrics_match_pytrec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed: pytrec-eval-terrier")
    random = np.random.default_rng(0)
    queries, documents = random.normal(size=(20, 8)), random.normal(size=(60, 8))
    relevant = [(q, int(d)) for q in range(20) for d in random.choice(60, random.integers(1, 6), replace=False)]
    found = ranks(queries[[q for q, _ in relevant]], documents, np.array([d for _, d in relevant]))
    values = retrieval([str(q) for q, _ in relevant], found)
    truth: dict[str, dict[str, int]] = {}
    for q, d in relevant:
        truth.setdefault(str(q), {})[str(d)] = 1
    scores = {
        str(q): {str(d): float(score) for d, score in enumerate(row)} for q, row in enumerate(queries @ documents.T)
    }
    names = {"ndcg_at_10": "ndcg_cut_10", "recall_at_1": "recall_1", "recall_at_10": "recall_10"}
    judged = pytrec_eval.RelevanceEvaluator(truth, {"ndcg_cut.10", "recall.1,10", "recip_rank"}).evaluate(scores)
    for ours, theirs in names.items():
        assert values[ours].tolist() == pytest.approx([judged[query][theirs] for query in truth])
    first = [judged[query]["recip_rank"] for query in truth]  # of all documents, not the first ten
    assert values["mrr_at_10"].tolist() == pytest.approx([value if value >= 0.1 else 0 for value in first])


def test_equal_documents_rank_in_their_order() -> None:
    assert ranks(np.ones((3, 1)), np.ones((3, 1)), np.arange(3)).tolist() == [1, 2, 3]


def test_the_losses_match_their_definitions() -> None:
    texts = np.random.default_rng(0).normal(size=(5, 3, 4))
    unit = texts / np.linalg.norm(texts, axis=-1, keepdims=True)
    weights = jnp.asarray([1.0, 1, 1, 1, 0])
    total, sums = ranking_sums(jnp.asarray(texts), jnp.arange(5), weights, 0.1)
    expected = 0.0
    for i in range(4):
        all_ = [unit[i, 0] @ unit[j, k] / 0.1 for k in (1, 2) for j in range(4)]
        expected += math.log(sum(map(math.exp, all_))) - all_[i]
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert float(sums["weight"]) == 4
    same, _ = ranking_sums(jnp.asarray(texts), jnp.asarray([0, 1, 0, 3, 4]), weights, 0.1)
    without = 0.0
    for i in range(4):
        others = [unit[i, 0] @ unit[j, k] / 0.1 for k in (1, 2) for j in range(4)]
        left_out = {0: 2, 2: 0}.get(i)  # the second text of the other row with the same one
        without += math.log(sum(math.exp(x) for j, x in enumerate(others) if j != left_out)) - others[i]
    assert float(same) == pytest.approx(without, rel=1e-4)
    scores = jnp.asarray([3.0, 1, 2, 2, 9])
    total, _ = score_order_sums(jnp.asarray(texts), scores, weights, 0.1)
    cosine = (unit[:, 0] * unit[:, 1]).sum(-1)
    terms = [math.exp((cosine[j] - cosine[i]) / 0.1) for i in range(4) for j in range(4) if scores[i] > scores[j]]
    assert float(total / 4) == pytest.approx(math.log(1 + sum(terms)), rel=1e-4)
    gradient = jax.grad(lambda x: score_order_sums(x, jnp.ones(5), weights, 0.1)[0])(jnp.asarray(texts))
    assert np.array_equal(gradient, np.zeros_like(texts))  # equal scores have no order


def test_all_devices_share_their_negatives() -> None:
    """With rows on eight devices, the loss and its gradient are those of one device."""
    printed = on_eight_devices(
        """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from bigs_cli.models.losses import ranking_sums
from bigs_cli.models.sharding import make_mesh
from bigs_cli.recipe.groups import Mesh
texts = np.random.default_rng(0).normal(size=(16, 2, 8)).astype(np.float32)
loss = jax.jit(jax.value_and_grad(lambda x, w: ranking_sums(x, jnp.arange(16), w, 0.05)[0]))
one = loss(texts, np.ones(16, np.float32))
mesh = make_mesh(Mesh())
rows = NamedSharding(mesh, PartitionSpec("data"))
many = loss(jax.device_put(texts, rows), jax.device_put(np.ones(16, np.float32), rows))
print(len(many[1].sharding.device_set), float(abs(one[0] - many[0])), float(abs(one[1] - many[1]).max()))
"""
    )
    devices, *differences = map(float, printed.split())
    assert devices == 8
    assert max(differences) < 1e-3


def test_lines_of_text_are_learned_from(tables: Path, pretrained: Path, tmp_path: Path) -> None:
    """SimCSE: each line is paired with itself. The metrics before training are those of the mean of the base model."""
    (tmp_path / "texts.txt").write_text("\n\n".join(SENTENCES) + "\n")
    done = train(
        tables, pretrained, tmp_path / "run", "--train", tmp_path / "texts.txt", "--pair", "other", "--label", "score"
    ).fine()
    assert f"{len(SENTENCES)} single texts, each paired with itself; dev: 24 pairs, scores" in done.err
    dev = pairs(24, 2)
    first, second = (vectors(pretrained, [row[key] for row in dev], tmp_path) for key in ("text", "other"))
    expected = np.corrcoef([row["score"] for row in dev], (first * second).sum(1))[0, 1]
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (before,) = [entry for entry in logged if entry["step"] == 0]
    assert before["dev_pearson"] == pytest.approx(expected, abs=1e-4)
    assert "before training: dev Spearman correlation " in done.err
