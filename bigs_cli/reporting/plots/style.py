"""What all pictures have in common: their colours, clean axes, and how a figure becomes a file or part of a page."""

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

# Okabe and Ito's colours, told apart by the colour-blind too; their yellow is too faint for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LOOKS = (
    *(("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", (0, (6, 2))), ("P", (0, (1, 2)))),
    *(("X", (0, (4, 1, 1, 1, 1, 1))), ("*", (0, (8, 3, 2, 3)))),
)
INK, FAINT, PAPER = "#333333", "#d9d9d9", "#ffffff"
# A layout is made before the ticks of its size are known: what then stands out is part of the picture, too.
_WHOLE: Any = {"bbox_inches": "tight", "pad_inches": 0.08}


def check_picture(path: Path) -> None:
    """Refuse a file that is to be no picture of a known kind (RequestError)."""
    if path.suffix.lower() not in FORMATS:
        raise RequestError(f"{path} ends in neither {' nor '.join(FORMATS)}: name the picture so, by its kind.")
    if path.is_dir():
        raise RequestError(f"{path} is a folder. Name a file with --output.")


@contextlib.contextmanager
def style(salt: str = "bigs") -> Iterator[None]:
    """Draw, and save, in the pictures' common style. With one `salt` equal figures are equal SVG files."""
    import matplotlib as mpl

    # Names of runs and classes are no formulas, whatever dollars they hold.
    chosen: Any = {"svg.hashsalt": salt, "svg.fonttype": "none", "font.size": 9, "text.parse_math": False}
    chosen |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context(chosen):
        yield


def colours(count: int) -> Sequence[str]:
    """Return `count` colours, each another one: beyond `COLOURS` from a map that runs through the spectrum."""
    if count <= len(COLOURS):
        return COLOURS[:count]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["turbo"](place / (count - 1))) for place in range(count)]


def look(number: int) -> dict[str, Any]:
    """Return the marker and line style of the metric of that number."""
    marker, line = LOOKS[number % len(LOOKS)]
    return {"marker": marker, "ls": line, "ms": 4, "lw": 1.4}


def clean(axes: Axes, title: str) -> None:
    """Leave of the axes a title, a faint grid along the values, and a bottom line."""
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
    """Have steps on the horizontal axis: whole, with commas."""
    axes.set_xlabel("step")
    axes.locator_params(axis="x", integer=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def name_figure(figure: Figure, what: str, names: Sequence[str]) -> None:
    """Write above everything which runs are drawn, and what of them; several get a legend of their colours below it."""
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
    """Write the figure to `path`, of the kind its ending says.

    Raises:
        RequestError: it cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    try:
        with style(), atomic_write(path) as file:
            # Without its date an equal figure is an equal file.
            figure.savefig(file, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None, **_WHOLE)
    except OSError as error:
        raise write_error(str(path), error, "Name another file with --output.") from error


def inline_svg(figure: Figure, number: int) -> str:
    """Return the figure as an <svg> element of a page, in the page's own colours (`currentColor`, --line, --paper).

    `number` sets its ids apart from those of the page's other figures.
    """
    made = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style(f"bigs-{number}"):
        figure.savefig(made, format="svg", transparent=True, metadata=nothing, **_WHOLE)
    text = made.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # Never referred to, and the same in every figure.
    return re.sub(r'style="[^"]*"', _in_colours_of_page, text).strip()


def _in_colours_of_page(attribute: re.Match[str]) -> str:
    styles = attribute[0]
    ink = "currentColor"
    for fixed, of_page in ((INK, ink), (COLOURS[-1], ink), (FAINT, "var(--line)"), (PAPER, "var(--paper)")):
        styles = styles.replace(fixed, of_page)
    return styles
