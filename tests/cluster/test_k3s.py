"""k3s' cards, from `pibake build --all` to nodes that have joined.

k3s itself cannot be had here, so on the cards a recorder stands in its place and does what k3s does on the wire
(k3s_recorder), against a card that is the first server, and against a server that runs natively (k3s_server.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.cluster import k3s_server
from tests.cluster.lab import GATEWAY, Lab, opened, powered, unpack, until
from tests.unit.test_kube_k3s import CONFIG, all_secrets, cards, may_have, needles
from tests.unit.test_kube_k3s import VIP as MANIFEST

from pibake import identity
from pibake.image import ext4, table
from pibake.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pibake.identity import Secrets

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]

HERE = Path(__file__).parent
RECORDER = HERE / "k3s_recorder"
STAGES = ["network", "clock", "endpoint", "install", "join", "ready", "scrubbed"]
VIP = "192.168.77.5"
PHONE = 8080
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
CLUSTER = f"""\
cluster: attic
domain: lab.example
network: {{subnet: 192.168.77.0/24, gateway: {GATEWAY}, dns: [{GATEWAY}]}}
defaults: {{overlays: [recorder], labels: {{site: attic}}}}
kubernetes:
  distribution: k3s
  version: v1.31.4+k3s1
  bundle: bundle
  airgap: false
  vip: {VIP}
  disable: [traefik, servicelb]
  phone_home: http://{GATEWAY}:{PHONE}/
users:
  - {{name: ops, ssh_keys: ["{KEY}"]}}
nodes:
  - {{hostname: s1, address: 192.168.77.11, role: server, taints: ["node-role.kubernetes.io/control-plane:NoSchedule"]}}
  - {{hostname: s2, address: 192.168.77.12, role: server}}
  - {{hostname: s3, address: 192.168.77.13, role: server}}
  - {{hostname: a1, address: 192.168.77.21, labels: {{disk: ssd}}, taints: ["storage=yes:NoSchedule", "slow:NoExecute"]}}
  - {{hostname: a2, address: 192.168.77.22}}
"""
NODES = ("s1", "s2", "s3", "a1", "a2")


# --- the recorder by itself, without any card ---


def test_the_recorder_reads_what_stands_on_cards(tmp_path: Path) -> None:
    for name, card in cards(tmp_path).items():
        read = k3s_server.parse_config(card.secret[CONFIG][0].decode())
        written = {key: "true" if value is True else value for key, value in card.config.items()}
        assert read == written
        if name == "s1":
            assert k3s_server.vip(card.public[MANIFEST][0].decode()) == "192.168.77.5"


@dataclass
class Native:
    """A server of the tests' own, and what it was asked."""

    server: k3s_server.Server
    root: Path
    asked: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    def lines(self) -> list[str]:
        """What was asked, a line each, with whether the asker said who it is."""
        return [
            f"{entry['method']} {entry['path']}{' +secret' if 'authorization' in entry['headers'] else ''}"
            f"{' ' + entry['user'] if entry['user'] else ''} {entry['status']}"
            for entry in self.asked
            if "method" in entry
        ]


def issued(cluster: str) -> Secrets:
    roles = {name: "server" if name.startswith("s") else "agent" for name in NODES}
    return identity.issue(identity.Wanted(cluster, "k3s", roles), None, datetime.now(UTC))


def server_root(root: Path, secrets: Secrets) -> Path:
    """Lay a first server's files below a folder."""
    identity.layout.pki(secrets).write(root / "var/lib/rancher/k3s")
    config = root / "etc/rancher/k3s/config.yaml"
    config.parent.mkdir(parents=True)
    config.touch(mode=0o600)
    token = secrets.tokens["agent"].reveal().rpartition(":")[2]
    config.write_text(
        f"node-name: s1\nnode-ip: 127.0.0.1\ntoken: {secrets.tokens['server'].reveal()}\nagent-token: {token}\n"
        f"tls-san:\n- {VIP}\n- s1.lab.example\n"
    )
    password(root, secrets.nodes["s1"].node_password.reveal())
    return root


