"""The kernel command line on the wire, and which nodes can be there."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_interface
from typing import TYPE_CHECKING

import pytest
from tests.seeding import DEBIAN, on

from pibake.boards import BOARDS
from pibake.netboot import initramfs
from pibake.netboot.cmdline import cmdline
from pibake.netboot.values import Client, Ports, Root, Site
from pibake.plan import Wifi, Wire
from pibake.plan.wire import mac, obstacle
from pibake.secret import Secret
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
        *KEPT, "boot=pibake", "pibake.root=nfs", "pibake.server=10.77.0.1", "pibake.name=node3", "pibake.ip=10.77.0.13/24",
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


def test_what_is_rendered_for_a_card_and_rendered_again_stays() -> None:
    once = cmdline(CARD, CLIENT, SITE, ROOT)
    assert sorted(cmdline(once, CLIENT, SITE, ROOT).split()) == sorted(once.split())


@pytest.fixture
def node(plain_node: NodePlan) -> NodePlan:
    return replace(plain_node, serial="abcd1234")


def test_a_node_with_a_serial_or_a_mac_can_boot_from_the_wire(node: NodePlan) -> None:
    assert obstacle(node) == ""
    assert obstacle(replace(node, serial="", link=replace(node.link, mac="dc:a6:32:01:02:03"))) == ""


def test_what_keeps_a_node_from_the_wire_is_said(node: NodePlan) -> None:
    wifi = Wifi("lab", Secret("4" * 64), "DE")
    address6 = replace(node.link, address=ip_interface("fd00::13/64"))
    found = [
        obstacle(replace(node, serial="")),
        obstacle(replace(node, board="zero2w")),
        obstacle(replace(node, wifi=wifi)),
        obstacle(replace(node, link=replace(node.link, vlan=10))),
        obstacle(replace(node, link=address6)),
    ]
    for reason, word in zip(found, ("serial", "Zero 2 W", "Wi-Fi", "VLAN", "IPv6"), strict=True):
        assert word in reason


def test_the_mac_address_of_a_board_with_a_boot_rom_follows_from_its_serial(node: NodePlan) -> None:
    assert mac(replace(node, board="pi3", serial="5c2faaeb")) == "b8:27:eb:2f:aa:eb"
    assert mac(replace(node, board="pi4", serial="5c2faaeb")) == ""


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


def test_both_kinds_of_initramfs_find_the_program() -> None:
    files = initramfs.scripts().files
    assert files[initramfs.PROGRAM].mode == 0o755
    assert b"mountroot()" in files["scripts/pibake"].data
    for folder in initramfs.DRACUT:
        assert b"/pibake/mount nfs" in files[f"{folder}/mount/05-pibake.sh"].data
