"""The kernel command line of a node on the wire: the one of its card, with its root elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.netboot.values import Client, Root, Site

OF_A_CARD = re.compile(
    r"(root|rootfstype|rootflags|init|fsck\.\w+|nfsroot|ip|boot|netroot|pibake\.(?!clock)\w+)=.*|rootwait|resize|ro|rw"
)
"""Words about where a card's root file system is, how it is checked and who makes it larger."""


def cmdline(card: str, client: Client, site: Site, golden: Root) -> str:
    """Return the line.

    Nothing here says `ip=`: cloud-init would then take the network from the initramfs and ignore the seed's
    (cloudinit/net/cmdline.py). `boot=pibake` is for initramfs-tools (its manual, "boot scripts"); dracut reads `pibake.root`.

    Args:
        card: the line of the node's card.
        client: the node.
        site: the server.
        golden: the golden image it boots from.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', card)
    split = words.index("--") if "--" in words else len(words)
    own = client.root == "nbd"
    kept = [word for word in words[:split] if not OF_A_CARD.fullmatch(word) or (own and _stays(word))]
    return " ".join([*kept, *_ours(client, site, golden), *words[split:]]) + "\n"


def _stays(word: str) -> bool:
    """Tell whether a word about the root is as true of a disk on the server as of a card."""
    return not word.startswith(("init=", "nfsroot=", "ip=", "boot=", "netroot=", "pibake."))


def _ours(client: Client, site: Site, golden: Root) -> Sequence[str]:
    ports = site.ports
    words = [
        "boot=pibake",
        f"pibake.root={client.root}",
        f"pibake.server={site.address.ip}",
        f"pibake.http={ports.http}",
        f"pibake.name={client.hostname}",
        f"pibake.ip={client.address}/{site.address.network.prefixlen}",
    ]
    if client.mac:
        words.append(f"pibake.mac={client.mac}")
    if client.root == "nbd":
        return [*words, f"pibake.nbd={ports.nbd}"]
    shared = f"pibake.golden={golden.name}+{golden.offset}"
    where = [f"pibake.state={client.state}", f"pibake.boot=/{golden.boot}"]
    # without a state that lasts, the machine would be another one at each boot
    lasting = [f"systemd.machine_id={client.machine_id}"] if client.state == "ram" else []
    return [*words, "root=/dev/nfs", f"pibake.nfs={ports.nfs}", shared, *where, *lasting]
