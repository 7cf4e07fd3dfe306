"""The kernel's command line on the wire: the card's, but for where the root is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from pibake.boards import BOARDS
from pibake.netboot.cmdline import cmdline
from pibake.netboot.values import Client, Ports, Root, Site

CARD = (
    "console=tty1 root=LABEL=writable rootfstype=ext4 rootwait fsck.repair=yes net.ifnames=0 pibake.clock=5\n"
)
SITE = Site("br0", IPv4Interface("10.77.0.1/24"))
ROOT = Root("0123456789abcdef", 51380224, "boot/firmware")
NFS = Client("node3", IPv4Address("10.77.0.13"), "dc:a6:32:01:02:03", "abcd1234", BOARDS["pi4"], "nfs")
NBD = replace(NFS, root="nbd")


def words(card: str, client: Client = NFS, site: Site = SITE) -> list[str]:
    line = cmdline(card, client, site, ROOT)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    return line.split()


def test_a_shared_root_is_named_in_place_of_the_cards() -> None:
    assert words(CARD) == [
        "console=tty1",
        "net.ifnames=0",
        "pibake.clock=5",
        "boot=pibake",
        "pibake.root=nfs",
        "pibake.server=10.77.0.1",
        "pibake.name=node3",
        "pibake.ip=10.77.0.13/24",
        "pibake.mac=dc:a6:32:01:02:03",
        "root=/dev/nfs",
        "pibake.nfs=2049",
        "pibake.golden=0123456789abcdef+51380224",
        "pibake.state=server",
        "pibake.boot=/boot/firmware",
    ]


def test_a_disk_on_the_server_is_found_as_the_card_is() -> None:
    said = words(CARD, NBD)
    assert said[:6] == CARD.split()[:6]
    assert said[6:] == [
        "pibake.clock=5",
        "boot=pibake",
        "pibake.root=nbd",
        "pibake.server=10.77.0.1",
        "pibake.name=node3",
        "pibake.ip=10.77.0.13/24",
        "pibake.mac=dc:a6:32:01:02:03",
        "pibake.nbd=10809",
    ]


@pytest.mark.parametrize("client", [NFS, NBD], ids=["nfs", "nbd"])
def test_cloud_init_is_left_no_reason_to_take_the_network_from_the_initramfs(client: Client) -> None:
    said = words("ip=dhcp nfsroot=1.2.3.4:/x netroot=nbd:1.2.3.4 boot=nfs init=/sbin/first quiet", client)
    assert not any(word.startswith(("ip=", "nfsroot=", "netroot=", "init=")) for word in said)
    assert [word for word in said if word.startswith("boot=")] == ["boot=pibake"]
    assert said[0] == "quiet"


def test_only_a_root_that_is_shared_is_not_to_be_enlarged_or_mounted_writable() -> None:
    assert not {"resize", "rw", "ro"} & set(words("a resize rw ro b"))
    assert {"resize", "rw"} <= set(words("a resize rw b", NBD))


@pytest.mark.parametrize("client", [NFS, NBD], ids=["nfs", "nbd"])
def test_a_line_that_was_on_the_wire_already_stays_as_it_is(client: Client) -> None:
    once = cmdline(CARD, client, SITE, ROOT)
    assert cmdline(once, client, SITE, ROOT) == once


def test_what_is_for_process_1_stays_last_and_what_is_quoted_whole() -> None:
    line = cmdline('dyndbg="file root=x +p" quiet -- single root=y', NFS, SITE, ROOT)
    assert line.startswith('dyndbg="file root=x +p" quiet boot=pibake')
    assert line.endswith(" -- single root=y\n")


def test_a_board_known_by_its_serial_alone_looks_for_no_mac_address() -> None:
    assert not any(word.startswith("pibake.mac=") for word in words(CARD, replace(NFS, mac="")))


def test_ports_that_were_moved_are_named() -> None:
    moved = replace(SITE, ports=Ports(nfs=3049, nbd=20809))
    assert "pibake.nfs=3049" in words(CARD, NFS, moved)
    assert "pibake.nbd=20809" in words(CARD, NBD, moved)


@pytest.mark.parametrize("state", ["server", "LABEL=data", "/dev/sda1"])
def test_a_state_that_lasts_has_a_machine_id_of_its_own_making(state: str) -> None:
    said = words(CARD, replace(NFS, state=state))
    assert f"pibake.state={state}" in said
    assert not any(word.startswith("systemd.machine_id=") for word in said)


def test_a_node_that_forgets_everything_is_the_same_machine_at_each_boot_and_no_other() -> None:
    def identity(client: Client) -> str:
        (word,) = (word for word in words(CARD, client) if word.startswith("systemd.machine_id="))
        return word.partition("=")[2]

    ram = replace(NFS, state="ram")
    assert len(identity(ram)) == 32
    int(identity(ram), 16)
    assert identity(ram) == identity(replace(ram, address=IPv4Address("10.77.0.99")))
    assert identity(ram) != identity(replace(ram, hostname="node4"))
