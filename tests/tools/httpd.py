"""A web server on 127.0.0.1 that misbehaves as told, and remembers what it was asked."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PIECE = 64 * 1024


@dataclass(frozen=True)
class Ok:
    """Answer as a good server does.

    `rate` in bytes per second slows it down; when not `measured`, the end of the connection ends the body.
    """

    rate: float = 0
    measured: bool = True


@dataclass(frozen=True)
class Status:
    """Answer with an error."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Break:
    """Promise the whole body, but end the connection after so many bytes: cleanly, or with a reset.

    A reset destroys what the client has not read yet, so it waits until `arrived` says so.
    """

    after: int
    reset: bool = False
    arrived: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Stall:
    """Promise the whole body, but go silent after so many bytes."""

    after: int
    seconds: float = 3.0


Act = Ok | Status | Break | Stall


@dataclass
class Resource:
    """A file of the server: its bytes, what names its version, and what happens at each request in turn."""

    data: bytes
    etag: str = '"one"'
    acts: list[Act] = field(default_factory=list)
    then: Act = field(default_factory=Ok)
    ranges: bool = True
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """One request as it came, and how many body bytes were sent."""

    path: str
    headers: Mapping[str, str]


class Server(ThreadingHTTPServer):
    """Serves `files`, over TLS if there is a `certificate`; `requests` and `sent` tell what happened."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.certificate = certificate
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.files: dict[str, Resource] = {}
        self.requests: list[Request] = []
        self.sent = 0
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self.certificate else ''}://127.0.0.1:{self.server_address[1]}/"

    def add(
        self, name: str, data: bytes, *acts: Act, then: Act | None = None, ranges: bool = True
    ) -> Resource:
        """Serve `data` as `name`: the n-th request gets the n-th of `acts`, later ones `then`."""
        resource = Resource(data, acts=list(acts), then=then or Ok(), ranges=ranges)
        self.files[f"/{name}"] = resource
        return resource

    def asked(self, name: str) -> list[Request]:
        return [request for request in self.requests if request.path == f"/{name}"]

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = re.sub(r"^http://[^/]+", "", self.path)  # a proxy is asked for whole URLs
        self.server.requests.append(Request(path, dict(self.headers)))
        resource = self.server.files.get(path)
        act = Status(404) if resource is None else resource.acts.pop(0) if resource.acts else resource.then
        if resource is None or isinstance(act, Status):
            self._refuse(act if isinstance(act, Status) else Status(404))
            return
        start = self._start(resource)
        if start is None:
            self._refuse(Status(416, {"Content-Range": f"bytes */{len(resource.data)}"}))
            return
        self.send_response(206 if start else 200)
        if isinstance(act, Ok) and not act.measured:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(resource.data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(resource.data) - 1}/{len(resource.data)}")
        if resource.etag:
            self.send_header("ETag", resource.etag)
        for name, value in resource.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._send(resource.data[start:], act)

    def _start(self, resource: Resource) -> int | None:
        """Return where the client wants to start and may; None if that is past the end."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", resource.etag)
        if not wanted or not resource.ranges or condition != resource.etag:
            return 0
        start = int(wanted[1])
        return start if start < len(resource.data) else None

    def _send(self, data: bytes, act: Ok | Break | Stall) -> None:
        end = len(data) if isinstance(act, Ok) else act.after
        try:
            for offset in range(0, min(end, len(data)), PIECE):
                piece = data[offset : min(offset + PIECE, end)]
                self.wfile.write(piece)
                self.server.sent += len(piece)
                if isinstance(act, Ok) and act.rate:
                    time.sleep(len(piece) / act.rate)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            return
        if isinstance(act, Ok):
            return
        self.close_connection = True
        if isinstance(act, Stall):
            time.sleep(act.seconds)
        elif act.reset:
            deadline = time.monotonic() + 10
            while not act.arrived() and time.monotonic() < deadline:
                time.sleep(0.01)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _refuse(self, status: Status) -> None:
        self.send_response(status.code)
        for name, value in status.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle(self) -> None:
        with suppress(ConnectionResetError):  # a client that was killed, or that starts over
            super().handle()

    def log_message(self, *_: object) -> None:
        pass
