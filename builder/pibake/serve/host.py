"""Which of the ports that engines need are taken, and by whom."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.netboot.values import DHCP_PORT, PROXY, TFTP_PORT
from pibake.run import run

if TYPE_CHECKING:
    from pibake.netboot.values import Site

PXE_PORT = 4011
"""Where a proxy answers machines that ask again for what to boot (PXE 2.1 section 2.2.1)."""
ANY = ("0.0.0.0", "*", "[::]")  # noqa: S104 - as ss writes it
USER = re.compile(r'\("(?P<name>[^"]*)",pid=(?P<pid>\d+)')
UNIT = re.compile(r"/(?P<unit>[^/]+\.service)$", re.MULTILINE)


def taken(site: Site) -> list[str]:
    """Return a sentence for each port that engines need and another program has."""
    ports = site.ports
    wanted = {
        ("udp", DHCP_PORT): "DHCP",
        ("udp", TFTP_PORT): "TFTP",
        ("tcp", ports.http): "HTTP",
        ("tcp", ports.nfs): "NFS",
        ("tcp", ports.nbd): "NBD",
    }
    if site.dhcp == PROXY:
        wanted["udp", PXE_PORT] = "PXE"
    found = []
    for row in run(["ss", "-H", "-lntup"], why="see which ports are free").stdout.splitlines():
        protocol, local, who = _socket(row)
        where, _, port = local.rpartition(":")
        place, _, device = where.partition("%")
        name = wanted.get((protocol, int(port)))
        if name and place in {*ANY, str(site.address.ip)} and device in {"", site.interface}:
            found.append(f"port {port} ({protocol}, for {name}) is taken by {who}")
    return sorted(set(found))


def _socket(row: str) -> tuple[str, str, str]:
    """Return protocol, local address and user of one line of `ss`."""
    fields = row.split(None, 6)
    user = USER.search(fields[6]) if len(fields) > 6 else None
    return (
        fields[0],
        fields[4],
        _named(user["name"], user["pid"]) if user else "the kernel, or another namespace",
    )


def _named(name: str, pid: str) -> str:
    try:
        unit = UNIT.search(Path(f"/proc/{pid}/cgroup").read_text("ascii"))
    except OSError:  # it has just ended
        unit = None
    stop = f", sudo systemctl stop {unit['unit']}" if unit else ""
    return f"{name} (process {pid}{stop})"
