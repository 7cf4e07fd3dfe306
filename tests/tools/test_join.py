"""What `pibake-join` makes of the API servers it meets: the right one, another cluster's, none, one of another time."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.machinery
import importlib.util
import ipaddress
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pibake import identity, resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

NOW = dt.datetime.now(dt.UTC)
HOST = "127.0.0.1"
TOKEN_ID = "abcdef"


@pytest.fixture
def join(tmp_path: Path) -> ModuleType:
    """The program, as a module that trusts the CA in a file of the test's."""
    loader = importlib.machinery.SourceFileLoader(
        "join", str(resources.path("overlays/node/usr/local/lib/pibake/join"))
    )
    spec = importlib.util.spec_from_loader("join", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    module.CA = str(tmp_path / "ca.crt")  # type: ignore[attr-defined]
    return module


def issued(distribution: str) -> identity.Secrets:
    return identity.issue(identity.Wanted("lab", distribution, {"s1": "server", "a1": "agent"}), None, NOW)


class Handler(BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        status, body = self.answers.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(
    folder: Path,
    ca: identity.Pair,
    answers: dict[str, tuple[int, bytes]],
    *,
    name: str = HOST,
    begins: int = -1,
    ends: int = 1,
) -> Iterator[int]:
    """An API server whose certificate is signed by `ca`, good from `begins` to `ends` days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = serialization.load_pem_private_key(ca.key.reveal().encode(), None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "api")])
    alternative: x509.GeneralName = (
        x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.load_pem_x509_certificate(ca.cert.encode()).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW.replace(tzinfo=None) + dt.timedelta(days=begins))
        .not_valid_after(NOW.replace(tzinfo=None) + dt.timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    )
    pem = folder / f"server-{certificate.serial_number}.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    Handler.answers, Handler.seen[:] = answers, []
    server = HTTPServer((HOST, 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def node(secrets: identity.Secrets, port: int, **changes: Any) -> dict[str, Any]:
    part = "agent" if secrets.distribution == "k3s" else "worker"
    return {
        "node": "a1", "member": "a1", "address": HOST, "distribution": secrets.distribution, "part": part, "endpoint": [HOST, port],
        "peers": [], "pin": secrets.ca_pin, "token_id": TOKEN_ID, **changes,
    }  # fmt: skip


INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"


def info(**data: str) -> dict[str, tuple[int, bytes]]:
    return {INFO: (200, json.dumps({"data": data}).encode())}


def test_the_api_server_of_the_own_cluster_is_trusted(join: ModuleType, tmp_path: Path) -> None:
    secrets = issued("kubeadm")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    with serving(tmp_path, secrets.ca, info(**{f"jws-kubeconfig-{TOKEN_ID}": "x"})) as port:
        mine = node(secrets, port)
        assert join.endpoint(mine) == f"https://{HOST}:{port} has the pinned CA"
    join.token_lives(mine)


def test_the_api_server_of_another_cluster_is_a_fault_and_hears_nothing(
    join: ModuleType, tmp_path: Path
) -> None:
    secrets, other = issued("kubeadm"), issued("kubeadm")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    with (
        serving(tmp_path, other.ca, info()) as port,
        pytest.raises(join.Fault, match="another CA than the one pinned"),
    ):
        join.endpoint(node(secrets, port))
    assert Handler.seen == []


@pytest.mark.parametrize(("begins", "ends"), [(1, 2), (-2, -1)])
def test_a_certificate_of_another_time_means_waiting_for_the_clock(
    join: ModuleType, tmp_path: Path, begins: int, ends: int
) -> None:
    secrets = issued("kubeadm")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    with (
        serving(tmp_path, secrets.ca, info(), begins=begins, ends=ends) as port,
        pytest.raises(join.NotYet, match="this node's time: waiting for NTP"),
    ):
        join.endpoint(node(secrets, port))


def test_a_certificate_for_other_names_is_a_fault(join: ModuleType, tmp_path: Path) -> None:
    secrets = issued("kubeadm")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    with (
        serving(tmp_path, secrets.ca, info(), name="10.9.9.9") as port,
        pytest.raises(join.Fault, match="for other names"),
    ):
        join.endpoint(node(secrets, port))


def test_nobody_there_and_not_ready_are_waited_for(join: ModuleType, tmp_path: Path) -> None:
    secrets = issued("kubeadm")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    with (
        serving(tmp_path, secrets.ca, {}) as port,
        pytest.raises(join.NotYet, match="`kubeadm init` has not ended"),
    ):
        join.endpoint(node(secrets, port))
    with pytest.raises(join.NotYet, match="nothing answers at https://127"):
        join.endpoint(node(secrets, port))
    with pytest.raises(join.NotYet, match="cannot be resolved"):
        join.endpoint(node(secrets, port, endpoint=["api.invalid", port]))


def test_a_token_the_server_does_not_sign_with_is_a_fault_with_the_way_out(join: ModuleType) -> None:
    mine = node(issued("kubeadm"), 1, cluster_info={"data": {"jws-kubeconfig-000000": "x"}})
    with pytest.raises(join.Fault, match="pibake secrets rotate tokens --apply"):
        join.token_lives(mine)


def test_a_k3s_agent_compares_the_hash_before_it_says_anything(join: ModuleType, tmp_path: Path) -> None:
    secrets, other = issued("k3s"), issued("k3s")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    with serving(tmp_path, secrets.ca, {"/cacerts": (200, secrets.ca.cert.encode())}) as port:
        assert join.endpoint(node(secrets, port)) == f"https://{HOST}:{port} has the pinned CA"
    with (
        serving(tmp_path, other.ca, {"/cacerts": (200, other.ca.cert.encode())}) as port,
        pytest.raises(join.Fault, match="another cluster; not joining"),
    ):
        join.endpoint(node(secrets, port))
    # whoever shows the right CA has to have a certificate of it, too
    with (
        serving(tmp_path, other.ca, {"/cacerts": (200, secrets.ca.cert.encode())}) as port,
        pytest.raises(join.Fault, match="another CA than the one pinned"),
    ):
        join.endpoint(node(secrets, port))
    assert {header for _, header in Handler.seen} <= {None}


def test_a_first_server_that_is_flashed_again_finds_the_living_cluster(
    join: ModuleType, tmp_path: Path
) -> None:
    secrets, other = issued("k3s"), issued("k3s")
    (tmp_path / "ca.crt").write_text(secrets.ca.cert)
    answers = {"/cacerts": (200, b"")}
    with serving(tmp_path, secrets.ca, answers) as port:
        mine = node(secrets, port, part="server-first", peers=["127.0.0.9", HOST])
        assert "the cluster runs already" in join.endpoint(mine)
        assert mine["rejoin"] == HOST
    with serving(tmp_path, other.ca, answers) as port:
        mine = node(secrets, port, part="server-first", peers=[HOST])
        assert join.endpoint(mine) == "this node is the first"


def test_what_is_wiped_was_overwritten(join: ModuleType, tmp_path: Path) -> None:
    secret, link = tmp_path / "secret", tmp_path / "same"
    secret.write_bytes(b"s3cr3t" * 1000)
    link.hardlink_to(secret)
    join.wipe(str(secret))
    assert not secret.exists()
    assert link.read_bytes() == bytes(6000)


def test_the_program_is_python_that_old_systems_read() -> None:
    """HypriotOS has Python 3.5: no f-strings, no assignment expressions."""
    import ast

    text = resources.path("overlays/node/usr/local/lib/pibake/join").read_text("utf-8")
    tree = ast.parse(text, feature_version=(3, 5))
    assert not [found for found in ast.walk(tree) if isinstance(found, ast.JoinedStr | ast.NamedExpr)]


def test_stages_are_those_that_people_are_told_of(join: ModuleType) -> None:
    assert join.STAGES == ("network", "clock", "endpoint", "install", "join", "ready", "scrubbed")
    page = (resources.root() / "docs/kubernetes.md").read_text("utf-8")
    assert all(f"| `{stage}` |" in page for stage in join.STAGES)


def test_the_install_stage_waits_for_what_the_early_unit_says(join: ModuleType, tmp_path: Path) -> None:
    said = tmp_path / "install.json"
    join.INSTALLED = str(said)  # type: ignore[attr-defined]
    notes: list[str] = []
    subject = {"distribution": "kubeadm", "version": "v1.31.4", "note": notes.append}
    # this machine's own kernel is not what is tested
    join.cgroups = lambda: None  # type: ignore[attr-defined]
    threading.Timer(
        0.3, said.write_text, ['{"status": "ok", "detail": "kubeadm v1.31.4, 2 image archives"}']
    ).start()
    assert join.install(subject) == "kubeadm v1.31.4, 2 image archives"
    assert notes == ["waiting for packages and images to be ready"]
    said.write_text('{"status": "failed", "detail": "no kubelet"}')
    with pytest.raises(join.Fault, match="no kubelet"):
        join.install(subject)


@pytest.mark.parametrize(
    ("distribution", "expected"), [("", "packages"), ("k3s", "k3s v1.31.4+k3s1, packages")]
)
def test_every_node_with_packages_waits_until_they_are_configured(
    distribution: str, expected: str, join: ModuleType, tmp_path: Path
) -> None:
    said = tmp_path / "install.json"
    join.INSTALLED, join.RELEASE = str(said), str(tmp_path / "absent")  # type: ignore[attr-defined]
    join.cgroups = lambda: None  # type: ignore[attr-defined]
    join.os = SimpleNamespace(**{**vars(join.os), "access": lambda *_: True})  # type: ignore[attr-defined]
    subject = {"distribution": distribution, "version": "v1.31.4+k3s1", "note": lambda _: None}
    join.UNITS = (str(tmp_path),)  # type: ignore[attr-defined]
    without = "k3s v1.31.4+k3s1" if distribution else "nothing to install"
    assert join.install(subject) == without
    (tmp_path / join.INSTALLER).touch()
    configured: list[bool] = []
    join.configure_packages = lambda: configured.append(True)  # type: ignore[attr-defined]
    threading.Timer(0.3, join.prepare).start()
    assert join.install(subject) == expected
    assert configured == [True]


def test_the_early_unit_leaves_why_it_failed_and_tries_again(join: ModuleType, tmp_path: Path) -> None:
    join.INSTALLED, join.RELEASE = str(tmp_path / "run/install.json"), str(tmp_path / "release")  # type: ignore[attr-defined]
    (tmp_path / "release").write_text("v1.31.4\n")
    asked: list[str] = []
    seen: list[str] = []

    def attempt(version: str) -> str:
        asked.append(version)
        if len(asked) == 1:
            raise join.Fault("not yet")
        seen.append((tmp_path / "run/install.json").read_text())
        return "done"

    join.install_kubeadm, join.LONGEST_PAUSE = attempt, 0  # type: ignore[attr-defined]
    join.prepare()
    assert asked == ["v1.31.4"] * 2
    assert json.loads(seen[0]) == {"status": "failed", "detail": "not yet"}
    assert json.loads((tmp_path / "run/install.json").read_text()) == {"status": "ok", "detail": "done"}


def test_the_first_server_starts_what_applies_add_ons_at_every_boot_before_it_is_ready(
    join: ModuleType, tmp_path: Path
) -> None:
    ran: list[tuple[str, ...]] = []
    join.UNITS, join.JOINED = (str(tmp_path),), str(tmp_path / "joined")  # type: ignore[attr-defined]

    def run(*words: str) -> tuple[bool, str]:
        ran.append(words)
        return True, ""

    join.run = run  # type: ignore[attr-defined]
    join.join_kubeadm = lambda _: "a member already"  # type: ignore[attr-defined]
    subject = {"distribution": "kubeadm", "pin": "sha256:1", "part": "init"}
    assert join.join(subject) == "a member already"
    assert ran == []
    (tmp_path / "pibake-addons.service").touch()
    for _ in range(2):
        assert join.join(subject) == "a member already"
    assert ran == [("systemctl", "start", "--no-block", "pibake-addons.service")] * 2
    assert join.STAGES.index("join") < join.STAGES.index("ready")


@pytest.fixture
def machine(join: ModuleType, tmp_path: Path) -> tuple[ModuleType, Path]:
    return join, tmp_path


@pytest.mark.parametrize(
    ("disks", "status", "raised", "said"),
    [
        ([("data", "ok", "")], 0, "", "data on /srv/data"),
        ([("data", "ok", ""), ("more", "ok", "")], 0, "", "data on /srv/data, more on /srv/more"),
        ([("data", "ok", ""), ("more", "failed", "/dev/sdb is not empty")], 1, "Fault", "data disk more: /dev/sdb is not empty"),
        ([("data", "missing", "there is no /dev/sda")], 1, "NotYet", "data disk data: there is no /dev/sda"),
        ([("data", "missing", "no a"), ("more", "failed", "no b")], 1, "Fault", "data disk data: no a; data disk more: no b"),
        ([], 1, "Fault", "pibake-disks.service: it broke"),
    ],
)  # fmt: skip
def test_the_install_stage_has_the_data_disks_made_and_says_how_they_are(
    disks: list[tuple[str, str, str]], status: int, raised: str, said: str, machine: tuple[ModuleType, Path]
) -> None:
    join, tmp_path = machine
    told = [{"label": n, "mount": f"/srv/{n}", "status": s, "detail": detail} for n, s, detail in disks]
    state = tmp_path / "run/disks.json"
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'start pibake-disks.service' ] || exit 9\nmkdir -p {state.parent}\n"
        f"echo '{json.dumps({'disks': told})}' > {state}\necho it broke\nexit {status}\n"
    )
    systemctl.chmod(0o755)
    (tmp_path / "disks.json").write_text("[]")
    join.DISKS, join.DISKS_STATE, join.UNITS = str(tmp_path / "disks.json"), str(state), (str(tmp_path),)  # type: ignore[attr-defined]
    join.ENVIRONMENT["PATH"] = f"{systemctl.parent}:{join.ENVIRONMENT['PATH']}"
    join.cgroups = lambda: None  # type: ignore[attr-defined]
    subject = {"distribution": "", "version": "", "note": lambda _: None}
    with pytest.raises(join.Fault, match="built without the program that makes its data disks"):
        join.install(subject)
    (tmp_path / join.DISKS_UNIT).touch()
    if not raised:
        assert join.install(subject) == said
        return
    with pytest.raises(getattr(join, raised)) as caught:
        join.install(subject)
    assert str(caught.value) == said
