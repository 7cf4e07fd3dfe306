"""Identities: issued once, kept, made anew only on demand, and refused when they are not sound."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from pibake import identity
from pibake.errors import PibakeError
from pibake.identity import Pair, Secrets, Wanted, bootkey, hostkeys, pki
from pibake.secret import Secret

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NODES = {"node1": "server", "node2": "agent"}
K3S = identity.issue(Wanted("lab", "k3s", NODES), None, NOW)
KUBEADM = identity.issue(Wanted("lab", "kubeadm", NODES), None, NOW)
PLAIN = identity.issue(Wanted("lab", "", NODES), None, NOW)
ALL = pytest.mark.parametrize("secrets", [K3S, KUBEADM, PLAIN], ids=["k3s", "kubeadm", "plain"])


def check_fails(secrets: Secrets, now: datetime = NOW) -> str:
    with pytest.raises(PibakeError) as caught:
        identity.check(secrets, now)
    for value in secrets.values():
        assert len(value) < 8 or value not in str(caught.value)
    return str(caught.value)


@ALL
def test_what_is_issued_is_sound_and_survives_being_written(secrets: Secrets) -> None:
    identity.check(secrets, NOW)
    identity.check(secrets, NOW - timedelta(hours=23))  # a board's clock that is behind
    assert identity.loads(identity.dumps(secrets), "x") == secrets


def test_each_distribution_gets_its_own_authorities_and_tokens() -> None:
    assert sorted(K3S.authorities) == [
        "client-ca",
        "etcd/peer-ca",
        "etcd/server-ca",
        "request-header-ca",
        "server-ca",
    ]
    assert sorted(KUBEADM.authorities) == ["ca", "etcd/ca", "front-proxy-ca"]
    assert (PLAIN.authorities, PLAIN.tokens, PLAIN.service_account) == ({}, {}, None)
    assert K3S.tokens["server"].reveal().startswith(f"K10{K3S.ca_pin}::server:")
    assert K3S.tokens["agent"].reveal().startswith(f"K10{K3S.ca_pin}::node:")
    assert KUBEADM.ca_pin.startswith("sha256:")
    for secrets in (K3S, KUBEADM):
        assert secrets.service_account is not None
        assert secrets.service_account.reveal().startswith("-----BEGIN RSA PRIVATE KEY-----\n")
        assert secrets.service_account_public.startswith("-----BEGIN PUBLIC KEY-----\n")


@ALL
def test_issuing_again_changes_nothing_and_a_new_node_only_adds(secrets: Secrets) -> None:
    later = NOW + timedelta(days=9)
    assert identity.issue(Wanted("lab", secrets.distribution, NODES), secrets, later) == secrets
    more = identity.issue(Wanted("lab", secrets.distribution, {"node3": "agent"}), secrets, later)
    assert {name: node for name, node in more.nodes.items() if name != "node3"} == secrets.nodes
    assert replace(more, nodes=secrets.nodes) == secrets
    assert more.node("node3").host_key != secrets.node("node2").host_key


def test_a_cluster_without_kubernetes_can_get_it_later() -> None:
    grown = identity.issue(Wanted("lab", "k3s", NODES), PLAIN, NOW)
    assert grown.distribution == "k3s"
    assert grown.nodes == PLAIN.nodes
    identity.check(grown, NOW)
    assert identity.issue(Wanted("lab", "", NODES), grown, NOW) == grown


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("shed", "k3s", NODES), "issued for the cluster lab, and it is called shed now"),
        (Wanted("lab", "kubeadm", NODES), "issued for k3s, and cluster.yaml asks for kubeadm"),
        (
            Wanted("lab", "k3s", {"node2": "server"}),
            "node2 was issued as an agent, and cluster.yaml makes it a server",
        ),
        (Wanted("lab", "swarm", NODES), "swarm is no distribution"),
    ],
)
def test_a_change_that_would_break_what_is_there_is_refused(wanted: Wanted, message: str) -> None:
    with pytest.raises(PibakeError, match=message) as caught:
        identity.issue(wanted, K3S, NOW)
    assert caught.value.hint or wanted.distribution == "swarm"


@pytest.mark.parametrize("secrets", [K3S, KUBEADM], ids=["k3s", "kubeadm"])
@pytest.mark.parametrize("what", identity.ROTATIONS)
def test_rotating_changes_that_and_nothing_else(secrets: Secrets, what: str) -> None:
    new = identity.rotate(secrets, what, NOW)
    identity.check(new, NOW)
    fields = {"authorities": "authorities", "service-account": "service_account", "tokens": "tokens"}
    changed = {name for name in vars(new) if getattr(new, name) != getattr(secrets, name)}
    also = {"tokens"} if what == "authorities" and secrets is K3S else set()
    assert changed == {fields.get(what, "nodes")} | also
    if also:  # the passwords stay
        assert [t.reveal()[-32:] for t in new.tokens.values()] == [
            t.reveal()[-32:] for t in secrets.tokens.values()
        ]


WITH_ADDONS = identity.issue(
    Wanted(
        "lab", "k3s", NODES, addons={"grafana": {"admin": 24, "viewer": 12}, "rancher": {"bootstrap": 20}}
    ),
    K3S,
    NOW,
)


def test_passwords_of_add_ons_are_made_up_once_and_stay_when_the_add_on_is_left_out() -> None:
    texts = {o: p.reveal() for o, p in WITH_ADDONS.addons["grafana"].items()}
    assert {option: len(text) for option, text in texts.items()} == {"admin": 24, "viewer": 12}
    assert len(set(texts.values())) == 2
    assert identity.loads(identity.dumps(WITH_ADDONS), "it") == WITH_ADDONS
    assert identity.loads(identity.dumps(K3S), "it").addons == {}
    assert set(texts.values()) <= set(WITH_ADDONS.values())
    more = Wanted("lab", "k3s", NODES, addons={"grafana": {"admin": 30, "editor": 16}})
    later = identity.issue(more, WITH_ADDONS, NOW)
    assert later.addons["grafana"].keys() == {"admin", "viewer", "editor"}
    assert {o: p.reveal() for o, p in later.addons["grafana"].items() if o in texts} == texts
    assert later.addons["rancher"] == WITH_ADDONS.addons["rancher"]
    identity.check(later, NOW)


def test_rotating_passwords_of_add_ons_changes_those_of_one_or_all_and_not_their_length() -> None:
    one = identity.rotate(WITH_ADDONS, identity.ADDONS, NOW, addon="grafana")
    assert one.addons["rancher"] == WITH_ADDONS.addons["rancher"]
    assert replace(one, addons=WITH_ADDONS.addons) == WITH_ADDONS
    assert not set(one.addons["grafana"].values()) & set(WITH_ADDONS.addons["grafana"].values())
    assert [len(p.reveal()) for p in one.addons["grafana"].values()] == [24, 12]
    every = identity.rotate(WITH_ADDONS, identity.ADDONS, NOW)
    assert every.addons["rancher"] != WITH_ADDONS.addons["rancher"]
    for secrets, addon in ((K3S, ""), (WITH_ADDONS, "metallb")):
        with pytest.raises(PibakeError, match="no password was made up for"):
            identity.rotate(secrets, identity.ADDONS, NOW, addon=addon)


def test_a_password_that_somebody_shortened_is_found() -> None:
    short = replace(WITH_ADDONS, addons={"grafana": {"admin": Secret("short")}})
    with pytest.raises(
        PibakeError, match="the password admin of the add-on grafana is shorter than 8"
    ) as caught:
        identity.check(short, NOW)
    assert "short" not in str(caught.value).replace("shorter", "")


def test_rotating_one_node_leaves_the_others() -> None:
    new = identity.rotate(K3S, "host-key", NOW, "node2")
    assert new.nodes["node1"] == K3S.nodes["node1"]
    assert new.nodes["node2"].host_key != K3S.nodes["node2"].host_key
    assert new.nodes["node2"].node_password == K3S.nodes["node2"].node_password


@pytest.mark.parametrize(
    ("secrets", "what", "node", "message"),
    [(K3S, "everything", "", "cannot be rotated"), (K3S, "tokens", "node1", "whole cluster's"),
     (PLAIN, "authorities", "", "has no authorities"), (K3S, "host-key", "node9", "nothing was issued for node9")],
)  # fmt: skip
def test_rotating_what_is_not_there_is_refused(secrets: Secrets, what: str, node: str, message: str) -> None:
    with pytest.raises(PibakeError, match=message):
        identity.rotate(secrets, what, NOW, node)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("server", "K10abc::server:secret", "wrong shape"),
        ("server", "hunter2hunter2hunter2", "wrong shape"),
        ("agent", K3S.tokens["server"].reveal(), "wrong shape"),
        ("server", f"K10{K3S.ca_pin}::server:", "wrong shape"),
        ("server", f"{K3S.tokens['server'].reveal()}\n", "wrong shape"),
        ("agent", f"K10{'0' * 64}::node:{'a' * 32}", "another certificate authority"),
    ],
    ids=["short", "no prefix", "of the server", "no password", "a newline", "another ca"],
)
def test_a_k3s_token_of_the_wrong_shape_or_ca_is_named_not_shown(kind: str, text: str, message: str) -> None:
    said = check_fails(replace(K3S, tokens={**K3S.tokens, kind: Secret(text)}))
    assert message in said
    assert f"the {kind} token" in said


@pytest.mark.parametrize(
    "text", ["abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "abcdef.0123456789abcdef "]
)
def test_a_bootstrap_token_of_the_wrong_shape_is_refused(text: str) -> None:
    assert "bootstrap token has the wrong shape" in check_fails(
        replace(KUBEADM, tokens={**KUBEADM.tokens, "bootstrap": Secret(text)})
    )


def test_everything_wrong_is_named_at_once() -> None:
    other = identity.rotate(K3S, "authorities", NOW)
    mixed = Pair(K3S.authorities["client-ca"].cert, other.authorities["client-ca"].key)
    broken = Pair(K3S.authorities["server-ca"].cert[:300], K3S.authorities["server-ca"].key)
    cut = Pair(
        K3S.authorities["etcd/peer-ca"].cert, Secret(K3S.authorities["etcd/peer-ca"].key.reveal()[:80])
    )
    node = replace(K3S.nodes["node1"], host_key=replace(K3S.nodes["node1"].host_key, public=K3S.nodes["node2"].host_key.public),
                   node_password=Secret("short"))  # fmt: skip
    authorities = {**K3S.authorities, "client-ca": mixed, "server-ca": broken, "etcd/peer-ca": cut}
    said = check_fails(replace(K3S, authorities=authorities, nodes={**K3S.nodes, "node1": node},
                               service_account=Secret("nothing")))  # fmt: skip
    for sentence in ("client-ca does not match its key", "server-ca has a damaged certificate", "peer-ca has an unusable key",
                     "service-account key is not an RSA key", "host key of node1 does not match its public key",
                     "node password of node1 has the wrong shape"):  # fmt: skip
        assert sentence in said


def test_an_authority_that_is_none_or_out_of_date_is_refused() -> None:
    leaf = identity.admin_certificate(K3S, timedelta(days=1), NOW)
    assert "is not a certificate authority" in check_fails(
        replace(K3S, authorities={**K3S.authorities, "client-ca": leaf})
    )
    assert "expired on 2036-11-19" in check_fails(K3S, NOW + timedelta(days=3651))
    assert "is not valid before 2026-11-21; this computer says it is 2025-11-22" in check_fails(
        K3S, NOW - timedelta(days=365)
    )


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": "other"}', '{"format": "pibake-identity", "version": 2}',
     '{"format": "pibake-identity", "version": 1}', "x" * 99, '{"format": "pibake-identity", "version": "1"}'],
)  # fmt: skip
def test_a_damaged_document_is_a_clear_error(text: str) -> None:
    with pytest.raises(PibakeError) as caught:
        identity.loads(Secret(text), "secrets/identity.json")
    assert str(caught.value).startswith("secrets/identity.json")
    assert caught.value.hint


@ALL
def test_a_document_cut_short_anywhere_is_a_clear_error(secrets: Secrets) -> None:
    text = identity.dumps(secrets).reveal()
    for end in range(0, len(text.rstrip()), 97):
        with pytest.raises(PibakeError) as caught:
            identity.loads(Secret(text[:end]), "x")
        assert not [value for value in secrets.values() if value in str(caught.value)]


def test_a_document_lacking_any_field_says_which() -> None:
    whole = json.loads(identity.dumps(K3S).reveal())
    for key in ("cluster", "distribution", "issued", "authorities", "tokens", "nodes"):
        with pytest.raises(PibakeError, match=f"it has no {key}"):
            identity.loads(Secret(json.dumps({k: v for k, v in whole.items() if k != key})), "x")
    del whole["nodes"]["node1"]["host_key"]["private"]
    with pytest.raises(PibakeError, match="it has no node1: private"):
        identity.loads(Secret(json.dumps(whole)), "x")


def test_the_k3s_hash_of_a_chain_is_its_roots_and_of_anything_else_the_files() -> None:
    root, intermediate = pki.elliptic_key(), pki.elliptic_key()
    root_cert = pki.authority("root", root, NOW)
    other = pki.authority("other", pki.elliptic_key(), NOW)
    chained = signed_authority("server", intermediate, Pair(root_cert, root))
    bundle = chained + root_cert
    expected = pki.fingerprint(root_cert)
    assert pki.k3s_hash(bundle) == expected
    assert pki.k3s_hash(chained + other + root_cert) == expected
    for text in (root_cert, root_cert + "\n", chained + other, bundle.replace(root_cert, other)):
        assert pki.k3s_hash(text) == hashlib.sha256(text.encode()).hexdigest()


def test_a_client_certificate_ends_with_its_authority_at_the_latest() -> None:
    pair = identity.client_certificate(K3S, "alice", ["dev"], timedelta(days=99999), NOW)
    assert (
        pki.valid(pki.certificates(pair.cert)[0])[1] == pki.valid(pki.certificates(K3S.client_ca.cert)[0])[1]
    )


@pytest.mark.parametrize(
    ("user", "groups", "ttl"), [("", [], 1), ("a" * 65, [], 1), ("a\nb", [], 1), ("a", [""], 1), ("a", [], 0)]
)
def test_a_client_certificate_nobody_could_use_is_refused(user: str, groups: list[str], ttl: int) -> None:
    with pytest.raises(PibakeError):
        identity.client_certificate(K3S, user, groups, timedelta(hours=ttl), NOW)
    with pytest.raises(PibakeError, match="no certificate authority was issued"):
        identity.admin_certificate(PLAIN, timedelta(hours=1), NOW)


def test_a_kubeconfig_holds_the_server_ca_and_is_named_after_the_cluster() -> None:
    pair = identity.admin_certificate(K3S, timedelta(hours=1), NOW)
    config = yaml.safe_load(identity.kubeconfig(K3S, "https://192.168.10.11:6443", pair, "system:admin"))
    assert config["current-context"] == config["clusters"][0]["name"] == "lab"
    cluster = config["clusters"][0]["cluster"]
    assert (
        base64.b64decode(cluster["certificate-authority-data"]).decode() == K3S.authorities["server-ca"].cert
    )
    assert cluster["server"] == "https://192.168.10.11:6443"


def test_merging_keeps_everything_else_and_replaces_what_is_the_same() -> None:
    pair = identity.admin_certificate(K3S, timedelta(hours=1), NOW)
    new = identity.kubeconfig(K3S, "https://new:6443", pair, "me")
    there = """
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:
- {name: prod, cluster: {server: "https://prod", insecure-skip-tls-verify: true}}
- {name: lab, cluster: {server: "https://old"}}
users:
- name: prod
  user: {auth-provider: {config: {expiry: 2026-01-02T03:04:05Z, token: "0123"}, name: oidc}}
