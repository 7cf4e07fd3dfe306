"""What kubeadm finds on a card, against the reference of its configuration and of the PKI it keeps.

The rules are written down here once more, from Kubernetes' reference "kubeadm Configuration" (v1beta2 to v1beta4),
"PKI certificates and requirements" and "Bootstrap Tokens", with none of pibake's own code.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.seeding import on

from pibake import config, identity
from pibake.identity import Secrets, Wanted
from pibake.plan import plan
from pibake.seed import Seed, seed
from pibake.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
FOLDER = "etc/pibake/kubeadm"
VIP = "etc/pibake/manifests/kube-vip.yaml"
NAMES = ("s1", "s2", "s3", "w1", "w2")
SERVERS = ("s1", "s2", "s3")
WORKERS = ("w1", "w2")
CLUSTER = f"""\
cluster: lab
domain: lab.example
defaults: {{labels: {{site: attic}}}}
network: {{subnet: 192.168.77.0/24, gateway: 192.168.77.1}}
kubernetes:
  distribution: kubeadm
  version: VERSION
  vip: 192.168.77.5
  sans: [k8s.example.com]
  pod_cidr: 10.52.0.0/16
  service_cidr: 10.53.0.0/16
  token_ttl: 2h
users:
  - {{name: ops, ssh_keys: ["{KEY}"]}}
nodes:
  - {{hostname: s1, address: 192.168.77.11, role: server}}
  - {{hostname: s2, address: 192.168.77.12, role: server, taints: [dedicated=control:NoExecute]}}
  - {{hostname: s3, address: 192.168.77.13, role: server}}
  - {{hostname: w1, address: 192.168.77.21, labels: {{disk: ssd}}, taints: ["storage=yes:NoSchedule", "slow:NoExecute"]}}
  - {{hostname: w2, address: 192.168.77.22}}
"""
VERSIONS = {
    "v1.20.2": "v1beta2",
    "v1.21.14": "v1beta2",
    "v1.22.0": "v1beta3",
    "v1.24.0": "v1beta3",
    "v1.28.15": "v1beta3",
    "v1.29.0": "v1beta3",
    "v1.30.9": "v1beta3",
    "v1.31.0": "v1beta4",
    "v1.34.1": "v1beta4",
}
"""Releases at both ends of every range, and the newest configuration API each of them reads."""
SANS = [
    "192.168.77.5",
    *("192.168.77.11", "s1", "s1.lab.example"),
    *("192.168.77.12", "s2", "s2.lab.example"),
    *("192.168.77.13", "s3", "s3.lab.example"),
    "k8s.example.com",
]


@functools.cache
def issued() -> Secrets:
    roles = {name: "server" if name in SERVERS else "agent" for name in NAMES}
    return identity.issue(Wanted("lab", "kubeadm", roles), None, NOW)


@dataclass(frozen=True)
class Card:
    """What stands on a card, as a reader of the card sees it."""

    seed: Seed

    @functools.cached_property
    def secret(self) -> Mapping[str, tuple[bytes, int]]:
        """The files of the secrets archive: content and mode."""
        with tarfile.open(fileobj=io.BytesIO(self.seed.tree["pibake-secrets.tar"].data)) as archive:
            return {entry.name: (archive.extractfile(entry).read(), entry.mode) for entry in archive}  # type: ignore[union-attr]

    @functools.cached_property
    def public(self) -> Mapping[str, bytes]:
        """The files that cloud-init writes."""
        written = yaml.safe_load(self.seed.tree["user-data"].data)["write_files"]
        return {entry["path"].lstrip("/"): base64.b64decode(entry["content"]) for entry in written}

    @functools.cached_property
    def readable(self) -> bytes:
        """Everything on the card that can be read, encoded or not."""
        return b"\0".join([*(file.data for _, file in self.seed.tree), *self.public.values()])

    @functools.cached_property
    def left(self) -> bytes:
        """The same once the archive is scrubbed."""
        kept = [file.data for path, file in self.seed.tree if path != "pibake-secrets.tar"]
        return b"\0".join([*kept, *self.public.values()])

    def documents(self, name: str) -> dict[str, dict[str, Any]]:
        """The documents of init.yaml or join.yaml by kind."""
        loaded = list(yaml.safe_load_all(self.secret[f"{FOLDER}/{name}"][0]))
        found = {document["kind"]: document for document in loaded}
        assert len(found) == len(loaded)
        return found

    def registrations(self) -> list[dict[str, Any]]:
        """How the node registers, in every document that says so."""
        names = [name for name in ("init.yaml", "join.yaml") if f"{FOLDER}/{name}" in self.secret]
        documents = [document for name in names for document in self.documents(name).values()]
        return [document["nodeRegistration"] for document in documents if "nodeRegistration" in document]


def cards(folder: Path, version: str, text: str = CLUSTER) -> dict[str, Card]:
    path = folder / "cluster.yaml"
    path.write_text(text.replace("VERSION", version))
    made = {}
    for node in plan(config.load(path, bases=("debian-13",))).nodes:
        keys = {user.name: [key.text for key in user.ssh_keys] for user in node.users}
        made[node.hostname] = Card(
            seed(
                node, keys, Tree(), secrets=issued(), **on("root=LABEL=writable"),
                epoch=int(NOW.timestamp()),
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Card]]:
    """The cards of three control planes behind a VIP and two workers, for every release."""
    return {version: cards(tmp_path_factory.mktemp(version), version) for version in VERSIONS}


RELEASES = pytest.mark.parametrize("version", VERSIONS)
Labs = dict[str, dict[str, Card]]


def token() -> str:
    return issued().tokens["bootstrap"].reveal()


def spki_pin() -> str:
    """Return what `openssl x509 -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256` prints."""
    certificate = x509.load_pem_x509_certificate(issued().authorities["ca"].cert.encode())
    info = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"sha256:{hashlib.sha256(info).hexdigest()}"


def number(version: str) -> int:
    return int(version.split(".")[1])


def arguments(version: str, given: Mapping[str, str]) -> Any:
    """Return a program's further arguments as a release reads them."""
    if number(version) < 31:
        return dict(given)
    return [{"name": name, "value": text} for name, text in given.items()]


