"""Data disks through a node's life in QEMU: made, found again, found by a node that was flashed anew, and left alone.

Beside `tests/tools/test_disks.py`, which has all that a disk can be, this has what only a boot shows: that the kernel gives disks the
names they have in cluster.yaml, that all of it comes in time, and that Kubernetes waits. A unit called k3s.service that looks at what
is mounted stands for k3s, since it is by its name that it waits.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.boot.test_boot import Card

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.flavours

FACTS = (
    "for name in data fast named; do sudo blkid -p -o value -s LABEL -s TYPE -s PART_ENTRY_NAME"
    " $(findmnt -n -o SOURCE /srv/$name) | xargs; done"
)
DISKS = {"data": "/dev/sda", "fast": "/dev/nvme0n1", "named": "/dev/disk/by-id/usb-Samsung_T7_S5-0:0"}
K3S = """[Unit]
Description=looks at what is mounted when it is started

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'findmnt -n -o TARGET /srv/data > /run/k3s-saw; findmnt -n -o TARGET /srv/fast >> /run/k3s-saw'

[Install]
WantedBy=multi-user.target
"""


class Node(Card):
    """A node with three data disks: on SCSI, on NVMe, and one that has its name from udev."""

    def build(self, address: str) -> None:
        listed = "".join(
            f"      - {{device: '{path}', mount: /srv/{name}}}\n" for name, path in DISKS.items()
        )
        (self.folder / "cluster.yaml").write_text(
            "cluster: lab\n"
            "network: {subnet: 192.168.10.0/24, gateway: 192.168.10.1}\n"
            "users:\n  - {name: ops, ssh_keys: [{file: id.pub}]}\n"
            f"classes:\n  storage:\n    overlays: [k3s-like]\n    disks:\n{listed}"
            f"nodes:\n  - {{hostname: node3, address: {address}, class: storage}}\n"
        )
        units = self.folder / "overlays/k3s-like/etc/systemd/system"
        (units / "multi-user.target.wants").mkdir(parents=True)
        (units / "k3s.service").write_text(K3S)
        (units / "multi-user.target.wants/k3s.service").symlink_to("/etc/systemd/system/k3s.service")
        self.pibake("build", "--hostname", "node3")

    def disk(self, label: str) -> Path:
        return self.folder / f"node3-{label}.qcow2"


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory, debian_13: Path) -> Node:
    assert debian_13.exists()
    made = Node(tmp_path_factory.mktemp("card"))
    made.build("192.168.10.13")
    return made


def seen(card: Node, said: dict[str, Any], *commands: str) -> dict[str, str]:
    return {command: card.ssh(said["ssh_port"], command) for command in commands}


@pytest.fixture(scope="module")
def first(card: Node) -> dict[str, Any]:
    with card.booted() as said:
        said["ssh"] = seen(
            card, said,
            "cat /run/k3s-saw", FACTS, "findmnt -n -o SOURCE /srv/data", "findmnt -n -o SOURCE /srv/fast",
            "echo kept | sudo tee /srv/data/kept /srv/fast/kept /srv/named/kept", "cat /run/pibake/state.json",
            "findmnt -n -o PROPAGATION /srv/data",
        )  # fmt: skip
    return said


@pytest.fixture(scope="module")
def second(card: Node, first: dict[str, Any]) -> dict[str, Any]:
    assert first
    with card.booted() as said:
        said["ssh"] = seen(
            card, said, "cat /srv/data/kept /srv/fast/kept /srv/named/kept", "cat /run/k3s-saw"
        )
    return said


@pytest.fixture(scope="module")
def anew(card: Node, second: dict[str, Any]) -> dict[str, Any]:
    """The node on a card that was flashed anew, with its old data disks."""
    assert second
    (card.folder / "node3.qcow2").unlink()
    with card.booted() as said:
        said["ssh"] = seen(
            card, said, "cat /srv/data/kept /srv/fast/kept /srv/named/kept", "cat /run/k3s-saw"
        )
    return said


@pytest.fixture(scope="module")
def foreign(card: Node, anew: dict[str, Any]) -> dict[str, Any]:
    """The node with somebody else's disk as /dev/sda."""
    assert anew
    raw = card.folder / "foreign"
    raw.write_bytes(b"")
    subprocess.run(["truncate", "-s", "1G", raw], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-L", "photos", raw], check=True)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, card.disk("data")], check=True)
    with card.booted() as said:
        said["ssh"] = seen(
            card, said,
            "sudo blkid -p -o value -s LABEL /dev/sda",
            "systemctl is-active k3s.service || :", "ls /run/k3s-saw || :", "cat /srv/fast/kept", "cat /run/pibake/state.json",
            "sudo wipefs --all --quiet /dev/sda",
            # the next attempt is half a minute away at most
            "for i in $(seq 120); do findmnt -n -o TARGET /srv/data && exit; sleep 1; done",
            "sudo systemctl start k3s.service && cat /run/k3s-saw",
        )  # fmt: skip
    return said


def test_each_disk_is_made_under_the_name_it_has_in_cluster_yaml(first: dict[str, Any]) -> None:
    assert first["healthy"], [check for check in first["checks"] if not check["ok"]]
    assert {f"disk {name}" for name in DISKS} <= {check["name"] for check in first["checks"]}
    ssh = first["ssh"]
    assert ssh["findmnt -n -o SOURCE /srv/data"] == "/dev/sda1"
    assert ssh["findmnt -n -o SOURCE /srv/fast"] == "/dev/nvme0n1p1"
    facts = [set(line.split()) for line in ssh[FACTS].splitlines()]
    assert facts == [{name, "ext4", f"pibake:{name}:node3"} for name in DISKS]
    assert json.loads(ssh["cat /run/pibake/state.json"])["stage"] == "scrubbed"
    # what a container mounts below it reaches the host, which Longhorn needs
    assert ssh["findmnt -n -o PROPAGATION /srv/data"] == "shared"


def test_they_are_mounted_before_kubernetes_starts(first: dict[str, Any], second: dict[str, Any]) -> None:
    for said in (first, second):
        assert said["ssh"]["cat /run/k3s-saw"].split() == ["/srv/data", "/srv/fast"]


def test_a_second_boot_mounts_them_with_their_data(second: dict[str, Any]) -> None:
    assert second["healthy"], [check for check in second["checks"] if not check["ok"]]
    assert second["ssh"]["cat /srv/data/kept /srv/fast/kept /srv/named/kept"].split() == ["kept"] * 3


def test_a_node_that_was_flashed_anew_has_its_data(anew: dict[str, Any]) -> None:
    assert anew["healthy"], [check for check in anew["checks"] if not check["ok"]]
    assert anew["ssh"]["cat /srv/data/kept /srv/fast/kept /srv/named/kept"].split() == ["kept"] * 3
    assert anew["ssh"]["cat /run/k3s-saw"].split() == ["/srv/data", "/srv/fast"]


def test_somebody_elses_disk_is_left_alone_and_said_and_kubernetes_waits(foreign: dict[str, Any]) -> None:
    assert not foreign["healthy"]
    checks = {check["name"]: check for check in foreign["checks"]}
    assert "/dev/sda is not empty, and is left alone: it holds ext4" in checks["disk data"]["problem"]
    assert checks["disk fast"]["ok"]
    join = foreign["report"]["join"]
    assert (join["stage"], join["status"]) == ("install", "failed")
    assert "data disk data: /dev/sda is not empty" in join["detail"]
    ssh = foreign["ssh"]
    assert ssh["systemctl is-active k3s.service || :"] == "inactive"
    assert ssh["ls /run/k3s-saw || :"] == ""
    assert ssh["cat /srv/fast/kept"] == "kept"
    assert ssh["sudo blkid -p -o value -s LABEL /dev/sda"] == "photos"


def test_once_it_is_emptied_it_is_made_by_itself(foreign: dict[str, Any]) -> None:
    ssh = foreign["ssh"]
    assert ssh["for i in $(seq 120); do findmnt -n -o TARGET /srv/data && exit; sleep 1; done"] == "/srv/data"
    assert ssh["sudo systemctl start k3s.service && cat /run/k3s-saw"].split() == ["/srv/data", "/srv/fast"]
