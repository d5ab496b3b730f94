"""A stand-in for the Hugging Face hub on the loopback: what fetching models and data sets asks, from local folders."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RESOLVE = re.compile(r"^/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
_API = re.compile(
    r"^/api/(?:models/)?(?P<repo>(?:datasets/)?[^/]+/[^/]+)"
    r"(?:/(?P<kind>revision|tree)/(?P<revision>[^/]+))?(?:/(?P<under>.*))?$"
)


class Hub:
    """What the stand-in serves: repository ids → folders, which of them are gated, and what was asked of it.

    A model's id is "owner/name", a data set's "datasets/owner/name".
    """

    def __init__(self, repositories: dict[str, Path], gated: frozenset[str] = frozenset()) -> None:
        self.repositories = repositories
        self.gated = gated
        self.requests: list[str] = []
        self.endpoint = ""

    def downloads(self) -> list[str]:
        """The names of the files whose content was fetched, in order."""
        return [line.rsplit("/", 1)[1] for line in self.requests if line.startswith("GET") and "/resolve/" in line]


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` at `hub.endpoint` until the context ends."""

    class Handler(_Handler):
        served = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""

    def _answer(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.served.requests.append(f"{self.command} {path}")
        asked = _RESOLVE.match(path) or _API.match(path)
        if asked is None or asked["repo"] not in self.served.repositories:
            self._refuse(404 if asked else 400, "RepoNotFound")
        elif asked["revision"] not in (None, "main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif asked["repo"] in self.served.gated and "file" in asked.groupdict():
            self._refuse(403, "GatedRepo")
        elif "file" in asked.groupdict():
            self._file(self.served.repositories[asked["repo"]] / asked["file"])
        else:
            self._describe(asked["repo"], asked["kind"], asked["under"] or "")

    def _describe(self, repo: str, kind: str | None, under: str) -> None:
        root = self.served.repositories[repo]
        if kind == "tree":
            inside = sorted((root / under).rglob("*")) if (root / under).is_dir() else []
            self._json([_entry(path, root) for path in inside])
        else:
            siblings = [
                {"rfilename": str(path.relative_to(root))} for path in sorted(root.rglob("*")) if path.is_file()
            ]
            name = repo.removeprefix("datasets/")
            self._json({"id": name, "sha": COMMIT, "private": False, "siblings": siblings, "tags": []})

    def _file(self, file: Path) -> None:
        if file.is_file():
            headers = {"ETag": f'"{_oid(file)}"', "Content-Type": "application/octet-stream"}
            self._send(200, file.read_bytes(), headers)
        else:
            self._refuse(404, "EntryNotFound")

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content)), "X-Repo-Commit": COMMIT}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entry(path: Path, root: Path) -> dict[str, Any]:
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _oid(path)}


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
