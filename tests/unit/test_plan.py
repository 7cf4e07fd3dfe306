"""The plan: every default decided, and no secret in it."""

from __future__ import annotations

import json
import time
from ipaddress import IPv4Interface, ip_address
from typing import TYPE_CHECKING

import pytest

from pibake import config
from pibake.errors import PibakeError
from pibake.plan import BaseRef, Host, Overlay, Plan, Wifi, Wire, plan
from pibake.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

BASES = ("debian-13", "ubuntu-24.04")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINPT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT"
HASH = "$6$salt$" + "hunter2" * 12 + "xx"
FULL = f"""\
cluster: lab
domain: lab.example
defaults:
  base: ubuntu-24.04
  board: pi4
  labels: {{site: attic, disk: hdd}}
  overlays: [motd]
  timezone: Europe/Berlin
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1, dns: [9.9.9.9], search: [a.example, b.example], vlan: 10}}
users:
  - {{name: ops, ssh_keys: ["{KEY} me", {{file: k.pub}}, {{url: https://github.com/me.keys}}], groups: [video, video]}}
  - {{name: sam, password_hash: "{HASH}", sudo: false, shell: /bin/sh}}
nodes:
  - {{hostname: node3.lab.example, address: 192.168.10.13/24, labels: {{disk: ssd}}, overlays: [], serial: 10000000ABCD1234}}
  - {{hostname: node4, address: 192.168.10.14, role: server, board: pi5, mac: DC-A6-32-01-02-03,
     base: {{file: a.img, sha256: {"F" * 64}}}, timezone: Etc/UTC, locale: en_GB.UTF-8}}
"""
SMALL = f"""\
cluster: lab
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
nodes: [{{hostname: node3, address: 192.168.10.13}}]
"""
DUAL = f"""\
cluster: lab
defaults: {{link: wifi}}
network:
  subnet: 192.168.10.0/24
  ipv6: {{subnet: "fd00:10::/64", gateway: "fd00:10::1", ra: false}}
  wifi: {{ssid: lab, psk: "{"5" * 64}", country: DE}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
nodes:
  - {{hostname: node3, address: 192.168.10.13, address6: "fd00:10::13"}}
  - {{hostname: node4, address: 192.168.10.14, link: ethernet}}
"""

CLASSES = f"""\
cluster: lab
kubernetes: {{distribution: k3s, version: v1.31.4+k3s1}}
network: {{subnet: 192.168.10.0/24, gateway: 192.168.10.1}}
users: [{{name: ops, ssh_keys: ["{KEY}"]}}]
defaults:
  board: pi4
  role: server
  labels: {{site: attic, disk: hdd}}
  packages: [nftables]
  root: nbd
  disks: [{{device: /dev/sdz, mount: /srv/spare}}]
classes:
  storage:
    role: agent
    board: pi5
    labels: {{disk: ssd, tier: one}}
    taints: ["storage=yes:NoSchedule"]
    packages: [smartmontools]
    root: nfs
    state: ram
    overlays: [motd]
    disks:
      - {{device: /dev/sda, mount: /var/lib/longhorn}}
      - {{device: /dev/sdb, mount: /srv/more, filesystem: xfs, label: second}}
  unused: {{role: agent}}
nodes:
  - {{hostname: node1, address: 192.168.10.11}}
  - {{hostname: node2, address: 192.168.10.12, class: storage}}
  - {{hostname: node3, address: 192.168.10.13, class: storage, labels: {{tier: two}}, taints: [], disks: [], packages: [], timezone: Europe/Berlin}}
"""


def planned(folder: Path, text: str) -> Plan:
    (folder / "overlays/motd").mkdir(parents=True, exist_ok=True)
    (folder / "a.img").touch()
    (folder / "k.pub").write_text(f"{KEY} again\n{KEY.replace('PT', 'PU')} other\n")
    path = folder / "cluster.yaml"
    path.write_text(text)
    return plan(config.load(path, bases=BASES))


def test_what_nobody_says_is_decided(tmp_path: Path) -> None:
    node = planned(tmp_path, SMALL).nodes[0]
    assert (node.hostname, node.fqdn, node.image_name) == ("node3", "node3.home.arpa", "node3.img")
    assert (node.role, node.board, node.locale, node.timezone) == ("agent", "generic", "C.UTF-8", "Etc/UTC")
    assert node.base == BaseRef(name="debian-13")
    assert node.link.nameservers == ("192.168.10.1",)
    assert node.link.search == ("home.arpa",)
    assert (node.link.vlan, node.link.mac, node.serial) == (None, "", "")
    assert node.users[0].sudo
    assert node.users[0].password_hash == ""


