"""A server's card starts a cluster with the real kubeadm, from its seed alone.

Slow: under emulation the control plane needs minutes. `-k "not slow"` leaves only what the tools say of the files.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.cluster import lab as wire

from pibake.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster.lab import Lab

    from pibake.identity import Secrets

pytestmark = pytest.mark.cluster
HERE = Path(__file__).parent
KUBEADM = wire.cache() / "kubernetes-1.20.2/amd64/kubeadm"
API = f"{wire.SERVER}:6443"
CLUSTER = """
cluster: lab
domain: lab.example
kubernetes:
  distribution: kubeadm
  version: v1.20.2
  bundle: {bundle}
  cni: none
  token_ttl: 2h
  phone_home: http://192.168.77.1:8765/
defaults: {{overlays: [bridge]}}
network: {{subnet: 192.168.77.0/24, gateway: 192.168.77.1}}
users: [{{name: ops, ssh_keys: [{{file: id.pub}}]}}]
nodes:
  - {{hostname: s1, address: 192.168.77.10, role: server}}
  - {{hostname: node3, address: 192.168.77.13}}
"""

LISTENER = """
import http.server, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *arguments):
        pass
# http.server's own servers look their name up first, and here nobody answers
socketserver.ThreadingTCPServer(("192.168.77.1", 8765), Handler).serve_forever()
"""


def say(text: str) -> None:
    print(text, flush=True)


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cluster.yaml, the server's image, and a kubeconfig made before the server is ever switched on."""
    run(HERE / "build-server-bundle")
    where = tmp_path_factory.mktemp("init")
    overlay = where / "overlays/bridge/etc/cni/net.d/10-lab.conflist"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(json.dumps(wire.CNI))
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", where / "id")
    bundle = (wire.cache() / "server-bundle-1.20.2").resolve()
    (where / "cluster.yaml").write_text(CLUSTER.format(bundle=bundle))
    started = time.monotonic()
    run(sys.executable, "-m", "pibake", "build", "--hostname", "s1", cwd=where)
    say(f"\nbuilt s1 in {time.monotonic() - started:.1f} s: {size(where / 'images/out/s1.img')}")
    run(sys.executable, "-m", "pibake", "kubeconfig", "-o", "kubeconfig", cwd=where)
    return where


@pytest.fixture(scope="module")
def secrets(folder: Path) -> Secrets:
    return Vault(folder / "secrets").existing()


def size(image: Path) -> str:
    state = image.stat()
    return f"{state.st_size >> 20} MiB, {state.st_blocks >> 11} MiB of it written"


@pytest.fixture
def lab(folder: Path) -> Iterator[Lab]:
    """A wire on which nobody has the server's address."""
    with wire.opened(folder) as made:
        made.run("ip", "address", "del", f"{wire.SERVER}/24", "dev", "wire")
        made.tap("tap0")
        # the node says where it is: every login to ask would cost the emulated machine seconds
        made.start("phone", sys.executable, "-c", LISTENER)
        yield made


class Card:
    """The server's card in a machine of its own; `log` names the seconds since its first power-on."""

    def __init__(self, lab: Lab, disk: str) -> None:
        self.lab = lab
        self.disk = disk
        self.started = time.monotonic()
        self.phone = lab.folder / "phone.log"
        self.heard = self.shown = 0

    @contextlib.contextmanager
    def powered(self) -> Iterator[wire.Boot]:
        argv = self.lab.enter(
            sys.executable, "-m", "pibake", "boot", "s1", "--tap", "tap0", "--disk", f"{self.disk}.qcow2", "--keep",
            "--json", "--memory", "3072", "--timeout", "2400", "--log", f"{self.disk}.console",
        )  # fmt: skip
        self.heard, self.shown = self.phone.stat().st_size, 0
        with (self.lab.folder / f"{self.disk}.boot.log").open("a") as log:
            child = subprocess.Popen(argv, stdout=log, stderr=log, text=True)
        boot = wire.Boot(child, time.monotonic())
        try:
            yield boot
        finally:
            if child.poll() is None:
                boot.off(hard=True)

    def note(self, what: str) -> None:
        say(f"{time.monotonic() - self.started:7.1f} s  {what}")

    def reach(self, what: str, test: Callable[[], Any], limit: float = 1500) -> None:
        """Wait for a milestone, and print when it was."""
        deadline = time.monotonic() + limit
        while not test():
            assert time.monotonic() < deadline, f"not within {limit:g} s: {what}; {self.state()}"
            time.sleep(2)
        self.note(what)

    def ssh(self, command: str) -> str:
        """Run a command on the node, with the host key that was issued."""
        argv = ("timeout", "120", sys.executable, "-m", "pibake", "ssh", "-i", "id", "s1", command)
        return self.lab.run(*argv)

    def state(self) -> dict[str, Any]:
        """Return the last that the node said of itself since it was switched on; all of it is printed once."""
        with self.phone.open() as file:
            file.seek(self.heard)
            said = [json.loads(line) for line in file if line.endswith("\n")]
        for entry in said[self.shown :]:
            self.note(f"  {entry['stage']}: {entry['status']} {entry['detail']}"[:160])
        self.shown = len(said)
        return dict(said[-1]) if said else {}

    def reached(self, stage: str) -> bool:
        return stage in self.state().get("reached", {})

    def answers(self, port: int) -> bool:
        """Whether something listens on the node."""
        probe = f"import socket; socket.create_connection(('{wire.SERVER}', {port}), 3)"
        return "refused" not in self.lab.run(
            sys.executable, "-c", f"try:\n {probe}\nexcept OSError: print('refused')"
        )

    def healthy(self) -> bool:
        return self.lab.kubectl("get", "--raw", "/healthz", "--request-timeout=5s", check=False) == "ok"

    def registered(self) -> bool:
        return "s1" in self.lab.kubectl("get", "nodes", "-o", "name", "--request-timeout=9s", check=False)


