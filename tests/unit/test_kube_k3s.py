"""What k3s finds on a card, against the rules of k3s itself.

The rules are written down here once more, from k3s' documentation and its sources (pkg/clientaccess/token.go,
pkg/configfilearg, contrib/util/generate-custom-ca-certs.sh), with none of pibake's own code.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import re
import tarfile
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.seeding import on

from pibake import config, identity, kube, resources
from pibake.identity import Secrets, Wanted
from pibake.plan import plan
from pibake.secret import Secret
from pibake.seed import Seed, seed
from pibake.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
HASH = "$6$saltsalt$" + "hunter2" * 12 + "xx"
TLS = "var/lib/rancher/k3s/server/tls"
CONFIG = "etc/rancher/k3s/config.yaml"
PASSWORD = "etc/rancher/node/password"
REGISTRIES = "etc/rancher/k3s/registries.yaml"
VIP = "var/lib/rancher/k3s/server/manifests/kube-vip.yaml"
CLUSTER = f"""\
cluster: lab
domain: lab.example
defaults: {{labels: {{site: attic}}}}
network: {{subnet: 192.168.77.0/24, gateway: 192.168.77.1}}
kubernetes:
  distribution: k3s
  version: v1.31.4+k3s1
  vip: 192.168.77.5
  sans: [k8s.example.com]
  pod_cidr: 10.52.0.0/16
  service_cidr: 10.53.0.0/16
  disable: [traefik, kube-proxy, servicelb, network-policy, cloud-controller, helm-controller]
  snapshotter: native
users:
  - {{name: ops, ssh_keys: ["{KEY}"], password_hash: "{HASH}"}}
nodes:
  - {{hostname: s1, address: 192.168.77.11, role: server, taints: ["node-role.kubernetes.io/control-plane:NoSchedule"]}}
  - {{hostname: s2, address: 192.168.77.12, role: server}}
  - {{hostname: s3, address: 192.168.77.13, role: server}}
  - {{hostname: a1, address: 192.168.77.21, labels: {{disk: ssd}}, taints: ["storage=yes:NoSchedule", "slow:NoExecute"]}}
  - {{hostname: a2, address: 192.168.77.22}}
