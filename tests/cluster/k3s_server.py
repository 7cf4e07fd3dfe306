"""Plays a k3s server, as far as agents and further servers see it.

What is asked when, and what is answered, follows k3s' pkg/clientaccess, pkg/server and pkg/nodepassword: /cacerts for
anyone; certificates for whoever knows the password of `node` and, from the second time on, the node's own; the CAs for
whoever knows the password of `server`; Nodes for holders of a client certificate. Every request is recorded.

The recorder on a card imports this, so it needs the standard library only; what runs it natively signs with
`cryptography`:

    k3s_server.py serve ROOT ADDRESS      a server with the files below ROOT, as they stand on a server's card
    k3s_server.py phone ADDRESS PORT      prints what nodes post to it
"""

from __future__ import annotations

import base64
import http.server
import json
import re
import ssl
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

PORT = 6443
TLS = "var/lib/rancher/k3s/server/tls"
CONFIG = "etc/rancher/k3s/config.yaml"
REJECTED = (
    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server"
    " node-passwd entry, try enabling a unique node name with the --with-node-id flag"
)


def parse_config(text: str) -> dict[str, Any]:
    """Return the values of a config.yaml as pibake writes them: scalars, and lists of scalars."""
    found: dict[str, Any] = {}
    key = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"\s*- (.+)", line):
            found[key] = [*(found[key] or []), scalar(match[1])]
        elif match := re.fullmatch(r"\"?([a-z-]+)\"?:(?: (.*))?", line):
            key = match[1]
            found[key] = scalar(match[2]) if match[2] else ""
        elif line.strip() not in ("", "---"):
            raise ValueError(f"config.yaml has a line that is neither a key nor an item: {line!r}")
    return found


def scalar(text: str) -> str:
    if text[:1] == '"':
        return str(json.loads(text))
    return text[1:-1].replace("''", "'") if text[:1] == "'" else text


def parse_token(token: str) -> tuple[str, str, str]:
    """Return the CA's hash, the user and the password of a token."""
    match = re.fullmatch(r"K10([0-9a-f]{64})::([^:]+):(.+)", token)
    if not match:
        raise ValueError("invalid token format")
    return match[1], match[2], match[3]


def vip(manifest: str) -> str:
    """Return the address that kube-vip's manifest names."""
    match = re.search(r'- "?name"?: "?address"?\s+"?value"?: ["\']?([0-9a-f.:]+)', manifest)
    if not match:
        raise ValueError("the manifest names no address")
    return match[1]


def password(token: str) -> str:
    """Return the password of a token, which may be all there is of it."""
    return parse_token(token)[2] if token.startswith("K10") else token


@dataclass
class Api:
    """A server's answers, and what it was asked.

    Attributes:
        cacerts: server-ca.crt, byte for byte.
        passwords: of the users `node` and `server`.
        sign: makes a client certificate with its key, both in PEM, for a common name and an organization.
        authorities: what a joining server gets: paths below server/tls and their content.
        note: is told of every request.
    """

    cacerts: bytes
    passwords: dict[str, str]
    sign: Callable[[str, str], bytes]
    authorities: Callable[[], dict[str, str]]
    note: Callable[[dict[str, Any]], None]
    node_passwords: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        """Return status and body."""
        with self.lock:
            if asked.path == "/cacerts":
                return 200, self.cacerts
            if asked.path == "/v1-k3s/client-kubelet.crt":
                return self._kubelet(asked)
            if asked.path == "/v1-k3s/server-bootstrap":
                if not self._is(asked, "server"):
                    return 401, b"Unauthorized"
                return 200, json.dumps(self.authorities()).encode()
            if asked.path.startswith("/api/v1/nodes"):
                return self._node(asked)
            return 404, b"404 page not found"

    def _is(self, asked: Asked, user: str) -> bool:
        kind, _, encoded = asked.headers.get("authorization", "").partition(" ")
        given = base64.b64decode(encoded).decode() if kind == "Basic" else ""
        return given == f"{user}:{self.passwords[user]}"

    def _kubelet(self, asked: Asked) -> tuple[int, bytes]:
        if not self._is(asked, "node"):
            return 401, b"Unauthorized"
        name, own = asked.headers.get("k3s-node-name", ""), asked.headers.get("k3s-node-password", "")
        if not name or not own:
            return 400, b"node name or node password not set"
        if self.node_passwords.setdefault(name, own) != own:
            return 403, REJECTED.encode()
        return 200, self.sign(f"system:node:{name}", "system:nodes")

    def _node(self, asked: Asked) -> tuple[int, bytes]:
        user = re.fullmatch(r"system:node:(.+)", asked.user)
        if not user:
            return 401, b"Unauthorized"
        if asked.method == "POST" and asked.path == "/api/v1/nodes":
            node = json.loads(asked.body)
            if node["metadata"]["name"] != user[1]:
                return 403, b"a node may register itself only"
            created = self.nodes.setdefault(user[1], node) is node
            return (201, json.dumps(node).encode()) if created else (409, b"it is there already")
        match = re.fullmatch(r"/api/v1/nodes/([^/]+)(/status)?", asked.path)
        if not match or match[1] != user[1]:
            return 403, b"a node may see itself only"
        found = self.nodes.get(user[1])
        if found is None:
            return 404, b"nodes %s not found" % user[1].encode()
        if asked.method == "PATCH" and match[2]:
            found["status"] = json.loads(asked.body)["status"]
        return 200, json.dumps(found).encode()


