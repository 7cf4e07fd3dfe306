"""A small base whose nodes can boot from the wire: every board's firmware, kernel modules, and a Python as far as it is linked."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools import layouts
from tests.tools.images import tool

from pibake.boards import BOARDS
from pibake.image import cpio, elf
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping

HASH = "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"
RELEASE = "6.12.47+rpt-rpi-v8"
"""A kernel of Raspberry Pi's own, which drives the Ethernet of every board."""
WITHOUT = "6.12.48+deb13-arm64"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
INITRAMFS = gzip.compress(
    cpio.pack(Tree({"init": File(b"#!/bin/sh\n", 0o755), "scripts/local": File(b"# theirs\n")})), mtime=0
)
"""What the base's own initramfs holds."""
MODULES = {"nfsv4": ("nfs", "sunrpc"), "nfs": ("sunrpc",), "sunrpc": (), "overlay": (), "nbd": ()}
"""Module -> what it needs, as in modules.dep: what is loaded first stands last."""


def base(
    path: Path,
    *,
    boot: Mapping[str, layouts.Content | None] | None = None,
    root: Mapping[str, layouts.Content | None] | None = None,
    layout: str = "debian-13",
) -> tuple[Path, str]:
    """Make the image, and return it with its sha256; files of `boot` and `root` go over its own, and None takes one away."""
    files: dict[str, layouts.Content | None] = {"initrd.img": INITRAMFS}
    for board in BOARDS.values():
        files |= dict.fromkeys((*board.firmware, *board.device_trees[:1]), board.name)
    folder = f"usr/lib/modules/{RELEASE}"
    lines = [
        f"kernel/{name}.ko:{''.join(f' kernel/{other}.ko' for other in needed)}\n"
        for name, needed in MODULES.items()
    ]
    system: dict[str, layouts.Content | None] = {
        f"usr/lib/modules/{WITHOUT}/modules.dep": None,
        f"{folder}/modules.dep": "".join(lines),
        f"{folder}/modules.builtin": "kernel/loop.ko\nkernel/ext4.ko\n",
        **{f"{folder}/kernel/{name}.ko": f"\x7fELF {name}" for name in MODULES},
        **_linked("usr/bin/python3.13"),
    }
    layouts.make(layout, path, boot={**files, **(boot or {})}, root={**system, **(root or {})}, size=48)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def _linked(name: str) -> dict[str, layouts.Content]:
    """Return a program of this host's in the place of another one, with the libraries it is linked with."""
    program = Path("/bin/true").read_bytes()
    needs = elf.needs(program, name)
    known = dict(re.findall(r"^\t(\S+) .*=> (\S+)$", tool("ldconfig", "-p").decode(), re.MULTILINE))
    loader = Path(needs.loader)
    libraries = {loader.name: loader, **{library: Path(known[library]) for library in needs.libraries}}
    return {
        name: program,
        needs.loader.lstrip("/"): loader.read_bytes(),
        **{f"usr/lib/x86_64-linux-gnu/{library}": path.read_bytes() for library, path in libraries.items()},
    }


def cluster(image: Path, digest: str, nodes: str, more: str = "", subnet: str = "10.77.0") -> str:
    """Return a cluster.yaml with these lines of nodes."""
    return (
        f"cluster: lab\ndomain: lab.example\n"
        f"network: {{subnet: {subnet}.0/24, gateway: {subnet}.254, dns: [{subnet}.254]}}\n"
        f"defaults:\n  base: {{file: {image}, sha256: {digest}}}\n{more}"
        f"users:\n  - {{name: ops, ssh_keys: ['{KEY}'], password_hash: '{HASH}'}}\nnodes:\n{nodes}"
    )