def password(root: Path, text: str) -> None:
    path = root / "etc/rancher/node/password"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{text}\n")


def agent_root(root: Path, secrets: Secrets, url: str, token: str = "") -> Path:
    config = root / "etc/rancher/k3s/config.yaml"
    config.parent.mkdir(parents=True)
    config.touch(mode=0o600)
    config.write_text(
        f"node-name: a1\nnode-ip: 127.0.0.1\nnode-label:\n- disk=ssd\nnode-taint:\n- slow=yes:NoExecute\n"
        f"server: {url}\ntoken: {token or secrets.tokens['agent'].reveal()}\n"
    )
    password(root, secrets.nodes["a1"].node_password.reveal())
    return root


def recorder(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the recorder until it ends; one that stays is ended once it is ready."""
    env = {"PATH": os.environ["PATH"], "K3S_RECORDER_ROOT": str(root), "K3S_RECORDER_PORT": "0"}
    argv = [sys.executable, "-I", str(RECORDER), *words]
    said = ""
    with subprocess.Popen(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout
        for line in child.stdout:
            said += line
            if line.startswith("registered as "):
                child.terminate()
    return subprocess.CompletedProcess(argv, child.returncode, said, "")


@pytest.fixture(scope="module")
def ours() -> Secrets:
    return issued("ours")


@pytest.fixture
def native(tmp_path: Path, ours: Secrets) -> Iterator[Native]:
    root = server_root(tmp_path / "server", ours)
    asked: list[dict[str, Any]] = []
    server = k3s_server.native(root, ("127.0.0.1", 0), asked.append)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Native(server, root, asked)
    server.shutdown()
    server.server_close()
    thread.join()


JOINED = [
    "GET /cacerts 200",
    "GET /cacerts 200",
    "GET /v1-k3s/client-kubelet.crt +secret 200",
    "POST /api/v1/nodes system:node:a1 201",
    "PATCH /api/v1/nodes/a1/status system:node:a1 200",
]


def test_an_agent_compares_the_ca_before_it_says_who_it_is(
    tmp_path: Path, native: Native, ours: Secrets
) -> None:
    root = agent_root(tmp_path / "a1", ours, native.url)
    done = recorder(root, "agent")
    assert done.returncode == 0, done.stdout
    assert native.lines() == JOINED
    node = native.server.api.nodes["a1"]
    assert node["metadata"]["labels"] == {"disk": "ssd"}
    assert node["spec"]["taints"] == [{"key": "slow", "value": "yes", "effect": "NoExecute"}]
    for end in ("crt", "key"):
        assert (root / f"var/lib/rancher/k3s/agent/client-kubelet.{end}").stat().st_mode & 0o777 == 0o600


def test_an_agent_of_another_cluster_says_nothing_and_ends(tmp_path: Path, native: Native) -> None:
    other = issued("other")
    done = recorder(agent_root(tmp_path / "a1", other, native.url), "agent")
    assert done.returncode == 1
    assert "token CA hash does not match the Cluster CA certificate hash" in done.stdout
    assert native.lines() == JOINED[:2]


def test_a_wrong_password_is_refused(tmp_path: Path, native: Native, ours: Secrets) -> None:
    wrong = ours.tokens["agent"].reveal()[:-4] + "beef"
    done = recorder(agent_root(tmp_path / "a1", ours, native.url, wrong), "agent")
    assert (done.returncode, "401 Unauthorized" in done.stdout) == (1, True), done.stdout
    assert native.lines()[2:] == ["GET /v1-k3s/client-kubelet.crt +secret 401"]


def test_a_known_node_with_another_password_is_refused(tmp_path: Path, native: Native, ours: Secrets) -> None:
    root = agent_root(tmp_path / "a1", ours, native.url)
    assert recorder(root, "agent").returncode == 0
    assert recorder(root, "agent").returncode == 0  # the same again is the same node
    password(root, "0" * 32)
    done = recorder(root, "agent")
    assert done.returncode == 1
    assert "Node password rejected" in done.stdout
    assert native.lines()[-1] == "GET /v1-k3s/client-kubelet.crt +secret 403"


def test_an_agents_password_fetches_no_authorities(native: Native, ours: Secrets) -> None:
    asked = [
        k3s_server.Asked(
            "", "GET", "/v1-k3s/server-bootstrap", {"authorization": f"Basic {encoded}"}, "", b""
        )
        for token in (ours.tokens["agent"], ours.tokens["server"])
        for encoded in [basic(*token.reveal().split(":")[2:])]
    ]
    assert [native.server.api.answer(one)[0] for one in asked] == [401, 200]


def basic(user: str, secret: str) -> str:
    import base64

    return base64.b64encode(f"{user}:{secret}".encode()).decode()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tls: (tls / "etcd/peer-ca.crt").unlink(), "peer-ca.crt is missing"),
        (lambda tls: (tls / "service.key").chmod(0o644), "service.key: mode 100644"),
        (
            lambda tls: (tls / "client-ca.key").write_text((tls / "server-ca.key").read_text()),
            "is not the key of",
        ),
        (
            lambda tls: (tls / "server-ca.crt").write_bytes((tls / "server-ca.crt").read_bytes() + b"\n"),
            "the token is not for this server's CA",
        ),
    ],
    ids=["missing", "readable", "mismatch", "hash"],
)
def test_a_server_looks_its_authorities_over(
    tmp_path: Path, ours: Secrets, change: Callable[[Path], object], problem: str
) -> None:
    root = server_root(tmp_path, ours)
    change(root / k3s_server.TLS)
    done = recorder(root, "server")
    assert done.returncode == 1
    assert problem in done.stdout


def test_a_first_server_comes_up_with_nothing_but_its_card(tmp_path: Path, ours: Secrets) -> None:
    root = server_root(tmp_path, ours)
    done = recorder(root, "server")
    assert done.returncode == 0, done.stdout
    log = (root / "var/lib/rancher/k3s/server/requests.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in log] == [200, 200, 200, 201, 200]


def test_a_further_server_fetches_the_authorities_it_has_none_of(
    tmp_path: Path, native: Native, ours: Secrets
) -> None:
    root = server_root(tmp_path / "s2", ours)
    shutil.rmtree(root / "var")
    config = root / "etc/rancher/k3s/config.yaml"
    config.write_text(config.read_text().replace("s1", "s2", 1) + f"server: {native.url}\n")
    password(root, ours.nodes["s2"].node_password.reveal())
    done = recorder(root, "server")
    assert done.returncode == 0, done.stdout
    assert native.lines() == [
        "GET /cacerts 200",
        "GET /cacerts 200",
        "GET /v1-k3s/server-bootstrap +secret 200",
    ]
    tls = [folder / k3s_server.TLS for folder in (root, native.root)]
    for path in tls[1].rglob("*.*"):
        fetched = tls[0] / path.relative_to(tls[1])
        assert (fetched.read_bytes(), fetched.stat().st_mode & 0o777) == (path.read_bytes(), 0o600)


def test_the_recorder_tells_its_version(tmp_path: Path) -> None:
    assert recorder(tmp_path, "--version").stdout.startswith("k3s version v1.31.4+k3s1")


# --- cards ---


@dataclass
class Ended:
    """A card after its machine was switched off: its report, and what is left on its disk."""

    name: str
    said: dict[str, Any]
    seconds: float
    folder: Path

    @property
    def join(self) -> dict[str, Any]:
        found = self.said["report"]["join"]
        assert isinstance(found, dict)
        return found

    def show(self) -> None:
        """Print how long the stages took."""
        reached = self.join["reached"]
        times = [self.join["started"], *reached.values()]
        steps = ", ".join(f"{s} {b - a:.1f}" for s, a, b in zip(reached, times, times[1:], strict=False))
        print(
            f"\n{self.name}: scrubbed {times[-1]:.1f} s after its kernel started ({self.seconds:.1f} s after power-on);"
            f" pibake-join from {times[0]:.1f} s: {steps}"
        )

    @property
    def raw(self) -> Path:
        """The disk as it is now, every byte."""
        raw = self.folder / f"{self.name}.raw"
        if not raw.exists():
            tool("qemu-img", "convert", "-O", "raw", self.folder / f"{self.name}.qcow2", raw)
        return raw

    def boot_partition(self) -> Path:
        target = self.folder / f"{self.name}.fat"
        first = min(table.read(self.raw).partitions, key=lambda part: part.start)
        with self.raw.open("rb") as source, target.open("wb") as copy:
            source.seek(first.start)
            copy.write(source.read(first.size))
        return target

    def folder_of_root(self, path: str) -> Path:
        """Copy a folder of the root file system out."""
        target = self.folder / f"{self.name}-files"
        target.mkdir(exist_ok=True)
        start = ext4.root_partition(self.raw).start
        tool("debugfs", "-R", f"rdump {path} {target}", f"{self.raw}?offset={start}")
        found = target / Path(path).name
        assert any(found.rglob("*")), f"{path} is empty"
        return found

    def file_of_root(self, path: str) -> str:
        data = ext4.read_file(self.raw, ext4.root_partition(self.raw).start, path)
        assert data is not None, path
        return data.decode()


def tool(*argv: str | Path, fine: tuple[int, ...] = (0,)) -> str:
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run([str(word) for word in argv], capture_output=True, check=False, env=env)
    assert done.returncode in fine, done.stderr.decode()
    return done.stdout.decode("utf-8", "replace")


def shut(child: subprocess.Popen[Any]) -> None:
    """Close the pipe from a process that nobody listens to any more; pytest ends badly over what is left open."""
    if child.stdout:
        child.stdout.close()


def holding(secrets: Secrets, where: Path) -> set[str]:
    """Return which secrets occur anywhere in a file or a folder."""
    found = set()
    patterns = where.parent / f"{where.name}.patterns"
    try:
        values = {what: needles(text) for what, text in all_secrets(secrets).items()}
        patterns.write_bytes(b"\n".join(needle for group in values.values() for needle in group))
        # "lines" that end with NUL: of a disk that is mostly empty, others would not fit into memory
        seen = set(tool("grep", "-razhoF", "-f", patterns, where, fine=(0, 1)).split("\0"))
        found = {what for what, group in values.items() if any(n.decode() in seen for n in group)}
    finally:
        patterns.unlink()
    return found


@dataclass
class Site:
    """The wire, the images, and the cluster's secrets."""

    lab: Lab
    secrets: Secrets
    built: float

    def boot(self, name: str, during: Callable[[], object] = lambda: None) -> Ended:
        """Boot a card until it reports; `during` runs while it is on its way."""
        with powered(self.lab, name, self.lab.tap(f"tap-{name}")) as boot:
            during()
            said = boot.report()
            seconds = time.monotonic() - boot.started
            boot.off()
        shut(boot.child)
        return self.ended(name, said, seconds)

    def ended(self, name: str, said: dict[str, Any], seconds: float) -> Ended:
        made = Ended(name, said, seconds, self.lab.folder)
        made.show()
        return made

    def told(self, name: str) -> list[dict[str, Any]]:
        """What a node's pibake-join has posted so far."""
        lines = (self.lab.folder / "phone.log").read_text().splitlines()
        states = [json.loads(line)["state"] for line in lines if line.endswith("}")]
        return [state for state in states if state["node"] == name]

    def requests(self, log: str) -> list[dict[str, Any]]:
        lines = (self.lab.folder / log).read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def serve(self, log: str, root: Path) -> subprocess.Popen[bytes]:
        """Run a server natively, at the VIP."""
        child = self.lab.start(log, sys.executable, HERE / "k3s_server.py", "serve", root, VIP)
        until(lambda: VIP in self.lab.run("ss", "-Htln", f"sport = :{k3s_server.PORT}"), 20, f"{log} listens")
        return child


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, debian_13: Path) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("attic")
    (folder / "cluster.yaml").write_text(CLUSTER)
    placeholder = ext4.read_file(debian_13, ext4.root_partition(debian_13).start, "usr/bin/true")
    assert placeholder
    overlay = folder / "overlays/recorder/usr/local"
    for path, content, mode in (
        (folder / "bundle/bin/k3s", placeholder, 0o755),
        (overlay / "bin/k3s", RECORDER.read_bytes(), 0o755),
        (overlay / "lib/k3s-recorder/k3s_server.py", (HERE / "k3s_server.py").read_bytes(), 0o644),
    ):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        path.chmod(mode)
    with opened(folder) as lab:
        shut(lab.holder)
        lab.start("phone", sys.executable, HERE / "k3s_server.py", "phone", GATEWAY, str(PHONE))
        begun = time.monotonic()
        # in the namespace there is no way out: what is built is built from the bundle and the cache
        lab.pibake("build", "--all")
        built = time.monotonic() - begun
        print(f"\nbuild --all: {built:.1f} s for {len(NODES)} cards")
        yield Site(lab, Vault(folder / "secrets").existing(), built)
    for large in (
        *folder.glob("images/out/*.img"),
        *folder.glob("*.qcow2"),
        *folder.glob("*.raw"),
        *folder.glob("*.fat"),
    ):
        large.unlink()