def socket(version: str) -> str:
    return ("unix://" if number(version) >= 24 else "") + "/run/containerd/containerd.sock"


# --- documents ---


@RELEASES
def test_every_document_is_in_the_newest_api_its_release_reads(labs: Labs, version: str) -> None:
    for card in labs[version].values():
        for path in card.secret:
            if not path.endswith(".yaml"):
                continue
            for kind, document in card.documents(path.rpartition("/")[2]).items():
                api = "kubelet.config.k8s.io/v1beta1"
                if kind != "KubeletConfiguration":
                    api = f"kubeadm.k8s.io/{VERSIONS[version]}"
                assert document["apiVersion"] == api, (path, kind)


@RELEASES
def test_the_first_control_plane_starts_this_cluster(labs: Labs, version: str) -> None:
    found = labs[version]["s1"].documents("init.yaml")
    new = number(version) >= 31
    assert found == {
        "InitConfiguration": {
            "apiVersion": f"kubeadm.k8s.io/{VERSIONS[version]}",
            "kind": "InitConfiguration",
            "bootstrapTokens": [
                {
                    "token": token(),
                    "ttl": "2h",
                    "usages": ["signing", "authentication"],
                    "groups": ["system:bootstrappers:kubeadm:default-node-token"],
                    "description": "issued by pibake",
                }
            ],
            "nodeRegistration": {
                "name": "s1",
                "criSocket": socket(version),
                "kubeletExtraArgs": arguments(
                    version, {"node-ip": "192.168.77.11", "node-labels": "site=attic"}
                ),
            },
            "localAPIEndpoint": {"advertiseAddress": "192.168.77.11", "bindPort": 6443},
            **({"timeouts": {"controlPlaneComponentHealthCheck": "20m0s"}} if new else {}),
        },
        "ClusterConfiguration": {
            "apiVersion": f"kubeadm.k8s.io/{VERSIONS[version]}",
            "kind": "ClusterConfiguration",
            "clusterName": "lab",
            "kubernetesVersion": version,
            "controlPlaneEndpoint": "192.168.77.5:6443",
            "networking": {"podSubnet": "10.52.0.0/16", "serviceSubnet": "10.53.0.0/16"},
            "apiServer": {"certSANs": SANS, **({} if new else {"timeoutForControlPlane": "20m0s"})},
        },
        "KubeletConfiguration": {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd",
        },
    }


