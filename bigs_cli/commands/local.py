"""Parsers of what names something on this machine: options take them as ``typer.Option(…, parser=local.path)``.

An address (``s3://bucket/file``) is refused as it is typed, before `Path` makes ``s3:/bucket/file`` of it.
"""

from __future__ import annotations

from pathlib import Path

from bigs_cli.core.paths import refuse_address


def path(text: str | Path) -> Path:
    """Return the path of a file or folder.

    Raises:
        RequestError: it is an address.
    """
    refuse_address(text)
    return Path(text)


def name(text: str) -> str:
    """Return what may be a path or something else: a model, a run, a recipe, a vocabulary, ``-`` for stdout.

    Raises:
        RequestError: it is an address.
    """
    refuse_address(text)
    return text
