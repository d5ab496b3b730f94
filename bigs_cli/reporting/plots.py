"""The course of runs as a picture: loss, what the dev sets give, learning rate and throughput over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.core.errors import RequestError
from bigs_cli.core.files import replacing
from bigs_cli.reporting.metrics_log import curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg")

# Okabe and Ito's colours, told apart by the colour-blind too; their yellow is too faint for a line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_INK, _FAINT = "#333333", "#d9d9d9"
_POINTS = 100  # Beyond it a curve is also drawn as the mean of its surroundings: what noise hides.


def check_picture(path: Path) -> None:
    """Refuse a file that is to be no picture of a known kind (RequestError)."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"{path} ends in neither {' nor '.join(FORMATS)}: name the picture so, by its kind.")
    if path.is_dir():
        raise RequestError(f"{path} is a folder. Name a file with --output.")


def plot(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw the entries of each run, by its name, and write the picture to `path` (.png or .svg).

    Raises:
        RequestError: nothing was logged yet, another kind of file is asked for, or it cannot be written.
    """
    check_picture(path)
    empty = [name for name, entries in runs.items() if not entries]
    if empty:
        raise RequestError(f"{empty[0]} has logged nothing yet: there is nothing to draw.")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    dev = _dev_names(runs)
    panels = ["loss", *(["dev"] if dev else []), "learning rate", "tokens per second"]
    heights = [2.2 if name in ("loss", "dev") else 1.0 for name in panels]
    # The salt and the missing date make equal runs equal files.
    style: Any = {"svg.hashsalt": "bigs", "svg.fonttype": "none", "font.size": 9}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK)
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.5, 1.1 + 1.35 * sum(heights)), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
        axes = dict(zip(panels, rows[:, 0], strict=True))
        for number, (name, entries) in enumerate(runs.items()):
            colour = _COLOURS[number % len(_COLOURS)]
            _draw_loss(axes["loss"], entries, colour)
            if dev:
                for place, metric in enumerate(dev):
                    steps, values = curve(entries, metric)
                    axes["dev"].plot(steps, values, ("o-", "s--", "^:")[place % 3], color=colour, lw=1.4, ms=4)
            for panel, metric in (("learning rate", "learning_rate"), ("tokens per second", "tokens_per_second")):
                axes[panel].plot(*curve(entries, metric), color=colour, lw=1.4, label=name)
        for panel, on in axes.items():
            _clean(on, "" if panel == "dev" else panel)
        axes["tokens per second"].set_ylim(bottom=0)
        axes["tokens per second"].yaxis.set_major_formatter(lambda value, _: _short(value))
        axes["learning rate"].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        rows[-1, 0].set_xlabel("step")
        rows[-1, 0].xaxis.get_major_locator().set_params(integer=True)
        rows[-1, 0].xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _legends(axes, runs, dev)
        _write(figure, path)


def _draw_loss(axes: Axes, entries: Sequence[Mapping[str, Any]], colour: str) -> None:
    steps, values = curve(entries, "loss")
    noisy = len(values) > _POINTS
    axes.plot(steps, values, color=colour, lw=0.8 if noisy else 1.4, alpha=0.3 if noisy else 0.75)
    if noisy:
        axes.plot(steps, _smooth(values), color=colour, lw=1.4)
    axes.plot(*curve(entries, "heldout_loss"), "o-", color=colour, lw=1.0, ms=4.5, mfc="white", mew=1.3, zorder=3)


def _smooth(values: list[float]) -> list[float]:
    """Return the mean around each value, over a fiftieth of all; fewer at both ends, where there are no more."""
    half = max(1, len(values) // 100)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    spans = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[b] - sums[a]) / (b - a) for a, b in spans]


def _dev_names(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    logged = (name for entries in runs.values() for entry in entries for name in entry)
    return list(dict.fromkeys(name for name in logged if name.startswith("dev_")))


def _clean(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=_INK)
    axes.grid(axis="y", color=_FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(length=0)
    axes.margins(x=0.01)


def _legends(axes: Mapping[str, Axes], runs: Mapping[str, Any], dev: list[str]) -> None:
    """Name the colours once, above everything, and the kinds of line where they are drawn."""
    from matplotlib.lines import Line2D

    def key(axes: Axes, lines: list[tuple[str, dict[str, Any]]], **place: Any) -> None:
        handles = [Line2D([], [], label=label, **{"color": _INK, "lw": 1.4, **look}) for label, look in lines]
        axes.legend(handles=handles, frameon=False, handlelength=1.8, **place)

    if any(curve(entries, "heldout_loss")[1] for entries in runs.values()):
        held_out = {"marker": "o", "ms": 4.5, "mfc": "white", "mew": 1.3, "lw": 1.0}
        key(axes["loss"], [("in training", {}), ("held out", held_out)], loc="upper right")
    if dev:
        looks = [{"marker": marker, "ls": line, "ms": 4} for marker, line in (("o", "-"), ("s", "--"), ("^", ":"))]
        names = [(name.replace("_", " "), looks[place % 3]) for place, name in enumerate(dev)]
        key(axes["dev"], names, loc="lower right")
        axes["dev"].set_title("dev sets", loc="left", fontsize=9, fontweight="bold", color=_INK)
    figure = axes["loss"].get_figure(root=True)
    assert figure is not None
    colours = [
        Line2D([], [], color=_COLOURS[number % len(_COLOURS)], lw=2.5, label=name) for number, name in enumerate(runs)
    ]
    figure.legend(handles=colours, loc="outside upper left", ncols=min(len(runs), 4), frameon=False, handlelength=1.2)


def _short(value: float) -> str:
    """Return 1500 as "1.5k": numbers that large are read by their size."""
    if not value:
        return "0"
    power = min(max(int(math.log10(abs(value)) // 3), 0), 3)
    return f"{value / 1000**power:g}{('', 'k', 'M', 'G')[power]}"


def _write(figure: Any, path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"Date": None} if kind == "svg" else None
    try:
        with replacing(path) as file:
            figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    except OSError as error:
        raise RequestError(f"{path} cannot be written: {error.strerror}. Name another file with --output.") from error
