"""What an arm64 machine with UEFI loads from the wire: shim, GRUB, and GRUB's own files.

The firmware loads shim, by PXE or by UEFI HTTP boot; shim loads `grubaa64.efi` from where it came itself, and GRUB reads
`/grub/grub.cfg` there: that prefix is built into Debian's signed network image (grub2, debian/build-efi-images), with its
modules tftp, http, regexp, sleep, test, linux. With Secure Boot on, each checks the next, up to Debian's kernel.

    shimaa64.efi  grubaa64.efi    the programs (`pibake.serve.signedgrub`)
    grub/grub.cfg                 finds the node by its MAC address: GRUB knows no serial number
    <folder>/grub.cfg             the node's own: kernel, initramfs, command line
    <folder>/{shimaa64.efi,grubaa64.efi,grub}    links into the root, for a TFTP server that makes the folder the root

GRUB 2.12 manual, "Shell-like scripting", `linux`, `initrd`, `regexp`, `net_default_mac`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.resources import render
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.netboot.values import Client, Site

SHIM = "shimaa64.efi"
"""What the firmware is told to load, below the root of TFTP or HTTP (DHCP option 67; option 93 is 11, or 19 for HTTP)."""
GRUB = "grubaa64.efi"
"""The name shim has built in (shim, DEFAULT_LOADER)."""
CONFIG = "grub.cfg"
"""The name of a node's own file, in its folder."""
SHARED = (SHIM, GRUB, "grub")
"""What a node's folder needs links to, for a TFTP server that makes the folder the root."""
GENERATION = "uefi"
"""`Board.netboot` of the boards this is for."""
_ALTERED = re.compile(r"[\\'\"]")
"""What GRUB puts backslashes before in a kernel's command line (grub-core/lib/cmdline.c)."""
_PLAIN = re.compile(r"[\w./:=,@%+-]+", re.ASCII)
"""A word that needs no quotes in GRUB's language."""


def url(site: Site) -> str:
    """Return what a machine is told to load by UEFI HTTP boot; it stands in DHCP's `file`, so at most 127 bytes."""
    return f"http://{site.address.ip}:{site.ports.http}/{SHIM}"


def shared() -> Tree:
    """Return GRUB's files that all nodes share."""
    return Tree({"grub/grub.cfg": File(render("netboot/grub.cfg.j2").encode())})


def node(client: Client, *, kernel: str, initrds: Sequence[str], cmdline: str) -> str:
    """Return the `CONFIG` in one node's folder.

    Args:
        client: the node.
        kernel: path below the node's folder, such as `vmlinuz`; an arm64 EFI program, or one packed by gzip.
        initrds: archives for the initramfs, in order, below the node's folder.
        cmdline: the kernel's command line.

    Raises:
        PibakeError: the node has no MAC address, or a word of the command line would not arrive as it is.
        ValueError: a text holds a control character.
    """
    if not client.mac:
        raise PibakeError(
            f"{client.hostname} boots by UEFI, and GRUB tells machines apart by their MAC address only",
            f"give {client.hostname} its `mac` in cluster.yaml; a serial number is not enough",
        )
    return render(
        "netboot/grub-node.cfg.j2",
        hostname=client.hostname,
        kernel=_path(client, kernel),
        initrds=[_path(client, name) for name in initrds],
        words=[_word(client, word) for word in cmdline.split()],
    )


def _path(client: Client, name: str) -> str:
    return _word(client, f"/{client.folder}/{name}")


def _word(client: Client, word: str) -> str:
    """Return a word as GRUB's language spells it: in single quotes nothing has a meaning."""
    if _ALTERED.search(word) or not word.isprintable():
        raise PibakeError(
            f"GRUB would hand {word!r} to the kernel of {client.hostname} with backslashes in it",
            "leave quotes and backslashes out of the kernel's command line of nodes that boot by UEFI",
        )
    return word if _PLAIN.fullmatch(word) else f"'{word}'"
