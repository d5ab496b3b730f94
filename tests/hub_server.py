"""A fake Hugging Face hub on the loopback interface, which serves folders for fetching, streaming and pushing.

It can simulate failures (`Fault`), and records all requests and the bytes that it sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests import hub_writing
from tests.hub_writing import Writing

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_CHUNK = 1 << 16
_RESOLVE = re.compile(r"/(?P<repo>(?:datasets/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_API = re.compile(
    r"/api/(?:models/)?(?P<repo>(?:datasets/)?[^/]+/[^/]+)"
    r"(?:/(?P<kind>revision|tree|paths-info)/(?P<revision>[^/]+))?(?:/(?P<under>.*))?"
)
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Fault:
    """A failure of the next `times` requests whose line ("GET /path") contains `where`.

    With `status`, the hub responds with this status. With `lie`, it responds with this page, like a proxy that requires
    a login. Otherwise it sends `after` bytes of the content (None: not even a header), waits for `stall` seconds, and
    closes the connection.
    """

    where: str
    times: int = 1
    status: int | None = None
    after: int | None = None
    stall: float = 0.0
    lie: bytes | None = None


class Hub:
    """The repositories of the fake hub (id → folder), the gated ones among them, and the recorded requests.

    A model's id is "owner/name", a data set's "datasets/owner/name"; "…@v1" is its revision v1.
    """

    def __init__(
        self, repositories: dict[str, Path], gated: frozenset[str] = frozenset(), writing: Writing | None = None
    ) -> None:
        self.repositories = repositories
        self.gated = gated
        self.writing = writing
        self.heads: dict[str, str] = {}
        """The last pushed commit of each repository or "repository@branch"."""
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.sent: list[tuple[str, int, int]] = []
        """The file contents that were sent, in order: (file name, first byte, end)."""
        self.endpoint = ""
        self.closing = threading.Event()
        self._lock = threading.Lock()

    def downloads(self) -> list[str]:
        """Return the names of the downloaded files, in order."""
        return [line.rsplit("/", 1)[1] for line in self.requests if line.startswith("GET") and "/resolve/" in line]

    def bytes_sent(self, name: str) -> int:
        """Return the number of bytes sent of the files with that name; repeated bytes count again."""
        return sum(end - start for sent, start, end in self.sent if sent == name)

    def find(self, repo: str, revision: str | None) -> tuple[Path, str] | None:
        """Return the folder and the commit of a revision; None if it does not exist."""
        for name, folder in self.repositories.items():
            known, _, branch = name.partition("@")
            commit = self.heads.get(name) or (hashlib.sha1(name.encode()).hexdigest() if branch else COMMIT)
            if known == repo and (revision or "main") in (branch or "main", commit):
                return folder, commit
        return None

    def next_fault(self, line: str) -> Fault | None:
        """Return the fault for this request, if any."""
        with self._lock:
            fault = next((fault for fault in self.faults if fault.times and fault.where in line), None)
            if fault:
                fault.times -= 1
            return fault


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
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Hub
    commit = COMMIT
    fault: Fault | None = None

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        hub, url = self.served, urlsplit(self.path)
        line = f"{self.command} {unquote(url.path)}"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub.requests.append(line)
        self.fault = hub.next_fault(line)
        if self.fault and self.fault.status:
            self._refuse(self.fault.status, "Fault")
            return
        if self.fault and self.fault.lie is not None:
            self._lie(self.fault.lie)
            return
        if self.fault and self.fault.after is None:
            self._cut()
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if (written := hub_writing.answer(hub, self.command, url.path, token, body)) is not None:
            self._json(written.body, written.status, written.code)
            return
        found = _RESOLVE.fullmatch(url.path) or _API.fullmatch(url.path)
        request = {key: value and unquote(value) for key, value in found.groupdict().items()} if found else {}
        repo = request.get("repo")
        if repo is None or hub.find(repo, None) is None or (hub.writing and hub.writing.hidden(repo, token)):
            self._refuse(404 if request else 400, "RepoNotFound")
        elif (place := hub.find(repo, request["revision"])) is None:
            self._refuse(404, "RevisionNotFound")
        elif repo in hub.gated and "file" in request:
            self._refuse(403, "GatedRepo")
        else:
            root, self.commit = place
            if "file" in request:
                self._file(root / request["file"])
            elif request["kind"] == "tree":
                self._tree(root, request["under"] or "", parse_qs(url.query).get("recursive") in (["true"], ["True"]))
            elif request["kind"] == "paths-info":
                paths = [root / path for path in parse_qs(body.decode()).get("paths", [])]
                self._json([_entry(path, root) for path in paths if path.exists()])
            else:
                self._describe(repo, root)

    def _describe(self, repo: str, root: Path) -> None:
        siblings = [{"rfilename": str(path.relative_to(root))} for path in sorted(root.rglob("*")) if path.is_file()]
        gated = "auto" if repo in self.served.gated else False
        name = repo.removeprefix("datasets/")
        private = self.served.writing is not None and repo in self.served.writing.private
        about = {"id": name, "sha": self.commit, "private": private, "gated": gated, "siblings": siblings, "tags": []}
        self._json(about)

    def _tree(self, root: Path, under: str, recursive: bool) -> None:
        folder = root / under
        if folder.is_dir():
            self._json([_entry(path, root) for path in sorted(folder.rglob("*") if recursive else folder.iterdir())])
        else:
            self._refuse(404, "EntryNotFound")

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._refuse(404, "EntryNotFound")
            return
        size = file.stat().st_size
        headers = {"ETag": f'"{_oid(file)}"', "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        requested = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(requested[1]) if requested else 0
        end = min(int(requested[2]) + 1, size) if requested and requested[2] else size
        if requested and start >= size:
            self._start(416, 0, {"Content-Range": f"bytes */{size}"})
            return
        if requested:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._start(206 if requested else 200, end - start, headers)
        if self.command == "GET":
            self._content(file, start, end)

    def _content(self, file: Path, start: int, end: int) -> None:
        last = min(end, start + self.fault.after) if self.fault and self.fault.after is not None else end
        at = start
        with file.open("rb") as content, contextlib.suppress(ConnectionError):  # the client may close the connection
            content.seek(start)
            while at < last and (chunk := content.read(min(_CHUNK, last - at))):
                self.wfile.write(chunk)
                at += len(chunk)
        self.served.sent.append((file.name, start, at))
        if last < end:
            self._cut()

    def _lie(self, page: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def _cut(self) -> None:
        assert self.fault
        self.served.closing.wait(self.fault.stall)
        self.close_connection = True

    def _json(self, value: Any, status: int = 200, code: str = "") -> None:
        content = json.dumps(value).encode()
        about = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self._start(status, len(content), {"Content-Type": "application/json", **about})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self._start(status, 0, {"X-Error-Code": code, "X-Error-Message": code})

    def _start(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length), "X-Repo-Commit": self.commit}.items():
            self.send_header(name, value)
        self.end_headers()


def _entry(path: Path, root: Path) -> dict[str, Any]:
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": _oid(path)}


def _oid(file: Path) -> str:
    return _sha1(file, file.stat().st_mtime_ns)


@lru_cache
def _sha1(file: Path, changed: int) -> str:
    content = file.read_bytes()
    if len(content) > 5_000:  # a large file: Git LFS names it by the SHA-256 of its content
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
