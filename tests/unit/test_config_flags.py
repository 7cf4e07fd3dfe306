"""A node without a cluster.yaml: the same rules, with flags named in place of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pibake import config
from pibake.errors import ConfigError
from pibake.plan import BaseRef, plan

if TYPE_CHECKING:
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
DIGEST = "0" * 64


def adhoc(**flags: Any) -> config.Cluster:
    given = {"hostname": "node3", "address": "192.168.10.13/24", "ssh_keys": [KEY], **flags}
    return config.adhoc(bases=("debian-13",), **given)


def refused(**flags: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        adhoc(**flags)
    return list(caught.value.problems)


def test_an_address_and_a_key_are_enough() -> None:
    node = plan(adhoc()).nodes[0]
    assert (node.fqdn, str(node.link.address), node.base.name) == (
        "node3.home.arpa",
        "192.168.10.13/24",
        "debian-13",
    )
    assert node.link.gateway is None
    assert [user.name for user in node.users] == ["pi"]
    assert node.users[0].ssh_keys[0].text == KEY


def test_every_flag_ends_up_in_the_plan() -> None:
    decided = plan(
        adhoc(
            hostname="node3.lab.example",
            gateway="192.168.10.1",
            dns=["1.1.1.1"],
            user="ops",
            base="debian-13",
        )
    )
    node = decided.nodes[0]
    assert decided.domain == "lab.example"
    assert str(node.link.gateway) == "192.168.10.1"
    assert node.link.nameservers == ("1.1.1.1",)
    assert node.users[0].name == "ops"
    assert decided.sources == ()


def test_missing_flags_are_told_all_at_once_and_nothing_else() -> None:
    assert refused(address="", ssh_keys=[]) == [
        "--address: without a cluster.yaml, a node needs its address\n   hint: write it like 192.168.10.13/24",
        (
            "--ssh-key: without a cluster.yaml, a node needs a key to log in with\n"
            "   hint: give a key, a .pub file or an https URL: --ssh-key ~/.ssh/id_ed25519.pub"
        ),
    ]


def test_an_address_needs_its_prefix_because_there_is_no_subnet() -> None:
    assert refused(address="10.0.0.4") == [
        "--address: without a cluster.yaml, the address needs its prefix\n   hint: write 10.0.0.4/24"
    ]
    assert "write fd00::4/64" in refused(address="fd00::4")[0]


@pytest.mark.parametrize(
    ("flags", "start"),
    [
        ({"hostname": "Node3"}, "--hostname: Node3 is not a host name"),
        ({"hostname": "node3.lab_1.example"}, "--hostname: node3.lab_1.example is not a host name"),
        ({"address": "10.0.0.300/24"}, "--address: 10.0.0.300/24 is not an IPv4 or IPv6 address"),
        ({"address": "192.168.10.0/24"}, "--address: 192.168.10.0 is the network address"),
        ({"gateway": "192.168.1.1"}, "--gateway: the gateway 192.168.1.1 is outside"),
        ({"dns": ["1.1.1.1", "8.8.8.8", "9.9.9.9", "4.4.4.4"]}, "--dns: a fourth name server"),
        ({"base": "debain-13"}, "--base: debain-13 is not a base of the catalogue"),
        ({"base": "./a.img"}, "--base: an image of your own needs its SHA-256 digest"),
        ({"base": f"/none/a.img#sha256={DIGEST}"}, "--base: there is no file /none/a.img"),
        ({"base": "https://files.lab.example/a.img#sha256=12"}, "--base: 12 is not a SHA-256 digest"),
        ({"ssh_keys": ["none.pub"]}, "--ssh-key: cannot use none.pub: there is no such file"),
        ({"ssh_keys": ["http://files.lab.example/k"]}, "--ssh-key: http:// is not used here"),
        ({"ssh_keys": [f"{KEY[:40]}"]}, "--ssh-key: this ssh-ed25519 key is damaged"),
        ({"ssh_keys": ["-----BEGIN OPENSSH PRIVATE KEY----- hunter2"]}, "--ssh-key: this is a private key"),
        ({"ssh_keys": [""]}, "--ssh-key: this is not an SSH public key"),
        ({"user": "root"}, "--user: root cannot be a user here"),
    ],
)
def test_a_mistake_is_told_by_its_flag(flags: dict[str, Any], start: str) -> None:
    problems = refused(**flags)
    assert problems[0].startswith(start)
    assert "hunter2" not in problems[0]


def test_images_of_ones_own_carry_their_digest_behind_a_hash_mark(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.touch()
    assert plan(adhoc(base=f"{image}#sha256={DIGEST}")).nodes[0].base == BaseRef(
        file=str(image), sha256=DIGEST
    )
    url = "https://files.lab.example/a.img.xz"
    assert plan(adhoc(base=f"{url}#sha256={DIGEST}")).nodes[0].base == BaseRef(url=url, sha256=DIGEST)


def test_keys_come_as_text_file_or_url(tmp_path: Path) -> None:
    (tmp_path / "k.pub").write_text(f"{KEY} file\n")
    cluster = adhoc(ssh_keys=[str(tmp_path / "k.pub"), "https://github.com/me.keys"])
    keys = plan(cluster).nodes[0].users[0].ssh_keys
    assert [(key.text, key.url) for key in keys] == [(f"{KEY} file", ""), ("", "https://github.com/me.keys")]
    assert plan(cluster).sources == (tmp_path / "k.pub",)