@pytest.fixture(scope="module")
def attic(site: Site) -> dict[str, Ended]:
    """A first server that stays up, and an agent that joins it."""
    with powered(site.lab, "s1", site.lab.tap("tap-s1")) as server:
        said = server.report()
        first = site.ended("s1", said, time.monotonic() - server.started)
        agent = site.boot("a1")
        server.off()
    shut(server.child)
    return {"s1": first, "a1": agent}


@dataclass
class Impostor:
    """A card that first met another cluster at its server's address, and then its own."""

    card: Ended
    refused: dict[str, Any]


@pytest.fixture(scope="module")
def impostor(site: Site) -> Iterator[Impostor]:
    folder, lab = site.lab.folder, site.lab
    unpack(folder / "images/out/s1.img", folder / "s1-root")
    other = server_root(folder / "other-root", issued("other"))
    lab.run("ip", "address", "add", f"{VIP}/24", "dev", "wire")
    refused: list[dict[str, Any]] = []

    def change() -> None:
        wrong = site.serve("impostor", other)

        def failed() -> list[dict[str, Any]]:
            return [s for s in site.told("a2") if (s["stage"], s["status"]) == ("endpoint", "failed")]

        refused.append(until(failed, 600, "a2 refuses the impostor")[0])
        wrong.terminate()
        wrong.wait(10)
        site.serve("server", folder / "s1-root")

    with contextlib.ExitStack() as stack:
        stack.callback(lab.run, "ip", "address", "del", f"{VIP}/24", "dev", "wire")
        yield Impostor(site.boot("a2", change), refused[0])


