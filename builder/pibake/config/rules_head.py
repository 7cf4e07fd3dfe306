"""What the values of `head:` must be to each other, to the nodes and to the networks."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from pibake.config import head, names, rules_upstream, values, wire
from pibake.config.check import value
from pibake.config.problems import Loc, Problem, nearest
from pibake.config.rules import items, typed
from pibake.config.rules_upstream import Seen

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAVE_OUT = "leave it out: every other node's gateway is the head"


def check(data: Any) -> Iterator[Problem]:
    """Yield every problem of the head, and of what else there is because of it."""
    if not isinstance(value(data, ("head",)), dict):
        return
    seen = Seen.of(data)
    yield from _node(data, seen)
    yield from _subnet(data, seen)
    yield from rules_upstream.check(data, seen)
    yield from _pool(data, seen)
    yield from _ports(data, seen)
    if typed(wire.dhcp, value(data, ("netboot", "dhcp"))) == "server":
        yield Problem(
            ("netboot", "dhcp"),
            "two DHCP servers on one network: the head gives the addresses already",
            "write `dhcp: proxy`: `pibake serve` then adds what boards boot from to the head's answers",
            first=("head",),
        )


def _node(data: Any, seen: Seen) -> Iterator[Problem]:
    """Yield what keeps a node from being the head."""
    named = typed(names.hostname, value(data, ("head", "node")))
    if named and seen.index < 0:
        known = [str(value(node, ("hostname",))) for node in items(data, "nodes")]
        hint = nearest(named, known) or "it is the `hostname` of one of the nodes"
        yield Problem(("head", "node"), f"{named} is not one of the nodes", hint)
    for key in ("root", "state"):
        if value(seen.node, (key,)) is not None:
            yield Problem(
                seen.place(key),
                "the head boots from a card: whoever boots from the wire needs a router that is up",
                f"leave `{key}` out",
                first=("head", "node"),
            )
            break


def _subnet(data: Any, seen: Seen) -> Iterator[Problem]:
    """Yield what the nodes' network cannot be behind a head."""
    if seen.subnet and seen.subnet.version != 4:
        yield Problem(
            ("network", "subnet"),
            "behind a head, the nodes' network is IPv4: it is what leads out",
            "give the network an IPv4 `subnet`; IPv6 can stand beside it, in `ipv6`",
            first=("head",),
        )
    gateway = typed(values.ip, value(data, ("network", "gateway")))
    if gateway and seen.own and gateway != seen.own:
        yield Problem(
            ("network", "gateway"),
            f"the gateway is the head, {seen.own}",
            LEAVE_OUT,
            first=seen.place("address"),
        )


def _pool(data: Any, seen: Seen) -> Iterator[Problem]:
    """Yield what is wrong with the guests' addresses."""
    place = ("head", "dhcp")
    pool = typed(head.pool, value(data, place))
    if pool is None:
        return
    if seen.subnet and not all(end in seen.subnet for end in pool):
        yield Problem(
            place,
            f"{pool[0]} to {pool[1]} is not inside the subnet {seen.subnet}",
            "guests are on the nodes' network",
            first=("network", "subnet"),
        )
        return
    if seen.subnet and {seen.subnet.network_address, seen.subnet.broadcast_address} & {*pool}:
        yield Problem(
            place, f"the first and the last address of {seen.subnet} are no host's", "leave them out"
        )
    taken: list[tuple[values.IPAddress | None, str, Loc]] = [
        (
            typed(values.address, value(node, ("address",))),
            str(value(node, ("hostname",))),
            ("nodes", index, "address"),
        )
        for index, node in enumerate(items(data, "nodes"))
    ]
    taken.append((typed(values.ip, value(data, ("kubernetes", "vip"))), "the VIP", ("kubernetes", "vip")))
    for address, whose, first in taken:
        if isinstance(address, ipaddress.IPv4Address) and pool[0] <= address <= pool[1]:
            yield Problem(place, f"{address} is {whose}'s" if whose != "the VIP" else f"{address} is the VIP",
                          "end the range before it, or start it behind it", first=first)  # fmt: skip


def _ports(data: Any, seen: Seen) -> Iterator[Problem]:
    """Yield what is wrong with open and forwarded ports."""
    opened: list[tuple[head.Opening, Loc | None]] = []
    if value(data, ("head", "open")) is None:
        opened.append((head.SSH, None))
    for index, raw in enumerate(items(data, "head", "open")):
        found = typed(head.opening, raw)
        if found is None:
            continue
        place: Loc = ("head", "open", index)
        if double := next((first for other, first in opened if found.meets(other)), None):
            yield Problem(place, f"{found} stands in `open` twice", "remove one of them", first=double)
        opened.append((found, place))
    leads: dict[head.Opening, Loc] = {}
    forwards = value(data, ("head", "forward"))
    for key, raw in (forwards if isinstance(forwards, dict) else {}).items():
        port, to = typed(head.single, key), typed(head.target, raw)
        place = ("head", "forward", key)
        if port is None:
            continue
        if port in leads:
            yield Problem(
                place, f"{port} leads to two places", "remove one of them", on_key=True, first=leads[port]
            )
        leads.setdefault(port, place)
        for other, first in opened:
            if port.meets(other):
                default = "" if first else ": ssh is, unless `open` says otherwise"
                yield Problem(
                    place,
                    f"{port} is open on the head itself{default}",
                    "a port leads to one place: forward another one, or leave it out of `open`",
                    on_key=True,
                    first=first,
                )
        yield from _target(seen, to, place)


def _target(seen: Seen, to: head.Target | None, place: Loc) -> Iterator[Problem]:
    if to is None:
        return
    if seen.subnet and to.address not in seen.subnet:
        yield Problem(
            place,
            f"{to.address} is outside the subnet {seen.subnet}",
            "a port leads to a node, or to another address of the nodes' network",
            first=("network", "subnet"),
        )
    elif to.address == seen.own:
        yield Problem(
            place,
            f"{to.address} is the head itself",
            "a port of the head's own stands in `open`",
            first=seen.place("address"),
        )
