"""dnsmasq itself judges its configuration."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

import pytest

from pibake.boards import BOARDS
from pibake.netboot.dnsmasq import Uefi, config
from pibake.netboot.values import PROXY, SERVER, Client, Site

if TYPE_CHECKING:
    from pathlib import Path

SITE = Site("eth0", IPv4Interface("192.168.10.2/24"))
CLIENTS = [
    Client(f"{name}.lab.example", IPv4Address(f"192.168.10.{number}"), mac, serial, board, "nfs")
    for number, (name, board, mac, serial) in enumerate(
        (
            (f"{kind}-{board.name.replace('+', 'plus')}", board, mac, serial)
            for board in BOARDS.values()
            for kind, mac, serial in (("mac", "dc:a6:32:01:02:03", ""), ("serial", "", "1234abcd"))
        ),
        11,
    )
]


def judged(text: str, folder: Path) -> None:
    (folder / "dnsmasq.conf").write_text(text)
    argv = ["dnsmasq", "--test", "-C", str(folder / "dnsmasq.conf")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("uefi", [None, Uefi("uefi/grub.efi", "http://192.168.10.2:8069/uefi/boot.efi")])
@pytest.mark.parametrize("gateway", [None, IPv4Address("192.168.10.1")])
@pytest.mark.parametrize("names", [(), ("9.9.9.9", "1.1.1.1")])
@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_dnsmasq_takes_the_configuration_of_every_board(
    dhcp: str, names: tuple[str, ...], gateway: IPv4Address | None, uefi: Uefi | None, tmp_path: Path
) -> None:
    site = replace(SITE, dhcp=dhcp, nameservers=names, gateway=gateway, domain="lab")
    judged(config(site, CLIENTS, tftp_root=str(tmp_path), run=str(tmp_path), uefi=uefi), tmp_path)


def test_dnsmasq_takes_the_configuration_of_no_board(tmp_path: Path) -> None:
    judged(config(SITE, [], tftp_root=str(tmp_path), run=str(tmp_path)), tmp_path)


def test_folders_may_have_any_printable_name(tmp_path: Path) -> None:
    folder = tmp_path / 'a, b #"c\\d:e'
    folder.mkdir()
    judged(config(SITE, CLIENTS, tftp_root=str(folder), run=str(folder)), tmp_path)
    text = config(SITE, CLIENTS, tftp_root=str(folder / "absent"), run=str(folder))
    (tmp_path / "dnsmasq.conf").write_text(text.replace("eth0", "lo"))
    argv = ["unshare", "-n", "dnsmasq", "-C", str(tmp_path / "dnsmasq.conf")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
    assert f"TFTP directory {folder}/absent inaccessible" in done.stderr


def test_a_path_cannot_bring_a_line_of_its_own() -> None:
    with pytest.raises(ValueError, match="control character"):
        config(SITE, CLIENTS, tftp_root="/srv\ndhcp-script=/bin/sh", run="/run")