def test_slow_a_server_card_starts_the_cluster_its_kubeconfig_was_made_for(
    lab: Lab, secrets: Secrets
) -> None:
    card = Card(lab, "s1")
    with card.powered() as boot:
        card.reach("kubeadm init begins", lambda: card.reached("install"))
        card.reach("/healthz is ok, asked with the kubeconfig made before", card.healthy)
        card.reach("kubectl shows s1", card.registered)
        card.reach("ready and scrubbed", lambda: card.reached("scrubbed"))
        say(f"uptime at the end of each stage: {json.dumps(card.state()['reached'])}")

        check_node(lab)
        check_issued_keys_are_in_use(lab, secrets)
        listing = card.ssh("cd /etc/kubernetes/pki && sudo grep -r . $(sudo find . -type f)")
        for name, text in issued(secrets).items():
            lines = [line.partition(":")[2] for line in listing.splitlines() if line.startswith(f"./{name}:")]
            assert lines == text.split("\n")[: len(lines)], name
            assert len(lines) > 2, name
        assert card.ssh("ls -d /etc/pibake/kubeadm /boot/firmware/pibake-secrets.tar 2> /dev/null || :") == ""
        journal = card.ssh("sudo journalctl -b -o cat --no-pager")
        assert "kubeadm init ended well" in journal
        check_absent(secrets, journal.encode(), "journal")
        boot.off()
    check_absent(secrets, (lab.folder / "s1.console").read_bytes(), "console")
    check_boot_partition(lab.folder, "s1", secrets)


def test_slow_power_cuts_in_the_middle_of_kubeadm_init_do_no_harm(lab: Lab) -> None:
    card = Card(lab, "cut")
    with card.powered() as boot:
        # the worst moment for a program that looks at files: the kubelet has its certificate, and no API server is up
        card.reach("kubeadm init begins", lambda: card.reached("install"))
        card.reach("the kubelet listens", lambda: card.answers(10250))
        assert not card.healthy()
        assert "current" in card.ssh("sudo ls /var/lib/kubelet/pki")
        boot.off(hard=True)
    card.note("power cut")
    with card.powered() as boot:
        card.reach("kubeadm init begins again", lambda: card.reached("install"))
        card.reach("/healthz is ok", card.healthy)
        assert not card.reached("join")
        boot.off(hard=True)
    card.note("power cut")
    with card.powered() as boot:
        card.reach("ready and scrubbed", lambda: card.reached("scrubbed"))
        check_node(lab)
        cluster_info(lab)
        lab.kubectl("get", "-n", "kube-system", "daemonset/kube-proxy", "deployment/coredns")
        boot.off()


def check_node(lab: Lab) -> None:
    nodes = lab.nodes()
    assert nodes.keys() == {"s1"}
    assert {"type": "InternalIP", "address": wire.SERVER} in nodes["s1"]["status"]["addresses"]
    ready = [c["status"] for c in nodes["s1"]["status"]["conditions"] if c["type"] == "Ready"]
    assert ready == ["True"]
    assert [t["key"] for t in nodes["s1"]["spec"]["taints"]] == ["node-role.kubernetes.io/master"]


def cluster_info(lab: Lab) -> dict[str, str]:
    """Return what joining nodes are shown: it is there, and signed with the token on their cards."""
    data: dict[str, str] = lab.get("-n", "kube-public", "configmap", "cluster-info")["data"]
    assert [key for key in data if key.startswith("jws-kubeconfig-")]
    return data


def issued(secrets: Secrets) -> dict[str, str]:
    """Return what was issued, by its name below /etc/kubernetes/pki."""
    assert secrets.service_account
    found = {"sa.key": secrets.service_account.reveal(), "sa.pub": secrets.service_account_public}
    for name, pair in secrets.authorities.items():
        found |= {f"{name}.crt": pair.cert, f"{name}.key": pair.key.reveal()}
    return found


