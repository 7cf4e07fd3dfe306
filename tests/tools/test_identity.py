"""What is issued, judged by others: openssl, ssh-keygen, a TLS server, and kill -9."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.tools.command import started

from pibake import identity
from pibake.identity import Secrets, Wanted
from pibake.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

NODES = {"node1": "server", "node2": "agent"}
DAY = timedelta(days=1)
BOTH = pytest.mark.parametrize("secrets", ["k3s", "kubeadm"], indirect=True)


@pytest.fixture(scope="module")
def issued() -> dict[str, Secrets]:
    now = datetime.now(UTC)
    return {name: identity.issue(Wanted("lab", name, NODES), None, now) for name in ("k3s", "kubeadm")}


@pytest.fixture
def secrets(request: pytest.FixtureRequest, issued: dict[str, Secrets]) -> Secrets:
    return issued[request.param]


@pytest.fixture
def pki(secrets: Secrets, tmp_path: Path) -> Path:
    identity.layout.pki(secrets).write(tmp_path)
    return tmp_path / identity.layout.PKI[secrets.distribution]


def tool(*argv: str | Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(argv, input=stdin, check=True, capture_output=True).stdout


@BOTH
def test_openssl_accepts_every_authority(secrets: Secrets, pki: Path) -> None:
    for name in secrets.authorities:
        cert, key = pki / f"{name}.crt", pki / f"{name}.key"
        tool("openssl", "verify", "-x509_strict", "-CAfile", cert, cert)
        text = tool("openssl", "x509", "-in", cert, "-noout", "-text").decode()
        assert "CA:TRUE" in text
        assert "Digital Signature, Key Encipherment, Certificate Sign" in text
        assert "Subject Key Identifier" in text
        assert tool("openssl", "x509", "-in", cert, "-noout", "-pubkey") == tool(
            "openssl", "pkey", "-in", key, "-pubout"
        )
        tool("openssl", "x509", "-in", cert, "-noout", "-checkend", str(9 * 365 * 86400))
    subjects = {
        name: tool("openssl", "x509", "-in", pki / f"{name}.crt", "-noout", "-subject")
        for name in secrets.authorities
    }
    if secrets.distribution == "kubeadm":
        assert subjects["ca"].decode().strip().replace(" ", "") == "subject=CN=kubernetes"
        assert b"DNS:kubernetes" in tool(
            "openssl", "x509", "-in", pki / "ca.crt", "-noout", "-ext", "subjectAltName"
        )
        assert (pki / "ca.key").read_text().startswith("-----BEGIN RSA PRIVATE KEY-----")
        assert (pki / "sa.pub").read_bytes() == tool("openssl", "rsa", "-in", pki / "sa.key", "-pubout")
    else:
        assert b"k3s-etcd-peer-ca@" in subjects["etcd/peer-ca"]
        assert (pki / "server-ca.key").read_text().startswith("-----BEGIN EC PRIVATE KEY-----")
        tool("openssl", "rsa", "-in", pki / "service.key", "-check", "-noout")


@BOTH
def test_openssl_accepts_client_certificates_of_their_authority_and_of_no_other(
    secrets: Secrets, pki: Path, tmp_path: Path
) -> None:
    pair = identity.client_certificate(
        secrets, "alice", ["dev", "ops"], timedelta(hours=8), datetime.now(UTC)
    )
    cert = tmp_path / "alice.crt"
    cert.write_text(pair.cert)
    right, wrong = ("client-ca", "server-ca") if secrets.distribution == "k3s" else ("ca", "front-proxy-ca")
    tool("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", pki / f"{right}.crt", cert)
    for arguments in (
        ("-purpose", "sslserver", "-CAfile", pki / f"{right}.crt"),
        ("-CAfile", pki / f"{wrong}.crt"),
    ):
        with pytest.raises(subprocess.CalledProcessError):
            tool("openssl", "verify", *arguments, cert)
    text = tool("openssl", "x509", "-in", cert, "-noout", "-subject", "-nameopt", "multiline").decode()
    assert [line.split("= ")[1] for line in text.splitlines()[1:]] == ["dev", "ops", "alice"]
    tool("openssl", "x509", "-in", cert, "-noout", "-checkend", str(7 * 3600 + 3000))
    with pytest.raises(subprocess.CalledProcessError):
        tool("openssl", "x509", "-in", cert, "-noout", "-checkend", str(8 * 3600 + 60))


@pytest.mark.parametrize("secrets", ["k3s"], indirect=True)
def test_a_k3s_token_holds_the_hash_of_the_file_that_servers_hand_out(secrets: Secrets, pki: Path) -> None:
    digest = tool("openssl", "dgst", "-sha256", "-r", pki / "server-ca.crt").decode().split()[0]
    for kind, user in (("server", "server"), ("agent", "node")):
        pin, _, credentials = secrets.tokens[kind].reveal().removeprefix("K10").partition("::")
        assert pin == digest
        assert credentials.split(":")[0] == user


@pytest.mark.parametrize("secrets", ["kubeadm"], indirect=True)
def test_kubeadms_pin_is_what_its_documentation_computes(secrets: Secrets, pki: Path) -> None:
    public = tool("openssl", "x509", "-pubkey", "-noout", "-in", pki / "ca.crt")
    der = tool("openssl", "pkey", "-pubin", "-outform", "der", stdin=public)
    assert secrets.ca_pin == f"sha256:{hashlib.sha256(der).hexdigest()}"


@BOTH
def test_ssh_keygen_agrees_with_host_keys(secrets: Secrets, tmp_path: Path) -> None:
    identity.layout.node(secrets, "node2").write(tmp_path)
    key = tmp_path / "etc/ssh/ssh_host_ed25519_key"
    public = secrets.nodes["node2"].host_key.public
    assert tool("ssh-keygen", "-y", "-f", key).decode().split()[:2] == public.split()[:2]
    bits, fingerprint, comment, kind = tool("ssh-keygen", "-l", "-f", f"{key}.pub").decode().split()
    assert (bits, comment, kind) == ("256", "node2", "(ED25519)")
    assert fingerprint in {row.mark for row in identity.summary.rows(secrets)}
    known = tmp_path / "known"
    known.write_text(identity.known_hosts(secrets, {"node2": ("node2", "192.168.10.12")}))
    assert public.split()[1].encode() in tool("ssh-keygen", "-F", "192.168.10.12", "-f", known)


@BOTH
def test_a_tls_server_of_the_cluster_takes_the_administrators_certificate(
    secrets: Secrets, pki: Path, tmp_path: Path
) -> None:
    """The server's certificate is made by openssl, as the API server's would be, and each side checks the other."""
    ca, client_ca = ("server-ca", "client-ca") if secrets.distribution == "k3s" else ("ca", "ca")
    key, request, cert = tmp_path / "s.key", tmp_path / "s.csr", tmp_path / "s.crt"
    tool("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
         "-out", request, "-subj", "/CN=kube-apiserver")  # fmt: skip
    (tmp_path / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    tool("openssl", "x509", "-req", "-in", request, "-CA", pki / f"{ca}.crt", "-CAkey", pki / f"{ca}.key", "-CAcreateserial",
         "-days", "30", "-extfile", tmp_path / "ext", "-out", cert)  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    server.load_verify_locations(pki / f"{client_ca}.crt")
    server.verify_mode = ssl.CERT_REQUIRED
    admin = identity.admin_certificate(secrets, DAY, datetime.now(UTC))
    (tmp_path / "a.pem").write_text(admin.cert + admin.key.reveal())
    client = ssl.create_default_context(cadata=secrets.ca.cert)
    client.load_cert_chain(tmp_path / "a.pem")
    subject = handshake(server, client)
    assert ("organizationName", "system:masters") in subject
    name = "system:admin" if secrets.distribution == "k3s" else "kubernetes-admin"
    assert ("commonName", name) in subject


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> set[tuple[str, str]]:
    """Connect one to the other; return the subject the server saw."""
    seen: list[set[tuple[str, str]]] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            raw, _ = listener.accept()
            with server.wrap_socket(raw, server_side=True) as tls:
                certificate = tls.getpeercert() or {}
                seen.append({pair for part in certificate["subject"] for pair in part})  # type: ignore[misc]
                tls.sendall(b"ok")

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=20) as raw,
            client.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
        ):
            assert tls.recv(2) == b"ok"
        thread.join()
    return seen[0]


ISSUE = """
import sys
from pathlib import Path
from pibake.vault import Vault
from pibake.identity import Wanted
print("ready", flush=True)
vault = Vault(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 500):
    vault.issue(Wanted("lab", "k3s", {f"node{number}": "agent"}))
    print(f"node{number}", flush=True)
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_issued(tmp_path: Path) -> None:
    folder, chance, first = tmp_path / "secrets", random.Random(3), 0  # noqa: S311 - moments, not keys
    before: Secrets | None = None
    for attempt in range(1, 21):
        argv = [sys.executable, "-c", ISSUE, str(folder), str(first)]
        with started(argv, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            # the first runs are ended while keys are made and the folder appears, the others between nodes; a busy
            # machine needs longer for that
            time.sleep(chance.uniform(0, 0.3 * attempt if before is None else 0.6))
            child.send_signal(signal.SIGKILL)
            said = child.stdout.read().split("\n")[:-1]
        after = Vault(folder).load()
        if before is not None:
            assert after is not None
            assert {name: after.nodes[name] for name in before.nodes} == before.nodes
            assert (after.authorities, after.tokens, after.service_account) == (
                before.authorities, before.tokens, before.service_account,
            )  # fmt: skip
        assert set(said) <= set(after.nodes if after else {})
        first += len(said) + 1
        before = after
    assert before is not None
    Vault(folder).issue(Wanted("lab", "k3s", {}))
    assert not list(folder.glob("*.part")) + list(folder.glob(".*.part"))


def test_two_who_issue_at_once_agree(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pibake.vault import Vault
from pibake.identity import Wanted
made = Vault(Path(sys.argv[1])).issue(Wanted("lab", "k3s", {"node1": "server", sys.argv[2]: "agent"}))
import json; print(json.dumps([made.ca_pin, made.nodes["node1"].host_key.public]))
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "secrets", f"node{n}"], stdout=subprocess.PIPE
        )
        for n in (2, 3)
    ]
    results = [json.loads(child.communicate()[0]) for child in children]
    assert results[0] == results[1]
    assert sorted(Vault(tmp_path / "secrets").existing().nodes) == ["node1", "node2", "node3"]