contexts:
- {name: prod, context: {cluster: prod, user: prod, namespace: web}}
current-context: prod
extensions: []
"""
    merged = yaml.safe_load(identity.merge(there, new, "config"))
    assert [entry["name"] for entry in merged["clusters"]] == ["prod", "lab"]
    assert merged["clusters"][1]["cluster"]["server"] == "https://new:6443"
    assert merged["clusters"][0]["cluster"]["insecure-skip-tls-verify"] is True
    assert merged["users"][0]["user"]["auth-provider"]["config"] == {
        "expiry": "2026-01-02T03:04:05Z",
        "token": "0123",
    }
    assert (merged["current-context"], merged["preferences"]) == ("prod", {"colors": True})
    assert yaml.safe_load(identity.merge("", new, "config")) == yaml.safe_load(new)
    assert identity.merge(new, new, "config") == new


@pytest.mark.parametrize(
    "there",
    ["hello", "- a", "a: [", "kind: Pod", "a: b", "kind: Config\nclusters: {a: b}", "kind: Config\nusers: [1]",
     "client-key-data: SECRETSECRET: x\n\t"],
)  # fmt: skip
def test_a_file_that_is_no_kubeconfig_is_not_touched_and_not_quoted(there: str) -> None:
    pair = identity.admin_certificate(K3S, timedelta(hours=1), NOW)
    with pytest.raises(PibakeError, match="so it is not touched") as caught:
        identity.merge(there, identity.kubeconfig(K3S, "https://x", pair, "me"), "config")
    assert "SECRETSECRET" not in str(caught.value)


def test_known_hosts_lines_name_every_name_once() -> None:
    text = identity.known_hosts(K3S, {"node2": ("node2", "node2", "192.168.10.12")})
    assert text == f"node2,192.168.10.12 {K3S.nodes['node2'].host_key.public.removesuffix(' node2')}\n"


@ALL
def test_no_secret_shows_in_what_is_meant_to_be_seen(secrets: Secrets) -> None:
    shown = repr(secrets) + str(secrets) + repr(list(identity.summary.rows(secrets)))
    values = list(secrets.values())
    assert len(values) >= 4
    assert not [value for value in values if value in shown]


@pytest.mark.parametrize("secrets", [K3S, KUBEADM], ids=["k3s", "kubeadm"])
def test_an_agents_files_hold_no_servers_secret(secrets: Secrets) -> None:
    agent = identity.layout.node(secrets, "node2")
    content = "".join(file.data.decode() for _, file in agent)
    known = {secrets.tokens["agent" if secrets is K3S else "bootstrap"].reveal(), secrets.nodes["node2"].node_password.reveal(),
             secrets.nodes["node2"].host_key.private.reveal()}  # fmt: skip
    parts = {value for value in secrets.values() if any(value in text for text in known)}
    assert not [value for value in secrets.values() if value in content and value not in parts]
    assert all(
        file.mode == 0o600 for _, file in agent if any(v in file.data.decode() for v in secrets.values())
    )


def test_the_files_of_a_server_are_where_its_distribution_looks() -> None:
    k3s = dict(identity.layout.node(K3S, "node1"))
    assert k3s["var/lib/rancher/k3s/server/tls/etcd/peer-ca.key"].mode == 0o600
    assert k3s["var/lib/rancher/k3s/server/tls/server-ca.crt"].mode == 0o644
    assert k3s["etc/rancher/node/password"].data.decode().strip() == K3S.nodes["node1"].node_password.reveal()
    assert sorted(path for path, _ in identity.layout.pki(KUBEADM)) == [
        "pki/ca.crt", "pki/ca.key", "pki/etcd/ca.crt", "pki/etcd/ca.key", "pki/front-proxy-ca.crt", "pki/front-proxy-ca.key",
        "pki/sa.key", "pki/sa.pub",
    ]  # fmt: skip
    assert "nodes/node2/etc/ssh/ssh_host_ed25519_key" in dict(identity.layout.everything(PLAIN))


def test_a_host_key_of_another_kind_is_refused() -> None:
    key = replace(K3S.nodes["node1"].host_key, private=pki.elliptic_key())
    assert hostkeys.problem(key) == "is not an OpenSSH private key without a passphrase"


def signed_authority(name: str, key: Secret, issuer: Pair) -> str:
    """Return an intermediate CA, as a person's own PKI would have."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    parent, private = pki.certificates(issuer.cert)[0], pki.private_key(key)
    own = pki.certificates(pki.authority(name, key, NOW))[0]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(parent.subject)
        .public_key(private.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=99))
    )
    for extension in own.extensions:
        value: x509.ExtensionType = extension.value
        if isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.public_key())  # type: ignore[arg-type]
        builder = builder.add_extension(value, extension.critical)
    cert = builder.sign(pki.private_key(issuer.key), hashes.SHA256())
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def test_a_boot_key_is_made_once_where_it_is_asked_for_and_never_shown() -> None:
    assert K3S.boot_key is None
    have = identity.issue(Wanted("lab", "k3s", NODES, boot_key=True), K3S, NOW)
    assert have == replace(K3S, boot_key=have.boot_key)
    for boot_key in (True, False):
        assert identity.issue(Wanted("lab", "k3s", NODES, boot_key=boot_key), have, NOW) == have
    assert identity.loads(identity.dumps(have), "identity.json") == have
    identity.check(have, NOW)
    key = have.boot_key
    assert key is not None
    assert key.reveal() in set(have.values())
    assert key.reveal() not in repr(have) + repr(list(identity.summary.rows(have)))
    files = identity.layout.everything(have)
    assert files["boot.key"].mode == 0o600
    assert files["boot.pub"].data.startswith(b"-----BEGIN PUBLIC KEY-----")


def test_the_public_part_of_a_boot_key_is_modulus_and_exponent_as_the_eeprom_reads_them() -> None:
    public = bootkey.public(bootkey.new())
    assert len(public) == 264
    assert int.from_bytes(public[:256], "little").bit_length() == 2048
    assert int.from_bytes(public[256:], "little") == 65537


@pytest.mark.parametrize("key", [pki.elliptic_key(), Secret("no key")])
def test_a_boot_key_of_another_kind_is_refused(key: Secret) -> None:
    with pytest.raises(PibakeError, match="the boot key is unusable"):
        identity.check(replace(K3S, boot_key=key), NOW)
