"""What NFS-Ganesha is told: one port, NFS version 4 only, and who may see what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import resources

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network
    from pathlib import Path

    from pibake.netboot.values import Site

LEASE = 6
"""Seconds for which a silent node keeps what it has opened. A node renews after two thirds of it, and so finds out
then, if not before, that the server was started again (RFC 8881 section 8.3). Ganesha looks every half of it whether
all have taken back what they had open (src/MainNFSD/nfs_reaper_thread.c), and opens nothing new until they have."""
GRACE = 10
"""Seconds after a start for which it waits for those that do not come back (RFC 8881 section 8.4.2.1): longer than
the lease."""
LAST = 65535
"""The largest number of an export; 0 is the root of all paths."""
GOLDEN = "/golden"


@dataclass(frozen=True)
class Export:
    """A folder nodes can mount.

    Attributes:
        number: 1 to 65535, of this export only and for ever: it is part of every file handle a node holds
            (src/include/nfs_fh.h, `file_handle_v4`).
        path: the folder on this server.
        pseudo: the path that nodes mount.
        clients: the node, or the subnet, that may.
        writable: whether they may write.
    """

    number: int
    path: Path
    pseudo: str
    clients: IPv4Address | IPv4Network
    writable: bool = False


def own(hostname: str) -> str:
    """Return the path under which a node mounts its own folder."""
    return f"/nodes/{hostname}"


def render(site: Site, exports: Sequence[Export], recovery: Path) -> str:
    """Return ganesha.conf; `recovery` is the folder in which Ganesha notes which nodes have something open.

    Raises:
        ValueError: a path holds what the file cannot: a quotation mark, a backslash, a control character.
    """
    return resources.render(
        "netboot/ganesha.conf.j2",
        site=site,
        exports=[vars(export) | {"path": _quoted(export.path)} for export in exports],
        recovery=_quoted(recovery),
        lease=LEASE,
        grace=GRACE,
    )


def _quoted(value: object) -> str:
    text = resources.line(value)
    if '"' in text or "\\" in text:
        raise ValueError(f"{text!r} holds a quotation mark or a backslash, which ganesha.conf cannot")
    return f'"{text}"'
