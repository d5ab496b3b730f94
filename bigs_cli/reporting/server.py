"""A web server that only this machine can reach. It shows pages and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Render = Callable[[str], str | None]
"""The path of a page → its HTML; None: there is no such page."""
_LOCAL = ("127.0.0.1", "localhost")


def make_server(render: Render, port: int) -> ThreadingHTTPServer:
    """Return a server of pages at http://127.0.0.1:PORT; 0 is any free port. Call its `serve_forever`.

    Raises:
        OSError: the port is in use or reserved.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Another web page could let its own name point to this machine, and read the answers.
            if urlsplit(f"//{self.headers.get('Host', '')}").hostname not in _LOCAL:
                self.send_error(403)
                return
            text = render(unquote(urlsplit(self.path).path).strip("/"))
            if text is None:
                self.send_error(404)
                return
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)
