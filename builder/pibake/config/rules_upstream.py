"""What the head's way out must be: its port, its address, and the networks on both sides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.config import head, membership, radio, values
from pibake.config.check import value
from pibake.config.problems import Loc, Problem
from pibake.config.rules import is_head, items, source, typed
from pibake.config.rules_kubernetes import POD_CIDR, SERVICE_CIDR

if TYPE_CHECKING:
    import ipaddress
    from collections.abc import Iterator

UPSTREAM: Loc = ("head", "upstream")
KERNELS = re.compile(r"eth[0-9]+")
"""Names that the kernel itself gives to Ethernet ports, one after the other."""


@dataclass(frozen=True)
class Seen:
    """What could be read of the head and of what is around it; `index` is its place among the nodes, -1 if it is not there."""

    index: int
    node: Any
    own: values.IPAddress | None
    subnet: values.IPNetwork | None
    fixed: ipaddress.IPv4Interface | None
    wireless: bool

    @staticmethod
    def of(data: Any) -> Seen:
        """Read it from the values of a file."""
        nodes = items(data, "nodes")
        index = next((index for index, node in enumerate(nodes) if is_head(data, node)), -1)
        node = nodes[index] if index >= 0 else None
        link = value(data, source(data, index, "link")) if node else None
        return Seen(
            index,
            node,
            typed(values.address, value(node, ("address",))),
            typed(values.subnet, value(data, ("network", "subnet"))),
            typed(head.address, value(data, (*UPSTREAM, "address"))),
            typed(radio.link, link) == "wifi",
        )

    def place(self, key: str) -> Loc:
        """Return where a value of the head's own stands."""
        return ("nodes", self.index, key)


def check(data: Any, seen: Seen) -> Iterator[Problem]:
    """Yield what is wrong with the way out: its port, its address, and what that address means."""
    written = value(data, UPSTREAM)
    if not isinstance(written, dict):
        return
    if "port" in written and "wifi" in written:
        yield Problem(
            (*UPSTREAM, "wifi"), "`port` and `wifi` stand side by side", "keep one of them", on_key=True
        )
    elif "port" not in written and "wifi" not in written:
        hint = "add `port: eth1`, `port:` with the MAC address of the adapter, or `wifi:`"
        yield Problem(UPSTREAM, "`port` is missing from `upstream`", hint)
    elif "wifi" in written and seen.wireless:
        yield Problem(
            (*UPSTREAM, "wifi"),
            "the head's own link is Wi-Fi, and a board has one radio",
            "give it `link: ethernet`, or a `port` that leads out",
            on_key=True,
            first=source(data, seen.index, "link"),
        )
    yield from _port(data, seen)
    yield from _routes(data, seen)
    if seen.fixed:
        yield from _overlaps(data, seen, seen.fixed)


def _port(data: Any, seen: Seen) -> Iterator[Problem]:
    place = (*UPSTREAM, "port")
    port = typed(head.port, value(data, place))
    if port is None:
        return
    for index, node in enumerate(items(data, "nodes")):
        if typed(values.mac, value(node, ("mac",))) == port:
            whose = "the head's port to the nodes" if index == seen.index else "another node's port"
            yield Problem(place, f"{port} is {whose}", "`ip link` lists ports", first=("nodes", index, "mac"))
    known = seen.wireless or value(seen.node, ("mac",)) is not None
    if (
        ":" not in port
        and port.startswith("e")
        and not KERNELS.fullmatch(port)
        and seen.index >= 0
        and not known
    ):
        yield Problem(
            place,
            f"which port is not {port} cannot be told without the head's `mac`",
            f"add `mac:` to {value(seen.node, ('hostname',))}, or name the second port by its MAC address",
            first=("nodes", seen.index, "hostname"),
        )


def _routes(data: Any, seen: Seen) -> Iterator[Problem]:
    """Yield what is wrong with the router on the other side, or without one."""
    place = (*UPSTREAM, "gateway")
    gateway = typed(head.ip4, value(data, place))
    if (
        value(data, place) is not None
        and seen.fixed is None
        and value(data, (*UPSTREAM, "address")) in {None, head.DHCP}
    ):
        yield Problem(
            place, "with DHCP, the router says itself where it is", "leave `gateway` out, or give `address`"
        )
    if seen.fixed is None:
        return
    if value(data, place) is None:
        first = next(seen.fixed.network.hosts())
        hint = f"add `gateway: {first}`, or whatever it is there"
        yield Problem((*UPSTREAM, "address"), "a fixed address leads nowhere without a `gateway`", hint)
    elif gateway == seen.fixed.ip:
        yield Problem(
            place,
            f"{gateway} is the head's own address",
            "the router has another",
            first=(*UPSTREAM, "address"),
        )
    elif gateway and gateway not in seen.fixed.network:
        yield Problem(
            place,
            f"the gateway {gateway} is outside {seen.fixed.network}, the network of the head's address",
            "the head reaches its router without another one",
            first=(*UPSTREAM, "address"),
        )


def _overlaps(data: Any, seen: Seen, fixed: ipaddress.IPv4Interface) -> Iterator[Problem]:
    """Yield the networks that would be on both sides of the head."""
    place: Loc = (*UPSTREAM, "address")
    if seen.subnet and fixed.ip in seen.subnet:
        yield Problem(
            place,
            f"{fixed.ip} is inside the nodes' subnet {seen.subnet}: a router stands between two networks",
            "give the nodes another `subnet`",
            first=("network", "subnet"),
        )
        return
    kind = typed(membership.distribution, value(data, ("kubernetes", "distribution")))
    ranges: list[tuple[str, values.IPNetwork | None, Loc]] = [
        ("the nodes' subnet", seen.subnet, ("network", "subnet"))
    ]
    for key, defaults, what in (
        ("pod_cidr", POD_CIDR, "the pods' addresses"),
        ("service_cidr", SERVICE_CIDR, "the services' addresses"),
    ):
        if kind:
            raw = value(data, ("kubernetes", key))
            first: Loc = ("kubernetes", key if raw is not None else "distribution")
            ranges.append((what, typed(membership.cidr, raw if raw is not None else defaults[kind]), first))
    for what, other, first in ranges:
        if other and other.version == 4 and fixed.network.overlaps(other):
            yield Problem(
                place, f"the network {fixed.network} out there overlaps {what} {other}", "choose another for one of them",
                first=first,
            )  # fmt: skip
