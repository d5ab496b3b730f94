"""Folders with links: each file is listed once, and links that cannot be followed are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigs_cli.core.errors import RequestError
from bigs_cli.core.folders import check_link, list_files


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_files(folder).files]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    here, far = tmp_path / "here", tmp_path / "far"
    write(here / "sub" / "a.txt")
    write(far / "deep" / "x.txt")
    write(far / "y.txt")
    write(far / ".hidden" / "z.txt")
    (here / "all").symlink_to(far)
    (here / "again").symlink_to(far)
    (here / "0deep").symlink_to(far / "deep")
    (here / "0sub").symlink_to("sub")
    assert names(here) == ["0deep/x.txt", "again/y.txt", "sub/a.txt"]
    assert list_files(here).warning is None
    (tmp_path / "link").symlink_to(here)
    assert names(tmp_path / "link") == names(here)


def test_a_file_with_several_links_is_listed_once(tmp_path: Path) -> None:
    here = tmp_path / "here"
    write(here / "b.txt")
    (here / "a.txt").symlink_to("b.txt")
    far = write(tmp_path / "far.txt")
    (here / "d.txt").symlink_to(far)
    (here / "c.txt").symlink_to(far)
    assert names(here) == ["b.txt", "c.txt"]


def test_cycles_of_links_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "beside.txt")
    here = tmp_path / "here"
    write(here / "sub" / "a.txt")
    (here / "sub" / "self").symlink_to("..")
    (here / "up").symlink_to(tmp_path)
    assert names(here) == ["sub/a.txt"]
    assert list_files(here).left_out == {here / "up": "a link to a parent folder"}


def test_broken_links_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.txt")
    for number in range(7):
        (tmp_path / f"gone{number}").symlink_to("nowhere")
    (tmp_path / ".#lock").symlink_to("user@host")
    (tmp_path / "round").symlink_to("round")
    warning = list_files(tmp_path).warning
    assert warning is not None
    assert warning.startswith(f"{tmp_path} has 8 entries that cannot be read: {tmp_path / 'gone0'} (a broken link")
    assert warning.endswith("and 3 more.")
    with pytest.raises(RequestError, match=r"gone0 is a broken link to nowhere"):
        check_link(tmp_path / "gone0")
    check_link(tmp_path / "a.txt")
    check_link(tmp_path / "never")