def healthy(card: Ended) -> None:
    assert card.said["healthy"], [check for check in card.said["checks"] if not check["ok"]]
    assert list(card.join["reached"]) == STAGES
    assert list(card.join["reached"].values()) == sorted(card.join["reached"].values())
    assert (card.join["stage"], card.join["status"]) == ("scrubbed", "ok")


def test_all_cards_of_a_cluster_are_built_from_a_bundle_and_are_private(site: Site) -> None:
    out = site.lab.folder / "images/out"
    assert {path.name for path in out.glob("*.img")} == {f"{name}.img" for name in NODES}
    for name in NODES:
        assert (out / f"{name}.img").stat().st_mode & 0o077 == 0
        assert holding(site.secrets, out / f"{name}.manifest.json") == set()


def test_a_card_holds_no_secret_that_its_node_does_not_need(site: Site) -> None:
    for name in NODES:
        assert holding(site.secrets, site.lab.folder / f"images/out/{name}.img") == may_have(name)


def test_the_first_server_starts_from_its_card_alone(attic: dict[str, Ended]) -> None:
    healthy(attic["s1"])
    own = attic["s1"].said["report"]["addresses"]
    assert f"{VIP}/32" in [address for found in own.values() for address in found]


def test_an_agent_joins_a_first_server_that_is_a_card_too(attic: dict[str, Ended]) -> None:
    healthy(attic["a1"])


