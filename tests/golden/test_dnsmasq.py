"""The configuration of dnsmasq for one board of each kind; `pytest --update-golden` writes it anew."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest

from pibake.boards import BOARDS
from pibake.netboot.dnsmasq import Uefi, config, hosts
from pibake.netboot.values import PROXY, SERVER, Client, Site

HERE = Path(__file__).parent / "dnsmasq"
NODES = (
    ("node1", "pi4", "dc:a6:32:01:02:03", "1234abcd"),
    ("node2", "pi3", "b8:27:eb:0a:0b:0c", ""),
    ("node3", "pi3b+", "", "5c2faaeb"),
    ("node4", "pi5", "", "9ffefdef"),
    ("node5", "generic", "52:54:00:12:34:56", ""),
    ("node6", "pi4", "dc:a6:32:01:02:06", "0006abcd"),
)
UEFI = Uefi("uefi/grubnetaa64.efi", "http://192.168.10.2:8069/uefi/boot.efi")


def clients() -> list[Client]:
    return [
        Client(
            name,
            IPv4Address(f"192.168.10.{number}"),
            mac,
            serial,
            BOARDS[board],
            "nfs",
            pinned=name == "node6",
        )
        for number, (name, board, mac, serial) in enumerate(NODES, 11)
    ]


def site(dhcp: str) -> Site:
    return Site(
        "eth0",
        IPv4Interface("192.168.10.2/24"),
        dhcp,
        IPv4Address("192.168.10.1"),
        ("192.168.10.1", "9.9.9.9"),
        "lab.example",
    )


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_the_configuration_is_as_it_was(dhcp: str, *, update_golden: bool) -> None:
    text = config(
        site(dhcp), clients(), tftp_root="/srv/lab/netboot/tftp", run="/srv/lab/netboot/run", uefi=UEFI
    )
    for golden, written in (
        (HERE / f"{dhcp}.conf", text),
        (HERE / f"{dhcp}.hosts", hosts(site(dhcp), clients())),
    ):
        if update_golden:
            HERE.mkdir(exist_ok=True)
            golden.write_text(written, "utf-8")
        assert written == golden.read_text("utf-8")


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_it_stays_the_same_when_nodes_get_mac_addresses_and_so_needs_no_restart(dhcp: str) -> None:
    def written(clients: list[Client]) -> str:
        return config(site(dhcp), clients, tftp_root="/srv/tftp", run="/run")

    by_mac, by_serial = clients()[0], clients()[3]
    first = replace(by_serial, mac="2c:cf:67:01:02:03", pinned=True)
    assert written([by_serial]) == written([by_mac, first])
    assert hosts(site(dhcp), [by_serial]) == ""
    assert hosts(site(dhcp), [by_mac, first]).count("\n") == 3
