"""What the addresses, ports and networks of a cluster.yaml must be to each other."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.config import names, radio, values
from pibake.config.check import value
from pibake.config.problems import Loc, Problem
from pibake.config.rules import holders, is_head, items, typed, unique

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def check(data: Any) -> Iterator[Problem]:
    """Yield every problem of the network, and of the nodes on it."""
    own = _Net(
        "address",
        values.address,
        typed(values.subnet, value(data, ("network", "subnet"))),
        ("network", "gateway"),
        typed(values.ip, value(data, ("network", "gateway"))),
    )
    second = _Net(
        "address6",
        values.address6,
        typed(values.subnet6, value(data, ("network", "ipv6", "subnet"))),
        ("network", "ipv6", "gateway"),
        typed(values.ip6, value(data, ("network", "ipv6", "gateway"))),
    )
    yield from _ipv6(data, own)
    yield from _resolver(data)
    for net in (own, second):
        yield from net.router()
        yield from net.nodes(data)
    yield from _links(data)


@dataclass(frozen=True)
class _Net:
    """One of the nodes' subnets, its router, and the nodes' key for their address in it; None where not known."""

    key: str
    parse: Callable[[str], values.IPAddress]
    subnet: values.IPNetwork | None
    place: Loc
    gateway: values.IPAddress | None

    def router(self) -> Iterator[Problem]:
        """Yield what is wrong with the gateway; IPv6 routers are known by a link-local address, in no subnet."""
        subnet, gateway = self.subnet, self.gateway
        if subnet is None or gateway is None or (subnet.version == 6 and gateway.is_link_local):
            return
        if gateway not in subnet:
            yield Problem(
                self.place, f"the gateway {gateway} is outside the subnet {subnet}", _inside(subnet)
            )
        elif role := _reserved(gateway, subnet):
            yield Problem(self.place, f"{gateway} is the {role} address of {subnet}", _inside(subnet))

    def nodes(self, data: Any) -> Iterator[Problem]:
        """Yield what is wrong with the nodes' addresses."""
        subnet = self.subnet
        for index, node in enumerate(items(data, "nodes")):
            raw = value(node, (self.key,))
            address = typed(self.parse, raw)
            if subnet is None or address is None:
                continue
            loc = ("nodes", index, self.key)
            prefix = raw.partition("/")[2]
            if address not in subnet:
                yield Problem(loc, f"{address} is outside the subnet {subnet}", _inside(subnet))
            elif role := _reserved(address, subnet):
                yield Problem(loc, f"{address} is the {role} address of {subnet}", _inside(subnet))
            elif address == self.gateway and not (self.key == "address" and is_head(data, node)):
                yield Problem(loc, f"{address} is the gateway's address", _inside(subnet))
            elif prefix and int(prefix) != subnet.prefixlen:
                yield Problem(
                    loc,
                    f"the prefix /{prefix} differs from the subnet's /{subnet.prefixlen}",
                    f"write {address}/{subnet.prefixlen}, or leave the prefix out",
                )
        yield from unique(
            data, "nodes", self.key, lambda text: str(self.parse(text)), "another node has this address"
        )


def _ipv6(data: Any, own: _Net) -> Iterator[Problem]:
    """Yield what is wrong with the second subnet itself, or what there is of it without a subnet."""
    loc: Loc = ("network", "ipv6", "subnet")
    if value(data, loc) is None:
        hint = "add `ipv6: {subnet: fd00:10::/64}` to `network`"
        if value(data, ("network", "ipv6", "gateway")) is not None:
            yield Problem(("network", "ipv6", "gateway"), "this gateway has no `subnet` beside it", hint)
        for index, node in enumerate(items(data, "nodes")):
            if value(node, ("address6",)) is not None:
                yield Problem(
                    ("nodes", index, "address6"), "there is no `network.ipv6.subnet` for this address", hint
                )
    elif own.subnet and own.subnet.version == 6:
        yield Problem(
            loc,
            f"the network's `subnet` {own.subnet} is IPv6 already",
            "give each node its `address` in it, and leave `ipv6.subnet` out",
            first=("network", "subnet"),
        )


def _resolver(data: Any) -> Iterator[Problem]:
    for key, parse in (("dns", values.ip), ("search", names.domain)):
        seen: dict[Any, int] = {}
        for index, raw in enumerate(items(data, "network", key)):
            found = typed(parse, raw)
            if found is None:
                continue
            if found in seen:
                yield Problem(
                    ("network", key, index),
                    f"{found} stands in `{key}` twice",
                    "remove one of them",
                    first=("network", key, seen[found]),
                )
            seen.setdefault(found, index)


def _links(data: Any) -> Iterator[Problem]:
    """Yield what a Wi-Fi link cannot be without, or with."""
    for holder in holders(data):
        loc = (*holder, "link")
        if typed(radio.link, value(data, loc)) != "wifi":
            continue
        if value(data, ("network", "wifi")) is None:
            yield Problem(
                loc,
                "there is no `network.wifi` for this link",
                "add `wifi: {ssid: ..., psk: ..., country: ...}` to `network`",
            )
        if value(data, ("network", "vlan")) is not None:
            yield Problem(
                loc,
                "a Wi-Fi link cannot tag its traffic with the network's `vlan`",
                "let the access point put the network's name into the VLAN, and leave `vlan` out",
                first=("network", "vlan"),
            )


def _reserved(address: values.IPAddress, subnet: values.IPNetwork) -> str:
    """Return what an address of the subnet is reserved for, or nothing (RFC 3021: a /31 reserves none)."""
    if subnet.prefixlen >= subnet.max_prefixlen - 1:
        return ""
    if address == subnet.network_address:
        return "network" if subnet.version == 4 else "subnet-router anycast"
    return "broadcast" if subnet.version == 4 and address == subnet.broadcast_address else ""


def _inside(subnet: values.IPNetwork) -> str:
    low, high = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.prefixlen < subnet.max_prefixlen - 1:
        low, high = low + 1, high - (subnet.version == 4)
    kind = ipaddress.IPv4Address if subnet.version == 4 else ipaddress.IPv6Address
    return f"{kind(low)} to {kind(high)} can be used"