def test_the_first_server_was_told_no_secret_before_its_ca_was_known(
    site: Site, attic: dict[str, Ended]
) -> None:
    log = attic["s1"].file_of_root("var/lib/rancher/k3s/server/requests.jsonl")
    asked = [entry for entry in map(json.loads, log.splitlines()) if entry["client"] == "192.168.77.21"]
    paths = [(entry["path"], "authorization" in entry["headers"]) for entry in asked]
    # pibake-join looks at the CA first, then k3s does, and only then is there a password
    assert paths[:5] == [("/cacerts", False)] * 4 + [("/v1-k3s/client-kubelet.crt", True)]
    assert not any(said for path, said in paths if path != "/v1-k3s/client-kubelet.crt")
    (certificate,) = (entry for entry in asked if entry["path"] == "/v1-k3s/client-kubelet.crt")
    assert certificate["headers"]["k3s-node-name"] == "a1"
    assert certificate["headers"]["k3s-node-password"] == site.secrets.nodes["a1"].node_password.reveal()
    registered = json.loads(next(entry["body"] for entry in asked if entry["method"] == "POST"))
    assert registered["metadata"] == {"name": "a1", "labels": {"disk": "ssd", "site": "attic"}}
    assert registered["spec"]["taints"] == [
        {"key": "storage", "value": "yes", "effect": "NoSchedule"},
        {"key": "slow", "value": "", "effect": "NoExecute"},
    ]


