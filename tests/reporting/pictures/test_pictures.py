"""Pictures as SVG, which says what is in them: whatever their data is called, and however much of it there is."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from bigs_cli.checkpoint.names import to_flat
from bigs_cli.core.errors import RequestError
from bigs_cli.model.functional import initialize
from bigs_cli.recipe import BiGSConfig
from bigs_cli.reporting.pictures.answers import draw_confusion, draw_scatter
from bigs_cli.reporting.pictures.course import draw_course
from bigs_cli.reporting.pictures.kernels import draw_kernels, layer_kernels
from bigs_cli.reporting.pictures.learning import draw_learning
from bigs_cli.reporting.pictures.style import inline_svg


def texts(svg: str) -> list[str]:
    """What is written in a picture, in its order; the picture is well-formed."""
    return [text.text or "" for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_confusion_matrix_has_every_count_and_its_share_of_the_label(size: int) -> None:
    rng = np.random.default_rng(size)
    labels, predictions = rng.integers(0, size - 1, (2, 90))  # The last class is nowhere.
    written = texts(inline_svg(draw_confusion(labels, predictions, [f"class {i}" for i in range(size)], "title"), 0))
    counts = np.array([[((labels == i) & (predictions == j)).sum() for j in range(size)] for i in range(size)])
    shares = [f"{100 * counts[i, j] / max(1, counts[i].sum()):.0f}%" for i in range(size) for j in range(size)]
    assert [word for word in written if word.endswith("%")] == shares
    numbers = [word for word in written if word.isdigit()]
    assert numbers == [str(count) for count in counts.flat]
    assert {f"{count} in all" for count in counts.sum(1)} <= set(written)
    assert {"label", "prediction", "title"} <= set(written)


def test_names_are_text_whatever_they_hold() -> None:
    names = ["$x$", "</text><script>alert(1)</script>", "_hidden", 'a"b--c']
    svg = inline_svg(draw_confusion(np.arange(4), np.arange(4), names, "$y^2$ & <b>"), 0)
    assert "<script" not in svg
    assert {"$x$", names[1], "$y^2$ & <b>"} <= set(texts(svg))
    course = [{"step": step, "loss": 1.0, "dev_accuracy": 0.5} for step in (1, 2)]
    run = "<script>$\\frac$"
    assert run in texts(inline_svg(draw_course({run: course}), 0))
    assert run in texts(inline_svg(draw_learning({run: course}, "accuracy"), 0))


def test_pictures_of_one_page_share_no_ids_and_take_its_colours() -> None:
    figure = draw_scatter(np.array([0.0, 1.0]), np.array([0.5, 0.5]), "title")
    first, second = (inline_svg(figure, number) for number in (0, 1))
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert first.startswith("<svg")
    assert "currentColor" in first
    assert "#333333" not in first


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0], list(np.linspace(-1, 1, 3001))])
def test_scores_of_any_number_and_spread_are_drawn(values: list[float]) -> None:
    svg = inline_svg(draw_scatter(np.array(values), np.array(values), "title"), 0)
    assert ("data:image/png" in svg) == (len(values) > 3000)
    assert len(svg) < 300_000


def test_a_learning_curve_marks_the_first_of_the_best() -> None:
    course = [
        {"step": 10 * i, "dev_f1": 0.9, "dev_accuracy": value} for i, value in enumerate((0.5, 0.625, 0.625, 0.6), 1)
    ]
    figure = draw_learning({"run": [{"step": 1, "loss": 2.0}, *course]}, "accuracy")
    ring = next(line for line in figure.axes[0].lines if line.get_markersize() == 10)
    assert list(ring.get_xydata()[0]) == [20, 62.5]
    assert "62.5" in texts(inline_svg(figure, 0))
    steady = draw_learning({"run": [{"step": i, "dev_accuracy": 0.5 + i / 10_000} for i in (1, 2)]}, "accuracy")
    low, high = steady.axes[0].get_ylim()
    assert high - low == pytest.approx(1.0)
    with pytest.raises(RequestError, match="run has measured nothing on its dev set yet"):
        draw_learning({"run": [{"step": 1, "loss": 2.0}]}, "accuracy")


@pytest.mark.parametrize("head", ["encoder", "masked-lm", "sequence-classification"])
def test_kernels_are_those_of_the_recurrence(head: str) -> None:
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
def test_each_layer_has_a_panel_with_forward_to_the_right(layers: int) -> None:
    figure = draw_kernels(np.random.default_rng(0).normal(size=(layers, 2, 6)), "title")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [f"layer {i}" for i in range(layers)]
    for axes in shown:
        forward, backward = axes.lines[:2]
        assert list(forward.get_xdata()) == [0, 1, 2, 3, 4, 5]
        assert list(backward.get_xdata()) == [0, -1, -2, -3, -4, -5]
    assert {"5", "0", "title"} <= set(texts(inline_svg(figure, 0)))
    draw_kernels(np.ones((layers, 2, 1)), "one position")
