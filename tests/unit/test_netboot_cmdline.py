"""The kernel command line on the wire, and which nodes can be there."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

import pytest
from tests.seeding import DEBIAN, on

from pibake.boards import BOARDS
from pibake.netboot.cmdline import cmdline
from pibake.netboot.values import Client, Ports, Root, Site
from pibake.plan import Wire
from pibake.seed import seed
from pibake.serve.golden import unfit
from pibake.system import Growth, Kernel, Network
from pibake.tree import Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

CARD = (
    "console=serial0,115200 root=LABEL=writable rootfstype=ext4 rootwait fsck.repair=yes net.ifnames=0 ip=dhcp resize "
    "init=/usr/lib/raspberrypi-sys-mods/firstboot cgroup_memory=1 pibake.clock=1795620508 -- single\n"
)
SITE = Site("eth0", IPv4Interface("10.77.0.1/24"), gateway=IPv4Address("10.77.0.254"), ports=Ports(nfs=22049))
CLIENT = Client("node3", IPv4Address("10.77.0.13"), "dc:a6:32:01:02:03", "abcd1234", BOARDS["pi4"], "nfs")
ROOT = Root("0123456789abcdef", 537919488, "boot/firmware")
KEPT = ["console=serial0,115200", "net.ifnames=0", "cgroup_memory=1", "pibake.clock=1795620508"]


def words(client: Client) -> list[str]:
    text = cmdline(CARD, client, SITE, ROOT)
    assert text.endswith(" -- single\n")
    return text.split()[:-2]


def test_a_shared_root_is_found_by_our_own_words_and_by_none_of_the_cards() -> None:
    assert words(CLIENT) == [
        *KEPT, "boot=pibake", "pibake.root=nfs", "pibake.server=10.77.0.1", "pibake.http=8069", "pibake.name=node3", "pibake.ip=10.77.0.13/24",
        "pibake.mac=dc:a6:32:01:02:03", "root=/dev/nfs", "pibake.nfs=22049", "pibake.golden=0123456789abcdef+537919488",
        "pibake.state=server", "pibake.boot=/boot/firmware",
    ]  # fmt: skip


def test_a_disk_on_the_server_has_its_root_where_a_card_has_it() -> None:
    found = words(replace(CLIENT, root="nbd", mac=""))
    root = ["root=LABEL=writable", "rootfstype=ext4", "rootwait", "fsck.repair=yes"]
    assert [word for word in found if word in root] == root
    assert found[-1] == "pibake.nbd=10809"
    assert not [word for word in found if word.startswith(("ip=", "init=", "pibake.mac=", "pibake.golden="))]


def test_a_node_in_memory_is_the_same_machine_at_each_boot() -> None:
    one, other = (words(replace(CLIENT, state="ram", hostname=name))[-1] for name in ("node3", "node4"))
    assert one == words(replace(CLIENT, state="ram"))[-1]
    assert one.startswith("systemd.machine_id=")
    assert len(one) == len("systemd.machine_id=") + 32
    assert one != other


@pytest.mark.parametrize("root", ["nfs", "nbd"])
def test_cloud_init_is_left_no_reason_to_take_the_network_from_the_initramfs(root: str) -> None:
    card = "ip=dhcp nfsroot=1.2.3.4:/x netroot=nbd:1.2.3.4 boot=nfs init=/sbin/first quiet"
    said = cmdline(card, replace(CLIENT, root=root), SITE, ROOT).split()
    assert not any(word.startswith(("ip=", "nfsroot=", "netroot=", "init=")) for word in said)
    assert [word for word in said if word.startswith("boot=")] == ["boot=pibake"]
    assert said[0] == "quiet"


def test_what_is_for_process_1_stays_last_and_what_is_quoted_whole() -> None:
    line = cmdline('dyndbg="file root=x +p" quiet -- single root=y', CLIENT, SITE, ROOT)
    assert line.startswith('dyndbg="file root=x +p" quiet boot=pibake')
    assert line.endswith(" -- single root=y\n")


def test_what_is_rendered_for_a_card_and_rendered_again_stays() -> None:
    once = cmdline(CARD, CLIENT, SITE, ROOT)
    assert sorted(cmdline(once, CLIENT, SITE, ROOT).split()) == sorted(once.split())


@pytest.fixture
def node(plain_node: NodePlan) -> NodePlan:
    return replace(plain_node, serial="abcd1234")


def test_only_a_shared_root_is_never_made_larger(node: NodePlan) -> None:
    def user_data(wired: NodePlan) -> bytes:
        return seed(wired, {"ops": (), "bob": ()}, Tree(), epoch=1, **on("quiet")).tree["user-data"].data

    assert b"growpart" not in user_data(node)
    assert b'growpart: {mode: "off"}' in user_data(replace(node, wired=True))
    assert b"growpart" not in user_data(replace(node, wired=True, wire=Wire(root="nbd")))


def test_the_network_is_not_to_be_taken_down_under_a_root_behind_it(node: NodePlan) -> None:
    def network(wired: NodePlan) -> bytes:
        return seed(wired, {"ops": (), "bob": ()}, Tree(), epoch=1, **on("quiet")).tree["network-config"].data

    assert b"critical: true" in network(replace(node, wired=True))
    assert b"critical" not in network(node)


def test_a_node_on_the_wire_reports_to_its_server(node: NodePlan) -> None:
    url = "http://10.77.0.1:8069/report"
    made = seed(replace(node, wired=True, report=url), {"ops": (), "bob": ()}, Tree(), epoch=1, **on("quiet"))
    assert f'"phone_home": "{url}"'.encode() in made.public["etc/pibake/node.json"].data


def test_systems_that_would_lose_such_a_root_are_refused() -> None:
    old = replace(DEBIAN, kernels=(Kernel("vmlinuz", "5.4.0-1130-raspi"),))
    assert (
        unfit(replace(DEBIAN, growth=Growth.NONE), "nfs") == unfit(DEBIAN, "nbd") == unfit(old, "nfs") == ""
    )
    assert "5.4.0-1130-raspi" in unfit(old, "nbd")
    assert "Python" in unfit(replace(DEBIAN, python=""), "nbd")
    assert "network-manager" in unfit(replace(DEBIAN, network=Network.NETWORK_MANAGER), "nfs")
    assert "sysvinit" in unfit(replace(DEBIAN, init="sysvinit"), "nfs")