def check_issued_keys_are_in_use(lab: Lab, secrets: Secrets) -> None:
    said = lab.run("openssl", "s_client", "-connect", API, input="", check=False)
    pem = lab.folder / "served.crt"
    pem.write_text(said[said.index("-----BEGIN") :])
    check_signed(pem, secrets)
    served = x509.load_pem_x509_certificate(pem.read_bytes())
    names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "s1.lab.example" in names.get_values_for_type(x509.DNSName)
    assert wire.SERVER in map(str, names.get_values_for_type(x509.IPAddress))

    info = cluster_info(lab)
    token_id = secrets.tokens["bootstrap"].reveal().partition(".")[0]
    assert f"jws-kubeconfig-{token_id}" in info
    shown = yaml.safe_load(info["kubeconfig"])["clusters"][0]["cluster"]
    assert base64.b64decode(shown["certificate-authority-data"]).decode().strip() == secrets.ca.cert.strip()
    assert shown["server"] == f"https://{API}"

    accounts = lab.get("-n", "kube-system", "secrets")["items"]
    token = next(s["data"]["token"] for s in accounts if s["type"] == "kubernetes.io/service-account-token")
    signed, _, signature = base64.b64decode(token).decode().rpartition(".")
    public = serialization.load_pem_public_key(secrets.service_account_public.encode())
    assert isinstance(public, rsa.RSAPublicKey)
    raw = base64.urlsafe_b64decode(signature + "==")
    public.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


def check_signed(certificate: Path, secrets: Secrets) -> None:
    authority = certificate.with_name("issued-ca.crt")
    authority.write_text(secrets.ca.cert)
    run("openssl", "verify", "-CAfile", authority, certificate)


def check_absent(secrets: Secrets, content: bytes, where: str) -> None:
    for value in secrets.values():
        # a PEM file's lines stand alone, as in YAML
        longest = max(value.splitlines(), key=len)
        assert longest.encode() not in content, f"a secret of {len(value)} characters is in the {where}"


def check_boot_partition(folder: Path, disk: str, secrets: Secrets) -> None:
    """Look at the card as whoever finds it does."""
    manifest = json.loads((folder / "images/out/s1.manifest.json").read_text())
    boot = manifest["partitions"][0]
    raw = folder / f"{disk}.raw"
    run("qemu-img", "convert", "-O", "raw", folder / f"{disk}.qcow2", raw)
    assert "pibake-secrets" not in run("mdir", "-b", "-i", f"{raw}@@{boot['start']}", "::")
    with raw.open("rb") as file:
        file.seek(boot["start"])
        check_absent(secrets, file.read(boot["size"]), "boot partition")
    raw.unlink()


@pytest.fixture(scope="module")
def seed(folder: Path) -> Path:
    """The secrets of the server's card, unpacked."""
    target = folder / "seed"
    wire.unpack(folder / "images/out/s1.img", target)
    return target / "etc/pibake/kubeadm"


def test_kubeadm_lists_the_images_that_the_server_bundle_has(seed: Path) -> None:
    listed = run(KUBEADM, "config", "images", "list", "--config", seed / "init.yaml").split()
    brought = set()
    for archive in (wire.cache() / "server-bundle-1.20.2/images").iterdir():
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            assert member
            brought |= set(json.load(member)[0]["RepoTags"])
    assert set(listed) <= brought


def test_kubeadm_keeps_the_authorities_and_makes_the_rest(
    seed: Path, secrets: Secrets, tmp_path: Path
) -> None:
    pki = tmp_path / "pki"
    run("cp", "-r", seed / "pki", pki)
    documents = list(yaml.safe_load_all((seed / "init.yaml").read_text()))
    next(d for d in documents if d["kind"] == "ClusterConfiguration")["certificatesDir"] = str(pki)
    config = tmp_path / "init.yaml"
    config.write_text(yaml.safe_dump_all(documents))
    said = run(KUBEADM, "init", "phase", "certs", "all", "--config", config)
    assert said.count("Using existing") == len(secrets.authorities), said
    for name, text in issued(secrets).items():
        assert (pki / name).read_text().strip() == text.strip(), name
    check_signed(pki / "apiserver.crt", secrets)


@pytest.mark.parametrize("name", ["init.yaml", "join.yaml"])
def test_kubeadm_takes_the_documents_and_changes_nothing_in_them(
    seed: Path, name: str, tmp_path: Path
) -> None:
    new = tmp_path / "new.yaml"
    said = run(KUBEADM, "config", "migrate", "--old-config", seed / name, "--new-config", new)
    assert "unknown field" not in said
    migrated = {d["kind"]: d for d in yaml.safe_load_all(new.read_text())}
    for document in yaml.safe_load_all((seed / name).read_text()):
        if document["kind"] == "KubeletConfiguration":
            continue  # it is written by its own defaults
        check_within(document, migrated[document["kind"]], document["kind"])


def check_within(ours: Any, theirs: Any, where: str) -> None:
    """Check that all of ours is in theirs, which has the defaults too."""
    if isinstance(ours, dict):
        assert isinstance(theirs, dict), where
        for key, value in ours.items():
            assert key in theirs, f"{where}: kubeadm dropped {key}"
            check_within(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            check_within(one, other, f"{where}[{index}]")
    elif where.endswith(".ttl"):
        assert theirs == f"{ours}0m0s", where
    else:
        assert ours == theirs, where
