"""What NFS-Ganesha is told: one port, NFS version 4 only, and who may see what.

A file handle that a node holds across a restart has to mean the same file afterwards. Ganesha's holds the number of
the export (src/include/nfs_fh.h, `file_handle_v4`), what identifies the file system, and the kernel's own handle. It
takes a file system's UUID for that, and leaves out a second one with the same UUID (src/FSAL/localfs.c,
`posix_create_file_system`), which is every second golden image of one base. Hence for those `fsid_type = Device`: the
numbers of the device, which `pibake.serve.mounts` chooses.
"""

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
"""Seconds for which a silent node keeps what it has opened; a node renews after two thirds of it, and so finds out
then, if not before, that the server was started again (RFC 8881 section 8.3)."""
GRACE = 10
"""Seconds after a start in which nodes may take back what they had open; it ends early when all have (RFC 8881
section 8.4.2.1). It has to be longer than the lease."""
LAST = 65535
"""The largest number of an export; 0 is the root of all paths."""


@dataclass(frozen=True)
class Export:
    """A folder nodes can mount.

    Attributes:
        number: 1 to 65535, of this export only and for ever: it is part of every file handle.
        path: the folder on this server.
        pseudo: the path that nodes mount, such as `/golden/0123456789abcdef`.
        clients: the node, or the subnet, that may.
        writable: whether they may write.
        mounted: whether it is a golden image that `pibake.serve.mounts` has mounted.
    """

    number: int
    path: Path
    pseudo: str
    clients: IPv4Address | IPv4Network
    writable: bool
    mounted: bool


def golden(number: int, path: Path, digest: str, network: IPv4Network) -> Export:
    """Return the export of a golden image's mounted root file system: to read, for all of the subnet."""
    return Export(number, path, golden_path(digest), network, writable=False, mounted=True)


def own(number: int, path: Path, hostname: str, address: IPv4Address) -> Export:
    """Return the export of a node's own folder: to write, for its address only."""
    return Export(number, path, own_path(hostname), address, writable=True, mounted=False)


def golden_path(digest: str) -> str:
    """Return the path under which nodes mount a golden image."""
    return f"/golden/{digest[:16]}"


def own_path(hostname: str) -> str:
    """Return the path under which a node mounts its own folder."""
    return f"/nodes/{hostname}"


def render(site: Site, exports: Sequence[Export], recovery: Path) -> str:
    """Return ganesha.conf; `recovery` is the folder in which Ganesha notes which nodes have something open.

    Raises:
        ValueError: a path holds what Ganesha's syntax has no way to write: a quotation mark, a control character.
    """
    return resources.render(
        "netboot/ganesha.conf.j2",
        site=site,
        exports=[vars(export) | _written(export) for export in exports],
        recovery=_quoted(recovery),
        lease=LEASE,
        grace=GRACE,
    )


def _written(export: Export) -> dict[str, str]:
    return {"path": _quoted(export.path), "pseudo": _quoted(export.pseudo)}


def _quoted(value: object) -> str:
    """Return a value in quotation marks (src/config_parsing/conf_lex.l has no escapes that hold everywhere)."""
    text = resources.line(value)
    if '"' in text or "\\" in text:
        raise ValueError(f"{text!r} holds a quotation mark or a backslash, which ganesha.conf cannot")
    return f'"{text}"'
