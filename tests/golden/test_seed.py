"""Whole rendered seeds, as they stand on a card; `pytest --update-golden` writes them anew."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.seeding import on

from pibake.plan import Disk
from pibake.seed import seed
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

HERE = Path(__file__).parent
CMDLINE = "console=serial0,115200 console=tty1 root=LABEL=writable rootfstype=ext4 rootwait fixrtc\n"


@pytest.mark.parametrize("name", ["plain", "vlan-ipv6-overlay", "wired", "disks"])
def test_the_seed_is_as_it_was(name: str, plain_node: NodePlan, *, update_golden: bool) -> None:
    node, overlay, path = plain_node, Tree(), "cmdline.txt"
    if name == "vlan-ipv6-overlay":
        link = dataclasses.replace(
            node.link,
            address=ipaddress.ip_interface("fd00::13/64"),
            gateway=ipaddress.ip_address("fd00::1"),
            nameservers=("fd00::1",),
            vlan=10,
            mac="dc:a6:32:01:02:03",
        )
        node = dataclasses.replace(node, link=link)
        overlay, path = Tree({"etc/motd": File(b"hello\n")}), "current/cmdline.txt"
    if name == "wired":
        link = dataclasses.replace(node.link, mac="dc:a6:32:01:02:03")
        report = "http://192.168.10.2:8069/report"
        node = dataclasses.replace(node, link=link, wired=True, report=report)
    if name == "disks":
        data = Disk("/dev/sda", "/var/lib/longhorn", "ext4", "data", "lab/node3/data")
        more = Disk("/dev/disk/by-id/usb-T7", "/srv/more", "xfs", "more", "lab/node3/more")
        node = dataclasses.replace(node, disks=(data, more), packages=("xfsprogs",))
    keys = {user.name: [key.text for key in user.ssh_keys] for user in node.users}
    tree = seed(node, keys, overlay, **on(CMDLINE, path), epoch=1_700_000_000).tree
    shown = {path: readable(file) for path, file in tree}
    if update_golden:
        Tree({path: File(text.encode()) for path, text in shown.items()}).write(HERE / name)
    expected = {
        file.relative_to(HERE / name).as_posix(): file.read_text("utf-8")
        for file in (HERE / name).rglob("*")
        if file.is_file()
    }
    assert shown == expected


def readable(file: File) -> str:
    """Return a seed's file without what changes with every line of the joining program: its text, and the hash."""
    text = re.sub(r'content: "[A-Za-z0-9+/=]{4000,}"', 'content: "..."', file.data.decode())
    return re.sub(r"pibake-[0-9a-f]{16}", "pibake-<hash>", text)
