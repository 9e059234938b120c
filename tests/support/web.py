"""A web server on the loopback interface that can do all that servers do to a client, right and wrong."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass
class Site:
    """What a server has and how it behaves. Paths begin without a slash; those of index pages end with one."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)  # statuses of the next answers; 0 is a proper one
    cuts: dict[str, list[int]] = field(default_factory=dict)  # after how many bytes the next answers break off
    stalls: dict[str, int] = field(default_factory=dict)  # after how many bytes nothing more comes, ever
    headers: dict[str, str] = field(default_factory=dict)  # of every answer
    ranges: bool = True
    tags: bool = True
    indices: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    address: str = ""

    def asked(self, path: str) -> list[str]:
        """The ranges of the requests for a file; an empty one for all of it."""
        return [span for method, asked, span in self.requests if (method, asked) == ("GET", path)]

    def page(self, path: str) -> bytes | None:
        """A file, or the index page of a folder."""
        if path in self.files or not self.indices or not (path.endswith("/") or path == ""):
            return self.files.get(path)
        names = {name.removeprefix(path).partition("/") for name in self.files if name.startswith(path)}
        links = sorted(f"{first}{slash}" for first, slash, _ in names)
        if not links:
            return None
        rows = "".join(f'<tr><td><a href="{link}">{link}</a></td></tr>' for link in ["../", *links])
        return f"<html><body><table>{rows}</table><a href='https://openwrt.example/'>x</a></body></html>".encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body waits 40 ms for its head to be acknowledged
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site = self.server.site
        path = self.path.removeprefix("/")
        site.requests.append((self.command, path, self.headers.get("Range", "")))
        if status := _next(site.answers, path):
            return self._send(status, b"<html>no</html>", body=body)
        if path in site.redirects:
            return self._send(302, b"", {"Location": site.redirects[path]}, body=body)
        data = site.page(path)
        if data is None:
            return self._send(404, b"<html>Not Found</html>", body=body)
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"ETag": tag} if site.tags else {}
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if site.ranges and span and self.headers.get("If-Range", tag) == tag:
            first = int(span[1])
            if first >= len(data):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, body=body)
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            return self._send(206, data[first:], headers, body=body, path=path)
        return self._send(200, data, headers, body=body, path=path)

    def _send(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, *, body: bool, path: str = ""
    ) -> None:
        site = self.server.site
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **site.headers, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return
        if cut := _next(site.cuts, path):
            self.wfile.write(data[:cut])
            self.close_connection = True
            return
        if path in site.stalls:
            self.wfile.write(data[: site.stalls[path]])
            self.wfile.flush()
            site.stalled.set()
            site.released.wait(60)
            self.close_connection = True
            return
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _next(script: dict[str, list[int]], path: str) -> int | None:
    return script[path].pop(0) if script.get(path) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the tests."""


@contextmanager
def serving(site: Site, *, certificate: Path | None = None) -> Iterator[Site]:
    """The site, served under its `address` while the block runs; by TLS with a certificate (and key, in one file).

    Meanwhile no proxy of the environment is asked for it.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.site = site
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        with mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}):
            yield site
    finally:
        site.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
