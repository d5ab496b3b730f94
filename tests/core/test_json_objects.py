"""JSON files that a user may have damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from bigs_cli.core.errors import RequestError
from bigs_cli.core.json_objects import checked, read_object


class _Size(BaseModel):
    rows: int


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "sizes.json cannot be read: No such file or directory"),
        (b"{", r"sizes.json is not JSON: .*\. Write it again\."),
        (b"\xff", "sizes.json is not JSON: .*utf-8"),
        (b"[" * 100_000, "sizes.json is not JSON: it is nested too deep"),
        (b"[1]", r"sizes.json is not a JSON object\. Write it again\."),
        (b"{}", "sizes.json is corrupt: rows: Field required. Write it again."),
    ],
)
def test_damaged_files_are_reported(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "sizes.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=message):
        checked(read_object(path, "Write it again."), _Size, path, "Write it again.")
    path.write_text('{"rows": 3}')
    assert checked(read_object(path, ""), _Size, path, "").rows == 3