def test_the_memory_of_a_node_wins_over_that_of_the_defaults(tmp_path: Path) -> None:
    text = FULL.replace("  board: pi4", "  board: pi4\n  memory: 512MiB").replace(
        "board: pi5", "board: pi5, memory: 16GiB"
    )
    found = planned(tmp_path, text)
    assert [node.memory for node in found.nodes] == [512, 16384]
    assert [node["memory"] for node in found.to_json()["nodes"]] == [512, 16384]
    assert planned(tmp_path, SMALL).nodes[0].memory == 0


def test_a_node_wins_over_the_defaults_and_labels_are_joined(tmp_path: Path) -> None:
    node3, node4 = planned(tmp_path, FULL).nodes
    assert dict(node3.labels) == {"disk": "ssd", "site": "attic"}
    assert list(node3.labels) == ["disk", "site"]
    assert node3.overlays == ()
    assert node4.overlays == (Overlay("motd", tmp_path / "overlays/motd"),)
    assert (node3.board, node4.board) == ("pi4", "pi5")
    assert (node3.timezone, node4.timezone) == ("Europe/Berlin", "Etc/UTC")
    assert node3.base == BaseRef(name="ubuntu-24.04")
    assert node4.base == BaseRef(file=str(tmp_path / "a.img"), sha256="f" * 64)


def test_addresses_take_the_subnets_prefix(tmp_path: Path) -> None:
    node3, node4 = planned(tmp_path, FULL).nodes
    assert node3.link.address == IPv4Interface("192.168.10.13/24")
    assert node4.link.address == IPv4Interface("192.168.10.14/24")
    assert node3.link.gateway == ip_address("192.168.10.1")
    assert (node3.link.nameservers, node3.link.search, node3.link.vlan) == (
        ("9.9.9.9",),
        ("a.example", "b.example"),
        10,
    )


def test_serials_and_macs_have_one_spelling(tmp_path: Path) -> None:
    node3, node4 = planned(tmp_path, FULL).nodes
    assert node3.serial == "abcd1234"
    assert node4.link.mac == "dc:a6:32:01:02:03"


def test_every_node_knows_every_host_by_the_same_object(tmp_path: Path) -> None:
    node3, node4 = planned(tmp_path, FULL).nodes
    assert node3.hosts is node4.hosts
    assert node3.users is node4.users
    assert node3.hosts == (
        Host("192.168.10.13", "node3.lab.example", "node3"),
        Host("192.168.10.14", "node4.lab.example", "node4"),
    )


def test_a_key_named_twice_is_one_key(tmp_path: Path) -> None:
    ops, sam = planned(tmp_path, FULL).nodes[0].users
    assert [(key.text.rpartition(" ")[2], key.url, key.origin) for key in ops.ssh_keys] == [
        ("me", "", "cluster.yaml"),
        ("other", "", "k.pub"),
        ("", "https://github.com/me.keys", "https://github.com/me.keys"),
    ]
    assert ops.groups == ("video",)
    assert (sam.sudo, sam.shell, sam.password_hash) == (False, "/bin/sh", HASH)


def test_the_sources_are_the_files_that_were_read(tmp_path: Path) -> None:
    assert planned(tmp_path, FULL).sources == (tmp_path / "cluster.yaml", tmp_path / "k.pub")


@pytest.mark.parametrize("name", ["node3", "node3.lab.example", "NODE3"])
def test_a_node_is_found_by_its_short_or_full_name(tmp_path: Path, name: str) -> None:
    assert planned(tmp_path, FULL).node(name).hostname == "node3"


@pytest.mark.parametrize(
    ("name", "hint"), [("nod3", "did you mean `node3`?"), ("zebra", "its nodes are node3, node4")]
)
def test_a_node_that_is_not_there_is_answered_with_one_that_is(tmp_path: Path, name: str, hint: str) -> None:
    with pytest.raises(PibakeError, match=f"the cluster lab has no node {name}") as caught:
        planned(tmp_path, FULL).node(name)
    assert caught.value.hint == hint


def test_the_json_holds_no_password_hash_and_all_else(tmp_path: Path) -> None:
    text = json.dumps(planned(tmp_path, FULL).to_json())
    assert "hunter2" not in text
    shown = json.loads(text)
    assert [user["password"] for user in shown["nodes"][0]["users"]] == [False, True]
    assert shown["nodes"][0]["address"] == "192.168.10.13/24"
    assert shown["nodes"][1]["base"] == {"file": str(tmp_path / "a.img"), "sha256": "f" * 64}


