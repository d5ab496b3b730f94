"""`python-docs`: the English documentation in every Python installation, as sample text.

It consists of the language reference in `pydoc_data/topics.py` and the docstrings of modules, classes and functions of
the standard library. The files are parsed, not imported. Code, tables, examples and signatures are left out, and
wrapped lines are joined. The text differs slightly between versions of Python.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from bigs_cli.core.errors import RequestError

PYTHON_DOCS = "python-docs"

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_TOPICS = Path("pydoc_data", "topics.py")
_SKIPPED_FOLDERS = {
    "test", "tests", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "encodings",
    "site-packages", "dist-packages", "lib-dynload", "__pycache__", "_vendor", "_bundled",
}  # fmt: skip
_FEWEST_WORDS = 4
_PROSE_CHARACTERS = re.compile(r"[A-Za-z ,.;:'’\"()-]")
_PROSE_PART = 0.9
_UNDERLINE = re.compile(r"[*=~^+\"-]{3,}")
_BULLET = re.compile(r"(?:[-*•]|\d+[.)]) +")


def read_python_docs(library: Path | None = None) -> Iterator[str]:
    """Yield one document per topic, then one per module with its docstrings in order.

    `library` is the folder of the standard library, by default that of this Python.

    Raises:
        RequestError: there is no readable standard library.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    empty = True
    for topic in _topics(library / _TOPICS):
        document = prose(topic)
        if document:
            empty = False
            yield document
    for path in _modules(library):
        document = "\n\n".join(filter(None, map(prose, _docstrings(_parse(path)))))
        if document:
            empty = False
            yield document
    if empty:
        raise RequestError(
            f"This Python installation has no source files of its standard library in {library}. Name another --input."
        )


def prose(text: str) -> str:
    """Return the paragraphs of `text` that are English sentences, each in one line, separated by blank lines."""
    paragraphs = (_join(block) for block in re.split(r"\n\s*\n", inspect.cleandoc(text)))
    return "\n\n".join(filter(_is_prose, paragraphs))


def _join(block: str) -> str:
    lines = [line for line in block.splitlines() if not _UNDERLINE.fullmatch(line.strip())]
    return _BULLET.sub("", " ".join(" ".join(lines).split()), count=1)


def _is_prose(paragraph: str) -> bool:
    if ">>>" in paragraph or len(paragraph.split()) < _FEWEST_WORDS or paragraph[0] in "|+@#":
        return False
    return len(_PROSE_CHARACTERS.findall(paragraph)) >= _PROSE_PART * len(paragraph)


def _topics(path: Path) -> list[str]:
    """Return the values of the dictionary in `topics.py`, in the order of the topics' names."""
    for node in _parse(path).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            return [topics[name] for name in sorted(topics)]
    return []


def _modules(library: Path) -> list[Path]:
    return sorted(
        path
        for path in library.rglob("*.py")
        if not _SKIPPED_FOLDERS.intersection(path.relative_to(library).parts[:-1])
        and not any(part.startswith("config-") for part in path.relative_to(library).parts)
    )


def _docstrings(node: _Documented) -> Iterator[str]:
    """Yield the docstrings of `node` and of the classes and functions in it, in the order of the source."""
    text = ast.get_docstring(node)
    if text:
        yield text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child)


def _parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file, or an empty one if it is missing or invalid in this version of Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the source files
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])
