"""Pools of addresses that add-ons give away: nothing else may have an address of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake import offers
from pibake.config import formats, membership, values
from pibake.config.check import value
from pibake.config.options import walk
from pibake.config.problems import Loc, Problem
from pibake.config.rules import items, typed
from pibake.config.rules_kubernetes import POD_CIDR, SERVICE_CIDR

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class _Taken:
    """Addresses that are somebody's already, as a range, whose they are, and where that is written."""

    pool: formats.Range
    owner: str
    place: Loc | None

    def meets(self, pool: formats.Range) -> bool:
        same = self.pool[0].version == pool[0].version
        return same and int(self.pool[0]) <= int(pool[1]) and int(pool[0]) <= int(self.pool[1])


def check(data: Any) -> Iterator[Problem]:
    """Yield a problem for each pool that overlaps a node, the gateway, the VIP, a range of addresses or another pool."""
    taken = [*_hosts(data), *_ranges(data)]
    for text, loc in _pools(data):
        pool = typed(formats.ip_range, text)
        if pool is None:
            continue
        if other := next((one for one in taken if one.meets(pool)), None):
            hint = "name addresses that nothing else has, and that no DHCP server gives away"
            yield Problem(loc, f"the pool {text} overlaps {other.owner}", hint, first=other.place)
        taken.append(_Taken(pool, f"the pool {text}", loc))


def _pools(data: Any) -> Iterator[tuple[str, Loc]]:
    written = value(data, ("addons",))
    for name, raw in written.items() if isinstance(written, dict) else ():
        entry = offers.catalogue().get(name)
        for key, option in entry.options.items() if entry else ():
            for inner, text, loc in walk(option, value(raw, (key,)), ("addons", name, key)):
                if inner.format == "ip-range":
                    yield text, loc


def _hosts(data: Any) -> Iterator[_Taken]:
    places: list[tuple[Loc, str]] = [
        (("network", "gateway"), "the gateway"),
        (("network", "ipv6", "gateway"), "the gateway"),
        (("kubernetes", "vip"), "the VIP"),
    ]
    for index, node in enumerate(items(data, "nodes")):
        name = value(node, ("hostname",))
        places += [(("nodes", index, key), str(name)) for key in ("address", "address6")]
    for loc, owner in places:
        if address := typed(values.address, value(data, loc)):
            yield _Taken((address, address), f"{owner}, {address}", loc)


def _ranges(data: Any) -> Iterator[_Taken]:
    dhcp: Loc = ("head", "dhcp")
    if pool := typed(formats.ip_range, value(data, dhcp)):
        yield _Taken(pool, f"the addresses {pool[0]}-{pool[1]} that the head gives away by DHCP", dhcp)
    kind = typed(membership.distribution, value(data, ("kubernetes", "distribution")))
    if kind is None:
        return
    for key, usual, what in (
        ("pod_cidr", POD_CIDR[kind], "the pods' addresses"),
        ("service_cidr", SERVICE_CIDR[kind], "the services' addresses"),
    ):
        raw = value(data, ("kubernetes", key))
        if network := typed(membership.cidr, raw if raw is not None else usual):
            place: Loc | None = ("kubernetes", key) if raw is not None else None
            yield _Taken((network[0], network[-1]), f"{what} {network}", place)
