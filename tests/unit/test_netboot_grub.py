"""GRUB's files: what a UEFI machine finds on the wire, and what is refused because it would not arrive as it is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from pibake.boards import BOARDS
from pibake.errors import PibakeError
from pibake.netboot import grub
from pibake.netboot.values import Client, Ports, Site

CLIENT = Client("node3", IPv4Address("10.88.0.13"), "52:54:00:12:34:56", "", BOARDS["generic"], "nbd")


def own(cmdline: str, initrds: tuple[str, ...] = ("initrd.img",)) -> str:
    return grub.node(CLIENT, kernel="vmlinuz", initrds=initrds, cmdline=cmdline)


def test_a_node_boots_what_is_in_the_folder_named_by_its_mac_address() -> None:
    text = own("console=ttyAMA0 root=/dev/nbd0", ("initrd.img", "pibake.cpio"))
    folder = "/52-54-00-12-34-56"
    assert f"if linux {folder}/vmlinuz console=ttyAMA0 root=/dev/nbd0; then" in text
    assert f"if initrd {folder}/initrd.img {folder}/pibake.cpio; then" in text


def test_what_has_a_meaning_to_grub_stands_in_quotes() -> None:
    assert " 'a;b' '$x' '{1,2}' c=d " in own("a;b $x {1,2} c=d e=f")


@pytest.mark.parametrize("word", ['a="b', r"a\b", "it's", "a\x07b"])
def test_what_grub_would_alter_is_refused(word: str) -> None:
    with pytest.raises(PibakeError, match="node3"):
        own(f"quiet {word}")


def test_a_machine_known_by_its_serial_only_is_refused() -> None:
    client = replace(CLIENT, mac="", serial="1234abcd")
    with pytest.raises(PibakeError, match="node3 boots by UEFI") as caught:
        grub.node(client, kernel="vmlinuz", initrds=[], cmdline="")
    assert "mac" in caught.value.hint


def test_http_boot_is_told_the_address_and_port_of_this_server() -> None:
    site = Site("eth0", IPv4Interface("10.88.0.1/24"), ports=Ports(http=8070))
    assert grub.url(site) == "http://10.88.0.1:8070/shimaa64.efi"