@RELEASES
def test_a_further_control_plane_joins_with_the_authorities_on_its_card(labs: Labs, version: str) -> None:
    patience = {"timeouts": {"controlPlaneComponentHealthCheck": "20m0s"}} if number(version) >= 31 else {}
    assert labs[version]["s3"].documents("join.yaml") == {
        "JoinConfiguration": {
            "apiVersion": f"kubeadm.k8s.io/{VERSIONS[version]}",
            "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "token": token(),
                    "apiServerEndpoint": "192.168.77.5:6443",
                    "caCertHashes": [spki_pin()],
                }
            },
            "nodeRegistration": {
                "name": "s3",
                "criSocket": socket(version),
                "kubeletExtraArgs": arguments(
                    version, {"node-ip": "192.168.77.13", "node-labels": "site=attic"}
                ),
            },
            # without certificateKey: nothing is downloaded, the keys are there
            "controlPlane": {"localAPIEndpoint": {"advertiseAddress": "192.168.77.13", "bindPort": 6443}},
            **patience,
        }
    }


@RELEASES
def test_a_worker_joins_with_labels_and_taints_and_no_part_in_the_control_plane(
    labs: Labs, version: str
) -> None:
    assert labs[version]["w1"].documents("join.yaml") == {
        "JoinConfiguration": {
            "apiVersion": f"kubeadm.k8s.io/{VERSIONS[version]}",
            "kind": "JoinConfiguration",
            "discovery": {
                "bootstrapToken": {
                    "token": token(),
                    "apiServerEndpoint": "192.168.77.5:6443",
                    "caCertHashes": [spki_pin()],
                }
            },
            "nodeRegistration": {
                "name": "w1",
                "criSocket": socket(version),
                "kubeletExtraArgs": arguments(
                    version, {"node-ip": "192.168.77.21", "node-labels": "disk=ssd,site=attic"}
                ),
                "taints": [
                    {"key": "storage", "value": "yes", "effect": "NoSchedule"},
                    {"key": "slow", "effect": "NoExecute"},
                ],
            },
        }
    }


def test_taints_that_are_written_replace_those_of_a_control_plane_and_none_leave_them(labs: Labs) -> None:
    for name, taints in (
        ("s1", None),
        ("s2", [{"key": "dedicated", "value": "control", "effect": "NoExecute"}]),
        ("w2", None),
    ):
        for registration in labs["v1.31.0"][name].registrations():
            # `taints: []` would take a control plane's own taint away
            assert registration.get("taints") == taints


def test_the_first_control_plane_can_join_as_well_when_its_card_is_made_anew(labs: Labs) -> None:
    found = labs["v1.30.9"]["s1"].documents("join.yaml")["JoinConfiguration"]
    assert found["controlPlane"] == {
        "localAPIEndpoint": {"advertiseAddress": "192.168.77.11", "bindPort": 6443}
    }
    for name in ("s2", "s3", *WORKERS):
        assert f"{FOLDER}/init.yaml" not in labs["v1.30.9"][name].secret


def test_without_labels_and_vip_the_first_server_is_the_endpoint(tmp_path: Path) -> None:
    text = CLUSTER.replace("  vip: 192.168.77.5\n", "").replace("defaults: {labels: {site: attic}}\n", "")
    made = cards(tmp_path, "v1.31.0", text)
    cluster = made["s1"].documents("init.yaml")["ClusterConfiguration"]
    assert cluster["controlPlaneEndpoint"] == "192.168.77.11:6443"
    assert cluster["apiServer"]["certSANs"] == SANS[1:]
    discovery = made["w2"].documents("join.yaml")["JoinConfiguration"]["discovery"]
    assert discovery["bootstrapToken"]["apiServerEndpoint"] == "192.168.77.11:6443"
    for registration in made["w2"].registrations():
        assert registration["kubeletExtraArgs"] == [{"name": "node-ip", "value": "192.168.77.22"}]
    assert not [name for name, card in made.items() if VIP in card.public]


def test_nodes_can_go_by_their_full_names_in_the_cluster(tmp_path: Path) -> None:
    text = CLUSTER.replace("distribution: kubeadm", "distribution: kubeadm\n  node_names: full")
    found = cards(tmp_path, "v1.31.0", text)["s1"].documents("init.yaml")
    assert found["InitConfiguration"]["nodeRegistration"]["name"] == "s1.lab.example"


