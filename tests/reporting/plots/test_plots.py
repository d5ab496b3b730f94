"""Plots as SVG, whose text is checked: any names and any amount of data."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bigs_cli.core.errors import RequestError
from bigs_cli.evaluation.report import DevPredictions, draw_predictions
from bigs_cli.models.functional import initialize
from bigs_cli.models.published import to_flat
from bigs_cli.recipe import BiGSConfig
from bigs_cli.reporting.plots.curves import PRETRAINING, draw_training_curves, draw_validation_curve
from bigs_cli.reporting.plots.kernels import draw_kernels, layer_kernels
from bigs_cli.reporting.plots.predictions import draw_confusion, draw_scatter
from bigs_cli.reporting.plots.style import inline_svg
from bigs_cli.tasks import get_task


def texts(svg: str) -> list[str]:
    """Return the texts of a well-formed SVG figure in order."""
    return [text.text or "" for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_confusion_matrix_has_counts_and_percentages(size: int) -> None:
    rng = np.random.default_rng(size)
    labels, predictions = rng.integers(0, size - 1, (2, 90))  # No example has the last class.
    written = texts(inline_svg(draw_confusion(labels, predictions, [f"class {i}" for i in range(size)], "title"), 0))
    counts = np.array([[((labels == i) & (predictions == j)).sum() for j in range(size)] for i in range(size)])
    shares = [f"{100 * counts[i, j] / max(1, counts[i].sum()):.0f}%" for i in range(size) for j in range(size)]
    assert [word for word in written if word.endswith("%")] == shares
    numbers = [word for word in written if word.isdigit()]
    assert numbers == [str(count) for count in counts.flat]
    assert {f"{count} in total" for count in counts.sum(1)} <= set(written)
    assert {"label", "prediction", "title"} <= set(written)


def test_names_are_drawn_verbatim() -> None:
    names = ["$x$", "</text><script>alert(1)</script>", "_hidden", 'a"b--c']
    svg = inline_svg(draw_confusion(np.arange(4), np.arange(4), names, "$y^2$ & <b>"), 0)
    assert "<script" not in svg
    assert {"$x$", names[1], "$y^2$ & <b>"} <= set(texts(svg))
    entries = [{"step": step, "loss": 1.0, "dev_accuracy": 0.5} for step in (1, 2)]
    run = "<script>$\\frac$"
    assert f"{run}: training" in texts(inline_svg(draw_training_curves({run: entries}, {run: "$task$"}), 0))
    assert f"{run}: $task$ validation curve" in texts(
        inline_svg(draw_validation_curve({run: entries}, "accuracy", "$task$"), 0)
    )


def test_inline_figures_have_unique_ids_and_page_colours() -> None:
    figure = draw_scatter(np.array([0.0, 1.0]), np.array([0.5, 0.5]), "title")
    first, second = (inline_svg(figure, number) for number in (0, 1))
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert first.startswith("<svg")
    assert "currentColor" in first
    assert "#333333" not in first


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], list(np.linspace(-1, 1, 3001))])
def test_scatter_plots_of_any_scores(values: list[float]) -> None:
    svg = inline_svg(draw_scatter(np.array(values), np.array(values), "title"), 0)
    assert ("data:image/png" in svg) == (len(values) > 3000)
    assert len(svg) < 300_000


def test_a_validation_curve_marks_the_first_best_value() -> None:
    entries = [
        {"step": 10 * i, "dev_f1": 0.9, "dev_accuracy": value} for i, value in enumerate((0.5, 0.625, 0.625, 0.6), 1)
    ]
    figure = draw_validation_curve({"run": [{"step": 1, "loss": 2.0}, *entries]}, "accuracy", "task")
    ring = next(line for line in figure.axes[0].lines if line.get_markersize() == 10)
    assert list(ring.get_xydata()[0]) == [20, 62.5]
    assert "62.5" in texts(inline_svg(figure, 0))
    steady = draw_validation_curve(
        {"run": [{"step": i, "dev_accuracy": 0.5 + i / 10_000} for i in (1, 2)]}, "accuracy", "task"
    )
    low, high = steady.axes[0].get_ylim()
    assert high - low == pytest.approx(1.0)
    with pytest.raises(RequestError, match="run has not been evaluated on its dev set yet"):
        draw_validation_curve({"run": [{"step": 1, "loss": 2.0}]}, "accuracy", "task")


FOUR = ("dev_f1", "dev_precision", "dev_recall", "dev_accuracy")


def dev_lines(figure: Figure, place: int) -> list[Line2D]:
    return [line for line in figure.axes[place].lines if len(line.get_xydata()) > 1]


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("plot", ["training", "validation"])
def test_every_metric_of_every_run_looks_different(plot: str, count: int) -> None:
    runs = {
        f"run {run}": [{"step": step, "loss": 1.0, **dict.fromkeys(FOUR, 0.1 * run)} for step in (1, 2)]
        for run in range(count)
    }
    if plot == "training":
        figure, place = draw_training_curves(runs, dict.fromkeys(runs, "task")), 1
    else:
        figure, place = draw_validation_curve(runs, "f1", "task"), 0
    lines = dev_lines(figure, place)
    assert len(lines) == 4 * count
    looks = {(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in lines}
    assert len(looks) == len(lines)
    for part in ({(marker, dashes) for _, marker, dashes in looks}, {marker for _, marker, _ in looks}):
        assert len(part) == 4
    assert len({colour for colour, _, _ in looks}) == (4 if count == 1 else count)
    legend = figure.axes[place].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["dev F1", "dev precision", "dev recall", "dev accuracy"]
    title = "run 0, run 1, run 2, run 3 and 5 more" if count == 9 else ", ".join(runs)
    assert any(text.startswith(f"{title}: ") for text in texts(inline_svg(figure, 0)))


def test_losses_of_different_objectives_have_separate_panels() -> None:
    runs = {
        "base": [{"step": 1, "loss": 9.5}, {"step": 2, "loss": 6.0, "heldout_loss": 6.5}],
        "mrpc": [{"step": 1, "loss": 0.7, "dev_accuracy": 0.5}],
        "stsb": [{"step": 1, "loss": 5.0}],
        "mrpc-2": [{"step": 1, "loss": 0.6}],
    }
    objectives = {"base": PRETRAINING, "mrpc": "MRPC", "stsb": "STS-B", "mrpc-2": "MRPC"}
    panels = {axes.get_title(loc="left"): axes for axes in draw_training_curves(runs, objectives).axes}
    assert list(panels) == [
        *("pretraining loss", "MRPC loss", "STS-B loss", "dev, in percent", "learning rate", "tokens per second")
    ]
    values = {title: [list(line.get_ydata()) for line in panels[title].lines] for title in list(panels)[:3]}
    assert values == {
        "pretraining loss": [[9.5, 6.0], [6.5]],
        "MRPC loss": [[0.7], [], [0.6], []],
        "STS-B loss": [[5.0], []],
    }
    assert list(panels["dev, in percent"].lines[1].get_ydata()) == [50.0]


def test_a_steep_loss_has_a_logarithmic_axis() -> None:
    steep = [{"step": 1, "loss": 750.0}, *({"step": step, "loss": 1.9 / step} for step in range(2, 20))]
    usual = [{"step": step, "loss": 10 / step**0.25} for step in range(1, 20)]
    for entries, scale in ((steep, "log"), (usual, "linear")):
        validation = draw_validation_curve({"run": [*entries, {"step": 20, "dev_f1": 0.5}]}, "f1", "task").axes[1]
        training = draw_training_curves({"run": entries}, {"run": "task"}).axes[0]
        assert {validation.get_yscale(), training.get_yscale()} == {scale}
        assert validation.get_title(loc="left").endswith(", logarithmic scale") == (scale == "log")
    negative = [{"step": step, "loss": -1.0 * step} for step in range(1, 20)]
    assert draw_training_curves({"run": negative}, {"run": "task"}).axes[0].get_yscale() == "linear"


def test_a_scatter_plot_shows_the_correlations() -> None:
    labels, predictions = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    answered = DevPredictions([], {"spearman": 0.5, "pearson": 0.5123}, None, labels, predictions)
    written = texts(inline_svg(draw_predictions("run", get_task("stsb"), answered), 0))
    assert written[-2:] == ["run: STS-B, dev, 3 examples", "Spearman correlation 50.0%, Pearson correlation 51.2%"]


def test_a_confusion_matrix_shows_the_baseline_and_constant_predictions() -> None:
    labels = np.array([0, 1, 1, 1])
    for predictions, right, constant in ((labels, "100.0", False), (np.ones(4, int), "75.0", True)):
        answered = DevPredictions([], {}, labels == predictions, labels, predictions)
        written = texts(inline_svg(draw_predictions("run", get_task("mrpc"), answered), 0))
        assert f"{right}% correct; majority baseline, always “equivalent”: 75.0%" in written
        assert ("All predictions are the same." in written) == constant


@pytest.mark.parametrize("head", ["encoder", "masked-lm", "sequence-classification"])
def test_kernels_match_the_recurrence(head: str) -> None:
    config = BiGSConfig.model_validate(
        {"head": head, "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 3, "intermediate_size": 8}
        | {"num_ssm": 4, "max_position_embeddings": 20}
    )
    flat = to_flat(initialize(config, 0), config)
    made = layer_kernels(flat, config, 12)
    assert made.shape == (3, 2, 12)
    assert layer_kernels(flat, config, 100).shape == (3, 2, 20)
    for layer in range(3):
        for direction, name in enumerate(("fs4", "bs4")):
            path = next(p for p in flat if p.endswith(f"encoder/layer/{layer}/{name}/A_re")).removesuffix("A_re")
            A = np.minimum(flat[path + "A_re"], -1e-4) + 1j * flat[path + "A_im"].astype(np.float64)
            C, step = flat[path + "C"] @ [1, 1j], np.exp(flat[path + "log_step"].astype(np.float64))
            state, expected = (np.exp(step * A) - 1) / A, []
            for _ in range(12):
                expected.append((C * state).sum().real)
                state = state * np.exp(step * A)
            np.testing.assert_allclose(made[layer, direction], expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layers", [1, 2, 4, 5, 23])
def test_each_layer_has_a_panel_in_reading_order(layers: int) -> None:
    figure = draw_kernels(np.random.default_rng(0).normal(size=(layers, 2, 6)), "title")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [f"layer {i}" for i in range(layers)]
    for axes in shown:
        forward, backward = axes.lines[:2]
        assert list(forward.get_xdata()) == [0, -1, -2, -3, -4, -5]
        assert list(backward.get_xdata()) == [0, 1, 2, 3, 4, 5]
    written = texts(inline_svg(figure, 0))
    assert {"5", "0", "title", "weight", "preceding ← distance in tokens → following"} <= set(written)
    assert {"forward kernel: preceding tokens", "backward kernel: following tokens"} <= set(written)
    draw_kernels(np.ones((layers, 2, 1)), "one position")
    draw_kernels(np.zeros((layers, 2, 6)), "nothing")


def test_small_weights_are_visible_beside_a_peak_at_0() -> None:
    kernels = np.full((1, 2, 64), 0.02)
    kernels[:, :, 0] = 1.0
    axes = draw_kernels(kernels, "title").axes[0]
    heights = axes.transData.transform([(1, weight) for weight in (0, 0.02, 1.0)])[:, 1]
    assert 0.25 < (heights[1] - heights[0]) / (heights[2] - heights[0]) < 0.75
