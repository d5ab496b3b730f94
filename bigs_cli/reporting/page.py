"""A self-contained HTML page: elements that escape their text, tables, figures and a style sheet."""

from __future__ import annotations

import html
from collections.abc import Mapping

from rich.table import Table

VOID = frozenset({"meta"})
_SHORT = 20  # characters: a shorter right-aligned cell, such as a number or an interval, stays on one line
_LONG = 40  # characters: a longer cell is text that wraps and needs a minimum width

CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --quiet: #63707d; --line: #d9dde2; --wash: #f5f7f9;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #dfe3e8; --quiet: #98a2ad; --line: #353b43;
  --wash: #1d2126; --accent: #5cb3e8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1.02rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0 .8rem; }
a { color: var(--accent); }
.quiet { color: var(--quiet); }
nav ul { list-style: none; margin: .75rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
.wide { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .3rem; white-space: nowrap; }
th, td { text-align: left; vertical-align: top; padding: .28rem 1.1rem .28rem 0; border-bottom: 1px solid var(--line);
  max-width: 34rem; }
td { overflow-wrap: break-word; }
th { font-weight: 600; color: var(--quiet); }
tbody th { color: inherit; white-space: nowrap; }
.right { text-align: right; }
.whole { white-space: nowrap; }
.text { min-width: 15rem; }
.lines { white-space: pre; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; display: block; }
@media (max-width: 40rem) { figure { overflow-x: auto; } figure svg { max-width: none; width: 36rem; } }
figcaption { color: var(--quiet); font-size: .85rem; margin-top: .35rem; }
.row { display: flex; flex-wrap: wrap; gap: 0 2.5rem; align-items: flex-start; }
.row > * { min-width: 0; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 6px; padding: .45rem .8rem; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: .6rem 0 .2rem; padding: .7rem .9rem; overflow-x: auto; background: var(--wash); border-radius: 6px;
  font: .82rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.words { max-width: 44rem; }
.hit { color: var(--accent); text-decoration: underline; font-weight: 600; }
.miss s { color: var(--quiet); }
@media print { body { max-width: none; padding: 0; } details { border: 0; padding: 0; } }
"""


class Markup(str):
    """HTML that is inserted unchanged; every other string is text and is escaped."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str) -> Markup:
    """Return <tag attributes>content</tag>; text is escaped. The attribute `class` is written `class_`."""
    named = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{tag}{named}>" if tag in VOID else f"<{tag}{named}>{joined(*content)}</{tag}>")


def joined(*content: str) -> Markup:
    """Concatenate the content; text is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in content))


def html_table(source: Table, links: Mapping[str, str] = {}) -> Markup:
    """Return a console table as an HTML table with its title as the caption.

    `links` maps the content of first cells to the URLs that they link to.
    """
    right = [column.justify == "right" for column in source.columns]
    caption = element("caption", str(source.title)) if source.title else ""
    head = ""
    if source.show_header:
        names = (
            element("th", str(column.header), scope="col", **({"class_": "right"} if side else {}))
            for column, side in zip(source.columns, right, strict=True)
        )
        head = element("thead", element("tr", *names))
    body = []
    for row in zip(*([str(cell) for cell in column.cells] for column in source.columns), strict=True):
        cells = [_cell(cell, side) for cell, side in zip(row, right, strict=True)]
        if row[0] in links:
            cells[0] = element("td", element("a", row[0], href=links[row[0]]))
        if not source.show_header:  # The first cell names the row.
            cells[0] = element("th", row[0], scope="row")
        body.append(element("tr", *cells))
    return element("div", element("table", caption, head, element("tbody", *body)), class_="wide")


def _cell(text: str, right: bool) -> Markup:
    """Return a cell with the classes that align numbers, keep line breaks, and give long text a minimum width."""
    lines = "\n" in text
    kinds = {"right": right, "whole": right and len(text) <= _SHORT, "lines": lines}
    kinds["text"] = not lines and len(text) > _LONG
    named = " ".join(kind for kind, applies in kinds.items() if applies)
    return element("td", text, **({"class_": named} if named else {}))


def details(title: str, *content: str) -> Markup:
    """Return a section that is collapsed until its title is clicked."""
    return element("details", element("summary", title), *content)


def figure(svg: str, description: str, caption: str = "") -> Markup:
    """Return a figure of an <svg> element; screen readers read the `description`."""
    labelled = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(description)}"', 1)
    return element("figure", Markup(labelled), *([element("figcaption", caption)] if caption else []))


def page(title: str, *content: str, refresh: int | None = None) -> str:
    """Return an HTML document. Its content security policy forbids scripts and network access.

    With `refresh`, browsers load it again after that number of seconds.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        *([] if refresh is None else [Markup(f'<meta http-equiv="refresh" content="{refresh}">')]),
        element("title", title),
        element("style", Markup(CSS)),
    )
    return f'<!doctype html>\n<html lang="en">{head}<body>{element("main", *content)}</body></html>\n'