def test_an_ipv6_endpoint_stands_in_brackets(tmp_path: Path) -> None:
    text = CLUSTER.replace("192.168.77.0/24", "fd00:77::/64").replace("192.168.77.", "fd00:77::")
    text = text.replace("10.52.0.0/16", "fd00:52::/56").replace("10.53.0.0/16", "fd00:53::/112")
    found = cards(tmp_path, "v1.31.0", text)["s1"].documents("init.yaml")
    assert found["ClusterConfiguration"]["controlPlaneEndpoint"] == "[fd00:77::5]:6443"
    assert found["InitConfiguration"]["localAPIEndpoint"]["advertiseAddress"] == "fd00:77::11"


@pytest.mark.parametrize("name", ["no", "0x10", "077", "2026-11-22", "1e3", "0o17", "12e45"])
def test_a_hostname_that_looks_like_something_else_stays_a_name(tmp_path: Path, name: str) -> None:
    """Kubernetes' YAML becomes JSON first (sigs.k8s.io/yaml): a number there does not fit into a string."""
    path = tmp_path / "cluster.yaml"
    path.write_text(CLUSTER.replace("VERSION", "v1.31.0").replace("hostname: w2", f"hostname: '{name}'"))
    made = identity.issue(Wanted("lab", "kubeadm", {name: "agent"}), issued(), NOW)
    node = plan(config.load(path, bases=("debian-13",))).node(name)
    rendered = seed(
        node, {"ops": [KEY]}, Tree(), secrets=made, **on("x"), epoch=0
    ).secret[f"{FOLDER}/join.yaml"].data.decode()  # fmt: skip
    assert yaml.safe_load(rendered)["nodeRegistration"]["name"] == name
    plain = [
        event.value
        for event in yaml.parse(rendered)
        if isinstance(event, yaml.ScalarEvent) and event.style is None
    ]
    go_number = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+")
    # the ports are numbers
    assert [text for text in plain if go_number.fullmatch(text) and text != "6443"] == []


# --- the token, the pin and the PKI ---


def test_the_token_and_the_pin_have_the_shape_kubeadm_checks(labs: Labs) -> None:
    for name in NAMES:
        joining = labs["v1.20.2"][name].documents("join.yaml")["JoinConfiguration"]["discovery"][
            "bootstrapToken"
        ]
        assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", joining["token"])
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", pin) for pin in joining["caCertHashes"])
        told = json.loads(labs["v1.20.2"][name].public["etc/pibake/node.json"])
        assert told["pin"] == spki_pin()
        assert told["token_id"] == joining["token"][:6]


@pytest.mark.parametrize("name", SERVERS)
def test_a_control_plane_has_the_pki_in_kubeadms_places(labs: Labs, name: str) -> None:
    secret = labs["v1.34.1"][name].secret
    found = {path.removeprefix(f"{FOLDER}/pki/") for path in secret if path.startswith(f"{FOLDER}/pki/")}
    pairs = ("ca", "front-proxy-ca", "etcd/ca")
    assert found == {"sa.key", "sa.pub", *(f"{pair}.{end}" for pair in pairs for end in ("crt", "key"))}
    for path, (content, mode) in secret.items():
        if path.endswith(".key"):
            assert mode == 0o600
            assert b"PRIVATE KEY" in content
    for pair, common in zip(pairs, ("kubernetes", "front-proxy-ca", "etcd-ca"), strict=True):
        certificate = x509.load_pem_x509_certificate(secret[f"{FOLDER}/pki/{pair}.crt"][0])
        key = serialization.load_pem_private_key(secret[f"{FOLDER}/pki/{pair}.key"][0], None)
        spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert certificate.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)
        assert certificate.subject.rfc4514_string() == f"CN={common}"
    private = serialization.load_pem_private_key(secret[f"{FOLDER}/pki/sa.key"][0], None)
    public = serialization.load_pem_public_key(secret[f"{FOLDER}/pki/sa.pub"][0])
    assert isinstance(private, rsa.RSAPrivateKey)
    assert isinstance(public, rsa.RSAPublicKey)
    assert private.public_key().public_numbers() == public.public_numbers()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_has_no_pki_and_everyone_has_the_authoritys_certificate(labs: Labs, name: str) -> None:
    card = labs["v1.34.1"][name]
    # `kubeadm join` fetches ca.crt, and stops where it is already there
    assert sorted(path for path in card.secret if "etc/ssh" not in path) == [f"{FOLDER}/join.yaml"]
    assert card.public["etc/pibake/ca.crt"].decode() == issued().authorities["ca"].cert


