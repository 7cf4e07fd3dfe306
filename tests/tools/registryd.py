"""The real docker-registry on 127.0.0.1, and a gate before it that asks for tokens and misbehaves as told."""

from __future__ import annotations

import base64
import functools
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

CUT = -1
CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: false}}}}
storage:
  filesystem: {{rootdirectory: {folder}/storage}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"{tls}}}
"""


HOOK = """mkdir "$1/srv" && cd "$1/srv" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" &&
    apt-get download -qq -o APT::Sandbox::User=root {package}"""


@functools.cache
def program(package: str = "docker-registry", path: str = "usr/bin/docker-registry") -> Path:
    """Return a program of Debian's; its package is unpacked, not installed: that would start it, on every address."""
    if found := shutil.which(path.rpartition("/")[2]):
        return Path(found)
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "pibake", package)
    if not folder.exists():
        with tempfile.TemporaryDirectory() as name:
            # with package lists of its own: this host's may be old, or not there at all
            argv = [
                "mmdebstrap",
                "--quiet",
                "--variant=custom",
                "--format=tar",
                f"--customize-hook={HOOK.format(package=package)}",
                "bookworm",
            ]
            subprocess.run([*argv, f"{name}/tar"], check=True, capture_output=True)
            subprocess.run(["tar", "-xf", f"{name}/tar", "-C", name, "./srv"], check=True)
            [deb] = Path(name, "srv").glob("*.deb")
            folder.parent.mkdir(parents=True, exist_ok=True)
            part = folder.with_name(f".{folder.name}.{os.getpid()}")
            subprocess.run(["dpkg-deb", "-x", deb, part], check=True)
            part.rename(folder)
    return folder / path


@dataclass
class Registry:
    """A registry that keeps everything below `folder`, and can be ended and started again on the same port."""

    folder: Path
    htpasswd: Path | None = None
    certificate: Path | None = None
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        tls = (
            f", tls: {{certificate: {self.certificate}, key: {self.certificate}}}" if self.certificate else ""
        )
        config = CONFIG.format(folder=self.folder, port=self.port, tls=tls)
        if self.htpasswd:
            config += f"auth: {{htpasswd: {{realm: Registry Realm, path: {self.htpasswd}}}}}\n"
        (self.folder / "config.yml").write_text(config)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), "serve", self.folder / "config.yml"], stdout=log, stderr=log
            )
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise TimeoutError((self.folder / "log").read_text())

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def asked(self, method: str, path: str) -> list[str]:
        """Return the paths of all requests so far with a method, those that match a pattern."""
        lines = re.findall(rf'"{method} (\S+) HTTP/[0-9.]+" 2', (self.folder / "log").read_text())
        return [line for line in lines if re.search(path, line)]

    def uploads(self) -> int:
        """Return how many blobs were sent so far."""
        return len(self.asked("PUT", "/blobs/uploads/"))

    def downloads(self) -> int:
        """Return how many blobs were fetched whole so far."""
        return len(self.asked("GET", "/blobs/"))

    def blob(self, sha256: str) -> Path:
        """Return where the registry keeps a blob."""
        return self.folder / "storage/docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass
class Gate:
    """A proxy before a registry that asks for tokens of its own, one for reading and one for writing.

    With `anonymous` it gives the first to anybody, as public registries do, and notes in `told` who said a password. Each request for a blob takes the next of `faults`: a status to answer, CUT to end the connection in the middle of the
    body, or 0 for none.
    """

    registry: Registry
    user: str = ""
    password: str = ""
    anonymous: bool = False
    told: list[str] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    granted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        gate = self

        class Handler(_Handler):
            owner = gate

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Gate
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/token"):
            return self._token()
        need = "pull" if self.command in {"GET", "HEAD"} else "push"
        allowed = {"Bearer for-push", f"Bearer for-{need}"}  # who may write may read
        if (self.owner.user or self.owner.anonymous) and self.headers.get("Authorization") not in allowed:
            realm = f'Bearer realm="http://{self.owner.address}/token",service="here",scope="{need}"'
            return self._answer(401, {"Www-Authenticate": realm}, b"{}")
        fault = self.owner.faults.pop(0) if self.owner.faults and "/blobs/" in self.path else 0
        if fault > 0:
            return self._answer(fault, {}, b"")
        return self._forward(body, cut=fault == CUT)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815

    def _token(self) -> None:
        if self.owner.anonymous:
            self.owner.told += [said] if (said := self.headers.get("Authorization")) else []
            return self._answer(200, {}, b'{"token": "for-pull"}')
        login = base64.b64encode(f"{self.owner.user}:{self.owner.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {login}":
            return self._answer(401, {}, b"{}")
        scope = self.path.rpartition("scope=")[2]
        self.owner.granted.append(scope)
        return self._answer(200, {}, json.dumps({"token": f"for-{scope}"}).encode())

    def _forward(self, body: bytes, *, cut: bool) -> None:
        onward = http.client.HTTPConnection("127.0.0.1", self.owner.registry.port, timeout=20)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in {"authorization", "connection"}}
        onward.request(self.command, self.path, body, headers)
        answer = onward.getresponse()
        data = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in {"transfer-encoding", "connection"}}
        self._answer(answer.status, kept, data, cut=cut)
        onward.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut
