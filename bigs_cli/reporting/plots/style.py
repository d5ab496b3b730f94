"""The common style of all plots: colours, axes, and saving a figure as a file or as part of an HTML page."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigs_cli.core.error_messages import write_error
from bigs_cli.core.errors import RequestError, listed
from bigs_cli.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")

# Okabe and Ito's colours, which colour-blind readers can distinguish, without their yellow, which is too faint.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = (
    *(("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", (0, (6, 2))), ("P", (0, (1, 2)))),
    *(("X", (0, (4, 1, 1, 1, 1, 1))), ("*", (0, (8, 3, 2, 3)))),
)
INK, FAINT, PAPER = "#333333", "#d9d9d9", "#ffffff"
# The layout is computed before the tick labels are known; "tight" also saves labels that extend beyond it.
_TIGHT: Any = {"bbox_inches": "tight", "pad_inches": 0.08}


def check_plot_file(path: Path) -> None:
    """Check that the name of an output file ends in a known image format (RequestError)."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"{path} ends in neither {' nor '.join(FORMATS)}. Use one of these endings for the plot.")
    if path.is_dir():
        raise RequestError(f"{path} is a folder. Name a file with --output.")


@contextlib.contextmanager
def style(salt: str = "bigs") -> Iterator[None]:
    """Draw and save figures in the common style. With the same `salt`, equal figures give equal SVG files."""
    import matplotlib as mpl

    # `parse_math` is off because names of runs and classes may contain dollar signs.
    settings: Any = {"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 9, "text.parse_math": False}
    settings |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context(settings):
        yield


def colours(count: int) -> Sequence[str]:
    """Return `count` distinct colours: those of `COLOURS`, or, for more, of a colour map."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["turbo"](place / (count - 1))) for place in range(count)]


def line_style(number: int) -> dict[str, Any]:
    """Return the marker and line style of the metric with that number."""
    marker, line = LINE_STYLES[number % len(LINE_STYLES)]
    return {"marker": marker, "ls": line, "ms": 4, "lw": 1.4}


def clean(axes: Axes, title: str) -> None:
    """Reduce the axes to a title, a faint horizontal grid and the bottom line."""
    head(axes, title)
    axes.grid(axis="y", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0)
    axes.margins(x=0.01)


def head(axes: Axes, title: str) -> None:
    """Write the title of axes."""
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK)


def step_axis(axes: Axes) -> None:
    """Label the horizontal axis as steps: integers with thousands separators."""
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def name_figure(figure: Figure, what: str, names: Sequence[str]) -> None:
    """Write a title with the names of the runs and `what` the figure shows; add a colour legend for several runs."""
    from matplotlib.lines import Line2D

    title = f"{listed(names, 4)}: {what}"
    if len(names) == 1:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold", color=INK)
        return
    pairs = zip(names, colours(len(names)), strict=True)
    figure.legend(
        handles=[Line2D([], [], color=colour, lw=2.5, label=name) for name, colour in pairs],
        loc="outside upper left",
        ncols=4,
        frameon=False,
        handlelength=1.2,
        title=title,
        title_fontproperties={"size": 10, "weight": "bold"},
        alignment="left",
        borderpad=0,
    )


def write(figure: Figure, path: Path) -> None:
    """Save the figure to `path` in the format of its ending.

    Raises:
        RequestError: the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    try:
        with style(), atomic_write(path) as file:
            # Without a date, equal figures give equal files.
            figure.savefig(file, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None, **_TIGHT)
    except OSError as error:
        raise write_error(str(path), error, "Name another file with --output.") from error


def inline_svg(figure: Figure, number: int) -> str:
    """Return the figure as an <svg> element in the colours of the HTML page (`currentColor`, --line, --paper).

    `number`, unique on the page, makes the ids in the figure unique.
    """
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style(f"bigs-{number}"):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata, **_TIGHT)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # Nothing refers to these ids, which are the same in every figure.
    return re.sub(r'style="[^"]*"', _with_page_colours, text).strip()


def _with_page_colours(attribute: re.Match[str]) -> str:
    styles = attribute[0]
    ink = "currentColor"
    for fixed, of_page in ((INK, ink), (COLOURS[-1], ink), (FAINT, "var(--line)"), (PAPER, "var(--paper)")):
        styles = styles.replace(fixed, of_page)
    return styles
