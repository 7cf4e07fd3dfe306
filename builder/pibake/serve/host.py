"""What this machine lacks to serve on an interface: the right address, and ports that are free."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.netboot.values import PROXY
from pibake.run import run

if TYPE_CHECKING:
    from ipaddress import IPv4Network

    from pibake.netboot.values import Site

PXE_PORT = 4011
"""Where a proxy answers machines that ask again for what to boot (PXE 2.1 section 2.2.1)."""
ANY = ("0.0.0.0", "*", "[::]")  # noqa: S104 - as ss writes it
USER = re.compile(r'\("(?P<name>[^"]*)",pid=(?P<pid>\d+)')
UNIT = re.compile(r"/(?P<unit>[^/]+\.service)$", re.MULTILINE)


def address(interface: str, subnet: IPv4Network) -> IPv4Interface:
    """Return the address that an interface has in the cluster's subnet.

    Raises:
        PibakeError: there is no such interface, it has no address, or one of another network only.
    """
    done = run(
        ["ip", "-json", "-4", "address", "show", "dev", interface], why="find its address", check=False
    )
    if done.code:
        raise PibakeError(
            f"there is no interface {interface}", "ip -brief link shows those there are: --interface NAME"
        )
    found = [
        IPv4Interface(f"{one['local']}/{one['prefixlen']}")
        for link in json.loads(done.stdout)
        for one in link.get("addr_info", [])
    ]
    for one in found:
        if one.ip in subnet:
            return one
    if not found:
        raise PibakeError(
            f"{interface} has no address; the cluster is in {subnet}",
            f"give it one that no node has, such as: sudo ip address add {subnet[2]}/{subnet.prefixlen} dev {interface}",
        )
    raise PibakeError(
        f"{interface} has {', '.join(map(str, found))}, and the cluster is in {subnet}: its nodes could not reach it",
        "name the interface the boards are behind, give it an address of that subnet, or correct `subnet` in cluster.yaml",
    )


def taken(site: Site) -> list[str]:
    """Return a sentence for each port that engines need and another program has."""
    ports = site.ports
    wanted = {
        ("udp", ports.dhcp): "DHCP",
        ("udp", ports.tftp): "TFTP",
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