def test_a_second_address_and_wifi_are_decided_for_each_node(tmp_path: Path) -> None:
    node3, node4 = planned(tmp_path, DUAL).nodes
    assert str(node3.link.address6) == "fd00:10::13/64"
    assert str(node3.link.gateway6) == "fd00:10::1"
    assert (node4.link.address6, node4.link.gateway6) == (None, None)
    assert (node3.link.ra, node4.link.ra) == (False, False)
    assert node3.wifi == Wifi("lab", Secret("5" * 64), "DE")
    assert node4.wifi is None
    assert [host.address for host in node4.hosts] == ["192.168.10.13", "fd00:10::13", "192.168.10.14"]
    assert planned(tmp_path, SMALL).nodes[0].link.ra


def test_the_json_says_which_wifi_and_not_its_key(tmp_path: Path) -> None:
    decided = planned(tmp_path, DUAL)
    shown = decided.to_json()["nodes"]
    assert shown[0]["wifi"] == {"ssid": "lab", "country": "DE"}
    assert shown[1]["wifi"] is None
    assert (shown[0]["address6"], shown[0]["gateway6"], shown[0]["ra"]) == (
        "fd00:10::13/64",
        "fd00:10::1",
        False,
    )
    assert "5555" not in json.dumps(shown)
    assert "5555" not in repr(decided)


def test_the_same_file_gives_the_same_plan(tmp_path: Path) -> None:
    assert planned(tmp_path, FULL) == planned(tmp_path, FULL)


def test_nodes_can_be_keys_and_their_labels_do_not_change(tmp_path: Path) -> None:
    node = planned(tmp_path, FULL).nodes[0]
    assert {node: 1}[node] == 1
    with pytest.raises(TypeError):
        node.labels["disk"] = "x"  # type: ignore[index]


def test_a_thousand_nodes_are_planned_within_the_budget(tmp_path: Path) -> None:
    nodes = "".join(
        f"  - {{hostname: n{i}, address: 10.0.{i >> 8}.{i & 255}, labels: {{a: b}}, serial: {i:08x}}}\n"
        for i in range(1, 1001)
    )
    text = (
        SMALL.partition("nodes:")[0]
        .replace("192.168.10.0/24", "10.0.0.0/16")
        .replace(".168.10.1}", ".0.0.1}")
    )
    text = text.replace("gateway: 192.0.0.1", "gateway: 10.0.255.1") + f"nodes:\n{nodes}"
    started = time.process_time()
    assert len(planned(tmp_path, text).nodes) == 1000
    assert time.process_time() - started < 0.8


def test_a_class_stands_between_the_defaults_and_a_node(tmp_path: Path) -> None:
    first, second, third = planned(tmp_path, CLASSES).nodes
    assert (first.node_class, second.node_class) == ("", "storage")
    assert [node.role for node in (first, second, third)] == ["server", "agent", "agent"]
    assert [node.board for node in (first, second)] == ["pi4", "pi5"]
    assert dict(first.labels) == {"site": "attic", "disk": "hdd"}
    assert dict(second.labels) == {"site": "attic", "disk": "ssd", "tier": "one"}
    assert dict(third.labels) == {"site": "attic", "disk": "ssd", "tier": "two"}
    assert second.member
    assert third.member
    assert (second.member.taints, third.member.taints) == (("storage=yes:NoSchedule",), ())
    assert [node.wire for node in (first, second)] == [Wire("nbd"), Wire("nfs", "ram")]
    assert [overlay.name for overlay in second.overlays] == ["motd"]
    assert second.member.kubernetes.servers[0].hostname == "node1"


def test_lists_of_a_class_take_the_place_of_the_defaults(tmp_path: Path) -> None:
    first, second, third = planned(tmp_path, CLASSES).nodes
    assert first.packages == ("nftables",)
    assert second.packages == ("smartmontools", "xfsprogs")
    assert third.packages == ()
    assert [disk.label for disk in first.disks] == ["spare"]
    assert [(disk.label, disk.filesystem) for disk in second.disks] == [
        ("longhorn", "ext4"),
        ("second", "xfs"),
    ]
    assert third.disks == ()


def test_a_disk_has_the_same_identity_for_the_same_node_and_another_for_any_other(tmp_path: Path) -> None:
    first = planned(tmp_path, CLASSES).nodes[1].disks[0]
    again = planned(tmp_path, CLASSES.replace("/dev/sda", "/dev/nvme0n1")).nodes[1].disks[0]
    other = planned(tmp_path, CLASSES.replace("hostname: node2", "hostname: node9")).nodes[1].disks[0]
    assert (first.partition, first.table) == (again.partition, again.table)
    assert len({first.partition, first.table, other.partition, other.table}) == 4


def test_the_plan_prints_classes_and_disks(tmp_path: Path) -> None:
    shown = planned(tmp_path, CLASSES).to_json()["nodes"]
    assert [node["class"] for node in shown] == [None, "storage", "storage"]
    assert shown[1]["disks"][0]["mount"] == "/var/lib/longhorn"