# --- kube-vip ---


@RELEASES
def test_kube_vip_is_a_static_pod_of_every_control_plane(labs: Labs, version: str) -> None:
    made = labs[version]
    assert {name for name in NAMES if VIP in made[name].public} == set(SERVERS)
    for name in SERVERS:
        pod = yaml.safe_load(made[name].public[VIP])
        assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
        assert pod["spec"]["hostNetwork"] is True
        (volume,) = pod["spec"]["volumes"]
        # since 1.29 admin.conf has no rights before `kubeadm init` has ended (kubernetes/kubeadm#2414)
        early = name == "s1" and number(version) >= 29
        assert volume["hostPath"] == {
            "path": f"/etc/kubernetes/{'super-admin' if early else 'admin'}.conf",
            "type": "FileOrCreate",
        }
        (container,) = pod["spec"]["containers"]
        assert container["volumeMounts"] == [
            {"name": volume["name"], "mountPath": "/etc/kubernetes/admin.conf"}
        ]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment["address"] == "192.168.77.5"
        assert environment["port"] == "6443"
        assert environment["cp_enable"] == "true"
        assert all(isinstance(value, str) for value in environment.values())


# --- least knowledge ---


def all_secrets() -> dict[str, str]:
    """Return every secret of the cluster by what it is."""
    made = issued()
    assert made.service_account
    found = {f"{name}.key": pair.key.reveal() for name, pair in made.authorities.items()}
    found["sa.key"] = made.service_account.reveal()
    found |= {kind: text.reveal() for kind, text in made.tokens.items()}
    for name, node in made.nodes.items():
        found[f"host key of {name}"] = node.host_key.private.reveal()
        found[f"password of {name}"] = node.node_password.reveal()
    return found


def needles(text: str) -> list[bytes]:
    """Return what gives a secret away: every full line of a key that is its own, a token's second half, or all of it."""
    if "-----BEGIN" in text:
        lines = [line for line in text.splitlines() if line and "-----" not in line]
        # OpenSSH writes the public key and the cipher first, alike in every file
        lines = lines[2:] if "OPENSSH" in text else lines
        return [line.encode() for line in lines if len(line) >= 40]
    return [text.rpartition(".")[2].encode()]


def encodings(needle: bytes) -> list[bytes]:
    """Return a needle as it is, and as it looks inside base64 at any offset."""
    found = [needle]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + needle)
        found.append(encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4])
    return found


def seen(content: bytes) -> set[str]:
    return {
        what
        for what, text in all_secrets().items()
        if any(form in content for needle in needles(text) for form in encodings(needle))
    }


def may_have(name: str) -> set[str]:
    """Return which secrets a node needs, and nothing beyond."""
    own = {f"host key of {name}", "bootstrap"}
    return own | {"ca.key", "front-proxy-ca.key", "etcd/ca.key", "sa.key"} if name in SERVERS else own


def test_the_search_for_secrets_looks_for_all_there_are() -> None:
    found = all_secrets()
    assert len(found) == 3 + 1 + 2 + 2 * len(NAMES)
    assert all(needles(text) for text in found.values())
    assert set(issued().values()) - {token().partition(".")[2]} == set(found.values())
    for what, text in found.items():
        for shift in range(3):
            assert what in seen(base64.b64encode(b"x" * shift + text.encode() + b"end")), (what, shift)


@pytest.mark.parametrize("version", ["v1.20.2", "v1.34.1"])
@pytest.mark.parametrize("name", NAMES)
def test_a_node_has_the_secrets_it_needs_and_none_of_the_others(labs: Labs, version: str, name: str) -> None:
    assert seen(labs[version][name].readable) == may_have(name)


@pytest.mark.parametrize("version", ["v1.20.2", "v1.34.1"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_scrubbed_holds_no_secret_at_all(labs: Labs, version: str, name: str) -> None:
    assert seen(labs[version][name].left) == set()
