"""The cluster.yaml that `pibake init` writes: chosen from what the host's routes and keys suggest."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from pibake import resources
from pibake.config import accounts
from pibake.config.flags import USER
from pibake.config.model import DEFAULT_BASE
from pibake.config.problems import Bad

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_NAME = "cluster.schema.json"
FIRST = 11
"""Last part of node1's address where the subnet is big enough; routers and their guests are mostly below."""
KEY_NAMES = ("id_ed25519.pub", "id_ed25519_sk.pub", "id_ecdsa.pub", "id_ecdsa_sk.pub", "id_rsa.pub")
"""The public keys ssh(1) offers by itself, the better ones first."""


@dataclass(frozen=True)
class Lan:
    """A network to put nodes on; `taken` are addresses they must not get."""

    subnet: ipaddress.IPv4Network = field(default_factory=lambda: ipaddress.IPv4Network("192.168.10.0/24"))
    gateway: ipaddress.IPv4Address = field(default_factory=lambda: ipaddress.IPv4Address("192.168.10.1"))
    taken: frozenset[ipaddress.IPv4Address] = frozenset()

    def addresses(self) -> Iterator[ipaddress.IPv4Address]:
        """Yield free addresses, from .11 on where there is such a part."""
        first = int(self.subnet.network_address)
        last = int(self.subnet.broadcast_address)
        start = FIRST if last - first > 2 * FIRST else 1
        for number in (*range(first + start, last), *range(first + 1, first + start)):
            address = ipaddress.IPv4Address(number)
            if address != self.gateway and address not in self.taken:
                yield address


def lan(routes: str) -> Lan:
    """Return the network of the default route, from `ip -j -4 route`; an example network where there is none."""
    try:
        table = [route for route in json.loads(routes) if isinstance(route, dict)]
    except ValueError:
        return Lan()
    default = next((r for r in table if r.get("dst") == "default" and "gateway" in r), {})
    for route in table:
        if default and route.get("dev") == default.get("dev") and "/" in str(route.get("dst")):
            subnet = ipaddress.IPv4Network(route["dst"], strict=False)
            gateway = ipaddress.IPv4Address(default["gateway"])
            if gateway in subnet and subnet.prefixlen <= 29:
                own = frozenset({ipaddress.IPv4Address(route["prefsrc"])} if "prefsrc" in route else ())
                return Lan(subnet, gateway, own)
    return Lan()


def public_key(folder: Path) -> Path | None:
    """Return the best public key of a folder such as ~/.ssh, if there is one that can be used."""
    found = sorted(folder.glob("*.pub")) if folder.is_dir() else []
    preferred = [folder / name for name in KEY_NAMES if folder / name in found]
    return next((path for path in (*preferred, *found) if _usable(path)), None)


def _usable(path: Path) -> bool:
    try:
        return bool(accounts.key_file(path.read_text("utf-8")))
    except (OSError, ValueError, Bad):
        return False


def text(network: Lan, *, count: int, key: str | dict[str, str], cluster: str = "lab") -> str:
    """Return a commented cluster.yaml with `count` nodes, the first of them the server.

    Raises:
        Bad: the network has too few free addresses.
    """
    addresses = list(islice(network.addresses(), count))
    if len(addresses) < count:
        raise Bad(
            f"{network.subnet} has room for {len(addresses)} nodes, not {count}", "take a bigger subnet"
        )
    nodes = [
        {
            "hostname": f"node{number}",
            "address": f"{address}/{network.subnet.prefixlen}",
            "role": "agent" if number > 1 else "server",
        }
        for number, address in enumerate(addresses, 1)
    ]
    return resources.render(
        "cloud-init/cluster.yaml.j2",
        schema=SCHEMA_NAME,
        cluster=cluster,
        base=DEFAULT_BASE,
        subnet=str(network.subnet),
        gateway=str(network.gateway),
        dns=list(dict.fromkeys([str(network.gateway), "1.1.1.1"])),
        user=USER,
        key=key,
        nodes=nodes,
    )