@dataclass
class Asked:
    """One request; `user` is the common name of the client certificate, or ""."""

    client: str
    method: str
    path: str
    headers: dict[str, str]
    user: str
    body: bytes


class Server(http.server.ThreadingHTTPServer):
    """Serves an `Api` by TLS; clients may show a certificate."""

    daemon_threads = True

    def __init__(self, where: tuple[str, int], api: Api, context: ssl.SSLContext) -> None:
        self.api, self.context = api, context
        super().__init__(where, Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        plain.settimeout(30)
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            request.do_handshake()
        except OSError as error:
            self.api.note({"time": time.time(), "client": client_address[0], "refused": str(error)})
            return
        super().finish_request(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        assert isinstance(self.server, Server)
        assert isinstance(self.connection, ssl.SSLSocket)
        certificate: Any = self.connection.getpeercert() or {}
        names = {key: value for row in certificate.get("subject", ()) for key, value in row}
        asked = Asked(
            self.client_address[0], self.command, self.path, {k.lower(): v for k, v in self.headers.items()},
            names.get("commonName", ""), self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )  # fmt: skip
        status, body = self.server.api.answer(asked)
        self.server.api.note({
            "time": time.time(), "client": asked.client, "method": asked.method, "path": asked.path, "user": asked.user,
            "headers": asked.headers, "body": asked.body.decode("utf-8", "replace"), "status": status,
        })  # fmt: skip
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - names of http.server's

    def log_message(self, *_: object) -> None:
        pass


def context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """Return the TLS side of a server: its own certificate, and the CA of those it knows by theirs."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    made.load_verify_locations(client_ca)
    made.verify_mode = ssl.CERT_OPTIONAL
    return made


# --- natively, on the machine that runs the tests ---


def issue(authority: Path, name: str, organization: str = "", sans: tuple[str, ...] = ()) -> bytes:
    """Return a certificate and its key, both in PEM: a server's if there are alternative names, else a client's."""
    import ipaddress
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    ca = x509.load_pem_x509_certificate(authority.with_suffix(".crt").read_bytes())
    signing = serialization.load_pem_private_key(authority.with_suffix(".key").read_bytes(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, name))
    usage = ExtendedKeyUsageOID.SERVER_AUTH if sans else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)  # type: ignore[arg-type]
    )
    if sans:
        names: list[x509.GeneralName] = []
        for text in sans:
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(text)))
            except ValueError:
                names.append(x509.DNSName(text))
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return pem + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def printed(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def native(root: Path, where: tuple[str, int], note: Callable[[dict[str, Any]], None] = printed) -> Server:
    """Return a server with the files of a server's card; it listens already."""
    tls, config = root / TLS, parse_config((root / CONFIG).read_text())
    api = Api(
        (tls / "server-ca.crt").read_bytes(),
        {"node": password(config["agent-token"]), "server": password(config["token"])},
        lambda name, organization: issue(tls / "client-ca", name, organization),
        lambda: {str(path.relative_to(tls)): path.read_text() for path in tls.rglob("*") if path.is_file()},
        note,
    )
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "serving.pem"
        own.touch(mode=0o600)
        own.write_bytes(issue(tls / "server-ca", "k3s", "", (where[0], "127.0.0.1", *config["tls-san"])))
        return Server(where, api, context(own, own, tls / "client-ca.crt"))


class Phone(http.server.BaseHTTPRequestHandler):
    """Prints what is posted to it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        printed({"time": time.time(), "client": self.client_address[0], "state": json.loads(body)})
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        native(Path(sys.argv[2]), (sys.argv[3], PORT)).serve_forever()
    else:
        http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Phone).serve_forever()