"""
NAMES = ("s1", "s2", "s3", "a1", "a2")
SERVERS = ("s1", "s2", "s3")
AGENTS = ("a1", "a2")
FURTHER = ("s2", "s3")
DATASTORE = "postgres://k3s:s3cr3t-of-the-database@192.168.77.9:5432/k3s"
MIRRORS = (
    'mirrors: {docker.io: {endpoint: ["https://mirror.lab.example"]}}\n'
    "configs: {mirror.lab.example: {auth: {username: puller, password: s3cr3t-of-the-mirror}}}\n"
)


@functools.cache
def issued() -> Secrets:
    roles = {name: "server" if name.startswith("s") else "agent" for name in NAMES}
    return identity.issue(Wanted("lab", "k3s", roles), None, NOW)


@dataclass(frozen=True)
class Card:
    """What stands on a card, as a reader of the card sees it."""

    seed: Seed

    @functools.cached_property
    def secret(self) -> Mapping[str, tuple[bytes, int, str]]:
        """The files of the secrets archive: content, mode, owner."""
        with tarfile.open(fileobj=io.BytesIO(self.seed.tree["pibake-secrets.tar"].data)) as archive:
            assert all(entry.isfile() for entry in archive)
            return {
                entry.name: (archive.extractfile(entry).read(), entry.mode, f"{entry.uname}:{entry.gname}")  # type: ignore[union-attr]
                for entry in archive
            }

    @functools.cached_property
    def public(self) -> Mapping[str, tuple[bytes, str]]:
        """The files that cloud-init writes: content and mode."""
        written = yaml.safe_load(self.seed.tree["user-data"].data)["write_files"]
        return {
            entry["path"].lstrip("/"): (base64.b64decode(entry["content"]), entry["permissions"])
            for entry in written
        }

    @property
    def config(self) -> dict[str, Any]:
        loaded = yaml.safe_load(self.secret[CONFIG][0])
        assert isinstance(loaded, dict)
        return loaded

    def readable(self, *, archive: bool = True) -> Iterator[bytes]:
        """Everything on the card that can be read, encoded or not."""
        for path, file in self.seed.tree:
            if archive or path != "pibake-secrets.tar":
                yield file.data
        for content, _ in self.public.values():
            yield content


def cards(
    folder: Path, text: str = CLUSTER, extras: kube.Extras | None = None, *, report: str = ""
) -> dict[str, Card]:
    path = folder / "cluster.yaml"
    path.write_text(text)
    made = {}
    for node in plan(config.load(path, bases=("debian-13",))).nodes:
        keys = {user.name: [key.text for key in user.ssh_keys] for user in node.users}
        made[node.hostname] = Card(
            seed(
                replace(node, report=report), keys, Tree(), secrets=issued(), extras=extras or kube.Extras(),
                **on("root=LABEL=writable"), epoch=int(NOW.timestamp()),
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Card]:
    """The cards of three servers with etcd and two agents."""
    return cards(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Card]:
    """The same with two servers on an external datastore, and a mirror with a password."""
    folder = tmp_path_factory.mktemp("external")
    (folder / "datastore.url").write_text(f"{DATASTORE}\n")
    (folder / "registries.yaml").write_text(MIRRORS)
    text = CLUSTER.replace(
        "  vip: 192.168.77.5\n", "  datastore: datastore.url\n  registries: registries.yaml\n"
    )
    text = re.sub(r".*hostname: s3.*\n", "", text)
    return cards(folder, text, kube.Extras(Secret(f"{DATASTORE}\n"), Secret(MIRRORS)))


def test_on_the_wire_a_node_reports_to_its_server_unless_cluster_yaml_names_another(tmp_path: Path) -> None:
    url = "http://192.168.77.2:8069/report"

    def told(text: str) -> str:
        (card,) = [card for name, card in cards(tmp_path, text, report=url).items() if name == "a1"]
        return str(json.loads(card.public["etc/pibake/node.json"][0])["phone_home"])

    assert told(CLUSTER) == url
    named = CLUSTER.replace("  vip: ", "  phone_home: http://192.168.77.9/x\n  vip: ")
    assert told(named) == "http://192.168.77.9/x"


# --- k3s' rules, once more ---


def cacerts(card: Card) -> bytes:
    """What a server answers to GET /cacerts: its server-ca.crt, byte for byte."""
    return card.secret[f"{TLS}/server-ca.crt"][0]


def parse_token(token: str) -> tuple[str, str, str]:
    """Return CA hash, user and password, as parseToken in pkg/clientaccess/token.go takes them apart."""
    assert token.startswith("K10")
    ca_hash, double, credentials = token[3:].partition("::")
    assert double
    assert len(ca_hash) == 64
    user, colon, password = credentials.partition(":")
    assert colon
    assert password
    return ca_hash, user, password


def node_password_of(config: Mapping[str, Any]) -> str:
    """Return what a server lets agents in with: getNodePass in pkg/daemons/control/deps."""
    if "agent-token" not in config:
        return parse_token(config["token"])[2]
    given = str(config["agent-token"])
    return parse_token(given)[2] if given.startswith("K10") else given


def arguments(config: Mapping[str, Any]) -> list[str]:
    """Return the command line a config.yaml stands for: pkg/configfilearg."""
    found = []
    for key, value in config.items():
        for one in value if isinstance(value, list) else [value]:
            text = str(one).lower() if isinstance(one, bool) else str(one)
            found.append(f"--{key}={text}")
    return found


GO_NUMBER = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+|[-+]?[0-9][0-9_]*"
)
"""What gopkg.in/yaml.v2 takes for a number when it is not quoted (resolve.go)."""


def plain_scalars(text: str) -> Iterator[str]:
    """Yield the values that stand in YAML without quotes."""
    for event in yaml.parse(text):
        if isinstance(event, yaml.ScalarEvent) and event.style is None:
            yield event.value


FLAGS = {
    "agent": {"node-name", "node-ip", "node-label", "node-taint", "snapshotter", "server", "token"},
    "server": {
        "node-name", "node-ip", "node-label", "node-taint", "snapshotter", "server", "token", "agent-token",
        "tls-san", "cluster-cidr", "service-cidr", "cluster-dns", "write-kubeconfig-mode", "datastore-endpoint",
        "cluster-init", "disable", "disable-kube-proxy", "disable-network-policy", "disable-cloud-controller",
        "disable-helm-controller",
    },
}  # fmt: skip
"""Long flags of `k3s agent` and `k3s server`; one that is not known ends k3s with an error."""
PACKAGED = {"coredns", "servicelb", "traefik", "local-storage", "metrics-server", "runtimes"}
"""What `--disable` takes (k3s documentation, "Managing Packaged Components")."""
ALIKE = {
    "agent-token",
    "cluster-cidr",
    "service-cidr",
    "cluster-dns",
    "disable",
    "tls-san",
    "datastore-endpoint",
}
"""What has to be the same on all servers, or one that joins is refused (k3s documentation, "Critical configuration")."""


# --- configuration ---


@pytest.mark.parametrize("name", NAMES)
def test_a_config_has_flags_only_that_k3s_knows(lab: dict[str, Card], name: str) -> None:
    found = lab[name].config
    assert found.keys() <= FLAGS["server" if name in SERVERS else "agent"]
    assert PACKAGED.issuperset(found.get("disable", []))


def test_the_command_line_of_the_first_server_is_this(lab: dict[str, Card]) -> None:
    found = arguments(lab["s1"].config)
    ca_hash = hashlib.sha256(cacerts(lab["s1"])).hexdigest()
    tokens = [word for word in found if re.match(r"--(agent-)?token=", word)]
    assert re.fullmatch(rf"--token=K10{ca_hash}::server:[0-9a-f]{{32}}", tokens[0])
    assert re.fullmatch(r"--agent-token=[0-9a-f]{32}", tokens[1])
    assert sorted(set(found) - set(tokens)) == sorted([
        "--node-name=s1",
        "--node-ip=192.168.77.11",
        "--node-label=site=attic",
        "--node-taint=node-role.kubernetes.io/control-plane:NoSchedule",
        "--snapshotter=native",
        *(f"--tls-san={name}" for name in (
            "192.168.77.5", "192.168.77.11", "s1", "s1.lab.example", "192.168.77.12", "s2", "s2.lab.example",
            "192.168.77.13", "s3", "s3.lab.example", "k8s.example.com",
        )),
        "--cluster-cidr=10.52.0.0/16",
        "--service-cidr=10.53.0.0/16",
        "--cluster-dns=10.53.0.10",
        "--write-kubeconfig-mode=0600",
        "--cluster-init=true",
        "--disable=traefik",
        "--disable=servicelb",
        "--disable-kube-proxy=true",
        "--disable-network-policy=true",
        "--disable-cloud-controller=true",
        "--disable-helm-controller=true",
    ])  # fmt: skip


def test_a_further_server_joins_the_first_at_its_own_address_and_starts_no_cluster(
    lab: dict[str, Card],
) -> None:
    for name in FURTHER:
        found = lab[name].config
        # nobody holds the VIP before the first server runs kube-vip
        assert found["server"] == "https://192.168.77.11:6443"
        assert "cluster-init" not in found
        assert found["token"] == lab["s1"].config["token"]
        assert "node-taint" not in found


def test_servers_agree_in_all_that_k3s_compares(lab: dict[str, Card], external: dict[str, Card]) -> None:
    for made, others in ((lab, FURTHER), (external, ("s2",))):
        first = made["s1"].config
        for name in others:
            found = made[name].config
            for key in ALIKE | {key for key in found if key.startswith("disable-")}:
                assert found.get(key) == first.get(key), (name, key)


def test_the_command_line_of_an_agent_is_this(lab: dict[str, Card]) -> None:
    found = arguments(lab["a1"].config)
    ca_hash = hashlib.sha256(cacerts(lab["s1"])).hexdigest()
    token = next(word for word in found if word.startswith("--token="))
    assert re.fullmatch(rf"--token=K10{ca_hash}::node:[0-9a-f]{{32}}", token)
    assert sorted(set(found) - {token}) == sorted([
        "--node-name=a1",
        "--node-ip=192.168.77.21",
        "--node-label=disk=ssd",
        "--node-label=site=attic",
        "--node-taint=storage=yes:NoSchedule",
        "--node-taint=slow:NoExecute",
        "--snapshotter=native",
        "--server=https://192.168.77.5:6443",
    ])  # fmt: skip


def test_the_default_snapshotter_and_no_labels_need_no_flags(tmp_path: Path) -> None:
    text = CLUSTER.replace("  snapshotter: native\n", "").replace("defaults: {labels: {site: attic}}\n", "")
    found = cards(tmp_path, text)["a2"].config
    assert found.keys() == {"node-name", "node-ip", "server", "token"}


def test_a_single_server_starts_no_etcd(tmp_path: Path) -> None:
    text = re.sub(r".*hostname: (s2|s3).*\n", "", CLUSTER)
    found = cards(tmp_path, text)["s1"].config
    assert not found.keys() & {"cluster-init", "server", "datastore-endpoint"}


def test_with_an_external_datastore_servers_meet_there_and_nowhere_else(external: dict[str, Card]) -> None:
    for name in ("s1", "s2"):
        found = external[name].config
        assert found["datastore-endpoint"] == DATASTORE
        assert not found.keys() & {"cluster-init", "server"}
    assert external["a1"].config["server"] == "https://192.168.77.11:6443"


def test_an_ipv6_server_is_joined_at_an_address_in_brackets(tmp_path: Path) -> None:
    text = CLUSTER.replace("192.168.77.0/24", "fd00:77::/64").replace("192.168.77.", "fd00:77::")
    text = text.replace("10.52.0.0/16", "fd00:52::/56").replace("10.53.0.0/16", "fd00:53::/112")
    made = cards(tmp_path, text)
    assert made["s2"].config["server"] == "https://[fd00:77::11]:6443"
    assert made["a1"].config["server"] == "https://[fd00:77::5]:6443"
    assert made["s1"].config["cluster-dns"] == "fd00:53::a"


@pytest.mark.parametrize(
    "name",
    [
        "no",
        "0x10",
        "077",
        "2026-11-22",
        *("1e3", "0o17", "12e45"),
    ],
)
def test_a_hostname_that_looks_like_a_number_stays_a_name_for_gos_yaml(tmp_path: Path, name: str) -> None:
    text = CLUSTER.replace("hostname: a2", f"hostname: '{name}'")
    roles = dict.fromkeys((name,), "agent")
    made = identity.issue(Wanted("lab", "k3s", roles), issued(), NOW)
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    node = plan(config.load(path, bases=("debian-13",))).node(name)
    rendered = kube.render(node, made, kube.Extras()).secret[CONFIG].data.decode()
    assert yaml.safe_load(rendered)["node-name"] == name
    assert [text for text in plain_scalars(rendered) if GO_NUMBER.fullmatch(text)] == []


# --- tokens ---


def test_tokens_name_the_hash_of_the_file_that_cacerts_serves(lab: dict[str, Card]) -> None:
    served = cacerts(lab["s1"])
    assert served.count(b"BEGIN CERTIFICATE") == 1  # so the hash is that of the file, and not of a root's DER
    for name in NAMES:
        ca_hash, user, _ = parse_token(lab[name].config["token"])
        assert ca_hash == hashlib.sha256(served).hexdigest()
        assert user == ("server" if name in SERVERS else "node")
        assert lab[name].public["etc/pibake/ca.crt"][0] == served


def test_an_agent_is_let_in_by_what_it_has_and_not_as_a_server(lab: dict[str, Card]) -> None:
    for agent in AGENTS:
        password = parse_token(lab[agent].config["token"])[2]
        for server in SERVERS:
            assert node_password_of(lab[server].config) == password
            assert parse_token(lab[server].config["token"])[2] != password


def test_every_node_has_a_password_of_its_own_that_stays(
    lab: dict[str, Card], external: dict[str, Card]
) -> None:
    found = {name: lab[name].secret[PASSWORD][0] for name in NAMES}
    assert len(set(found.values())) == len(NAMES)
    for name, content in found.items():
        # k3s makes 16 bytes in hex itself, and takes white space off what it reads
        assert re.fullmatch(rb"[0-9a-f]{32}\n", content)
        if name in external:
            assert external[name].secret[PASSWORD][0] == content


# --- files ---


def test_the_first_server_has_these_files_of_authorities_and_no_others(lab: dict[str, Card]) -> None:
    names = [
        f"{kind}.{end}"
        for kind in ("server-ca", "client-ca", "request-header-ca", "etcd/peer-ca", "etcd/server-ca")
        for end in ("crt", "key")
    ]
    wanted = {f"{TLS}/{name}" for name in [*names, "service.key"]}
    assert {path for path in lab["s1"].secret if path.startswith("var/")} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_secret_files_are_for_root_alone(lab: dict[str, Card], external: dict[str, Card], name: str) -> None:
    for made in (lab, external):
        for path, (_, mode, owner) in made[name].secret.items() if name in made else ():
            public = path.endswith((".crt", ".pub"))
            assert (mode, owner) == (0o644 if public else 0o600, "root:root"), path


def test_nobody_but_the_first_server_has_any_authority(
    lab: dict[str, Card], external: dict[str, Card]
) -> None:
    for made in (lab, external):
        for name in made.keys() - {"s1"}:
            own = {path for path in made[name].secret if not path.startswith("etc/ssh/")}
            extra = {REGISTRIES} if made is external else set()
            assert own == {CONFIG, PASSWORD, "etc/pibake/passwords"} | extra


@pytest.mark.parametrize(
    "name", ["server-ca", "client-ca", "request-header-ca", "etcd/peer-ca", "etcd/server-ca"]
)
def test_authorities_are_as_k3s_own_script_makes_them(lab: dict[str, Card], name: str) -> None:
    cert = x509.load_pem_x509_certificate(lab["s1"].secret[f"{TLS}/{name}.crt"][0])
    pem = lab["s1"].secret[f"{TLS}/{name}.key"][0]
    key = serialization.load_pem_private_key(pem, None)
    assert pem.startswith(b"-----BEGIN EC PRIVATE KEY-----\n")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    assert cert.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)
    assert cert.issuer == cert.subject
    assert cert.signature_hash_algorithm
    key.public_key().verify(
        cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(cert.signature_hash_algorithm)
    )
    common = cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    assert common == f"k3s-{name.replace('/', '-')}@{int(NOW.timestamp())}"
    constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, True)
    usage = cert.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    own = cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == own
    with warnings.catch_warnings():  # Debian 12's has no ..._utc yet
        warnings.simplefilter("ignore")
        begin, end = cert.not_valid_before, cert.not_valid_after
    assert begin.replace(tzinfo=UTC) <= NOW - timedelta(hours=23)  # a board's clock may be behind
    assert end.replace(tzinfo=UTC) >= NOW + timedelta(days=3649)


def test_the_authorities_are_five_different_ones(lab: dict[str, Card]) -> None:
    keys = {content for path, (content, _, _) in lab["s1"].secret.items() if path.endswith("-ca.key")}
    assert len(keys) == 5


def test_the_service_account_key_is_rsa_in_the_form_k3s_reads(lab: dict[str, Card]) -> None:
    pem = lab["s1"].secret[f"{TLS}/service.key"][0]
    key = serialization.load_pem_private_key(pem, None)
    assert pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size >= 2048


def test_the_registries_file_is_the_users_own_and_a_secret(
    lab: dict[str, Card], external: dict[str, Card]
) -> None:
    for card in external.values():
        assert card.secret[REGISTRIES][0] == MIRRORS.encode()
        assert REGISTRIES not in card.public
    assert not any(REGISTRIES in card.secret for card in lab.values())


@pytest.mark.parametrize(("unit", "part"), [("k3s.service", "server"), ("k3s-agent.service", "agent")])
def test_the_unit_runs_what_k3s_installer_would(unit: str, part: str) -> None:
    path = resources.path("overlays", "k3s", "etc/systemd/system") / unit
    lines = path.read_text().splitlines()
    wanted = f"""\