def test_nodes_phone_home_at_every_stage(site: Site, attic: dict[str, Ended]) -> None:
    for name in attic:
        reached = {state["stage"] for state in site.told(name) if state["status"] == "ok"}
        assert reached == set(STAGES)


def test_a_card_refuses_another_cluster_and_keeps_its_token_to_itself(site: Site, impostor: Impostor) -> None:
    assert "another cluster; not joining" in impostor.refused["detail"]
    asked = site.requests("impostor.log")
    assert asked
    assert {(entry["method"], entry["path"]) for entry in asked if "method" in entry} == {("GET", "/cacerts")}
    assert not [entry for entry in asked if "authorization" in entry.get("headers", {})]
    assert holding(site.secrets, site.lab.folder / "impostor.log") == set()


def test_it_goes_on_asking_and_joins_its_own_cluster_when_that_is_there(
    site: Site, impostor: Impostor
) -> None:
    healthy(impostor.card)
    assert {state["stage"] for state in site.told("a2") if state["status"] == "ok"} == set(STAGES)
    asked = [entry for entry in site.requests("server.log") if "method" in entry]
    assert [entry["path"] for entry in asked[:5]] == ["/cacerts"] * 4 + ["/v1-k3s/client-kubelet.crt"]


@pytest.mark.parametrize("name", ["s1", "a1", "a2"])
def test_after_joining_a_reader_of_the_card_finds_no_secret(
    site: Site, attic: dict[str, Ended], impostor: Impostor, name: str
) -> None:
    card = {**attic, "a2": impostor.card}[name]
    assert holding(site.secrets, card.boot_partition()) == set()
    for folder in ("/var/lib/cloud", "/var/log"):
        assert holding(site.secrets, card.folder_of_root(folder)) == set()
    # and nowhere on the disk, in use or not, is what belongs to others
    seen = holding(site.secrets, card.raw)
    if name == "s1":
        seen -= {"node password of a1"}  # the recorder writes down what it was asked
    assert seen == may_have(name)