Wants=network-online.target
After=network-online.target
Type=notify
EnvironmentFile=-/etc/default/%N
EnvironmentFile=-/etc/sysconfig/%N
EnvironmentFile=-/etc/systemd/system/{unit}.env
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s {part}
WantedBy=multi-user.target
""".splitlines()
    assert [line for line in wanted if line not in lines] == []


# --- kube-vip ---


def test_kube_vip_comes_with_the_first_server_only_and_only_for_a_vip(
    lab: dict[str, Card], external: dict[str, Card]
) -> None:
    assert [name for name in NAMES if VIP in lab[name].public] == ["s1"]
    assert [name for name, card in external.items() if VIP in card.public] == []


def test_kube_vip_is_a_daemon_set_of_the_servers_with_the_rights_it_needs(lab: dict[str, Card]) -> None:
    text, mode = lab["s1"].public[VIP]
    assert mode == "0644"
    documents = list(yaml.safe_load_all(text))
    by_kind = {document["kind"]: document for document in documents}
    assert [(document["apiVersion"], document["kind"]) for document in documents] == [
        ("v1", "ServiceAccount"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("apps/v1", "DaemonSet"),
    ]
    account = by_kind["ServiceAccount"]["metadata"]
    assert account == {"name": "kube-vip", "namespace": "kube-system"}
    binding = by_kind["ClusterRoleBinding"]
    assert binding["roleRef"]["name"] == by_kind["ClusterRole"]["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account}]
    rights = {
        (group, resource, verb)
        for rule in by_kind["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    # leader election
    assert {("coordination.k8s.io", "leases", verb) for verb in ("get", "create", "update")} <= rights
    assert not [right for right in rights if "*" in right or "secrets" in right]
    daemon = by_kind["DaemonSet"]
    assert daemon["metadata"]["namespace"] == "kube-system"
    template = daemon["spec"]["template"]
    assert daemon["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    pod = template["spec"]
    assert pod["hostNetwork"] is True
    assert pod["serviceAccountName"] == "kube-vip"
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    ]
    assert {taint["effect"] for taint in pod["tolerations"]} == {"NoSchedule", "NoExecute"}
    (container,) = pod["containers"]
    assert re.fullmatch(r"ghcr\.io/kube-vip/kube-vip:v\d+\.\d+\.\d+", container["image"])
    assert container["args"] == ["manager"]
    assert set(container["securityContext"]["capabilities"]["add"]) == {"NET_ADMIN", "NET_RAW"}
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert all(isinstance(value, str) for value in environment.values())
    assert environment.items() >= {
        "vip_arp": "true",
        "address": "192.168.77.5",
        "port": "6443",
        "cp_enable": "true",
        "cp_namespace": "kube-system",
        "svc_enable": "false",
        "vip_leaderelection": "true",
    }.items()  # fmt: skip


# --- least knowledge ---


def needles(text: str) -> list[bytes]:
    """Return what gives a secret away: a token's or URL's password, every full line of a key, the whole of the rest."""
    if "-----BEGIN" in text:
        lines = [line for line in text.splitlines() if line and "-----" not in line]
        # OpenSSH writes the public key and the cipher first, alike in every file
        lines = lines[2:] if "OPENSSH" in text else lines
        return [line.encode() for line in lines if len(line) >= 40]
    if text.startswith("K10"):
        return [parse_token(text)[2].encode()]
    return [text.encode()]


def all_secrets(made: Secrets) -> dict[str, str]:
    """Return every secret of a cluster by what it is."""
    assert made.service_account
    found = {f"{name}.key": pair.key.reveal() for name, pair in made.authorities.items()}
    found["service.key"] = made.service_account.reveal()
    found |= {f"{kind} token": token.reveal() for kind, token in made.tokens.items()}
    for name, node in made.nodes.items():
        found[f"host key of {name}"] = node.host_key.private.reveal()
        found[f"node password of {name}"] = node.node_password.reveal()
    return found


def may_have(name: str) -> set[str]:
    """Return which secrets a node needs, and nothing beyond."""
    own = {f"host key of {name}", f"node password of {name}", "agent token"}
    if name in SERVERS:
        own |= {"server token"}
    if name == "s1":
        own |= {
            f"{kind}.key"
            for kind in ("server-ca", "client-ca", "request-header-ca", "etcd/peer-ca", "etcd/server-ca")
        }
        own |= {"service.key"}
    return own


def test_the_search_for_secrets_looks_for_all_there_are() -> None:
    found = all_secrets(issued())
    assert len(found) == 5 + 1 + 2 + 2 * len(NAMES)
    for text in found.values():
        assert needles(text)
        assert all(len(needle) >= 32 for needle in needles(text))
    assert set(issued().values()) - {parse_token(t.reveal())[2] for t in issued().tokens.values()} == set(
        found.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_node_has_the_secrets_it_needs_and_none_of_the_others(
    lab: dict[str, Card], external: dict[str, Card], name: str
) -> None:
    for made in (lab, external):
        if name not in made:
            continue
        everything = b"\0".join(made[name].readable())
        seen = {
            what
            for what, text in all_secrets(issued()).items()
            if any(
                needle in everything or base64.b64encode(needle)[:-4] in everything
                for needle in needles(text)
            )
        }
        assert seen == may_have(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_scrubbed_holds_no_secret_at_all(
    lab: dict[str, Card], external: dict[str, Card], name: str
) -> None:
    further = {"password hash": HASH, "datastore": "s3cr3t-of-the-database", "mirror": "s3cr3t-of-the-mirror"}
    for made in (lab, external):
        if name not in made:
            continue
        left = b"\0".join(made[name].readable(archive=False))
        for what, text in {**all_secrets(issued()), **further}.items():
            assert not [needle for needle in needles(text) if needle in left], what


def test_an_agent_knows_nothing_of_the_datastore(external: dict[str, Card]) -> None:
    for name in AGENTS:
        assert b"s3cr3t-of-the-database" not in b"\0".join(external[name].readable())
    for name in ("s1", "s2"):
        assert b"s3cr3t-of-the-database" in b"\0".join(external[name].readable())


def test_secrets_that_are_printed_by_accident_show_no_value() -> None:
    shown = repr(issued()) + str(issued()) + repr(kube.Extras(Secret(DATASTORE), Secret(MIRRORS)))
    for text in [*all_secrets(issued()).values(), DATASTORE, MIRRORS]:
        assert not [needle for needle in needles(text) if needle.decode() in shown]


def test_nodes_can_go_by_their_full_names_in_the_cluster(tmp_path: Path) -> None:
    full = CLUSTER.replace("distribution: k3s", "distribution: k3s\n  node_names: full")
    for name, card in cards(tmp_path, full).items():
        assert card.config["node-name"] == f"{name}.lab.example"
        told = json.loads(card.public["etc/pibake/node.json"][0])
        assert (told["node"], told["member"]) == (name, f"{name}.lab.example")
