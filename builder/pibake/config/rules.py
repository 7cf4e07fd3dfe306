"""What the values of a cluster.yaml must be to each other.

The rules read the values as they were typed and skip what is no value of its kind (`check` has told that
already), so that one mistake does not hide another.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from pibake.config import names, values
from pibake.config.check import value
from pibake.config.model import DEFAULT_DOMAIN
from pibake.config.problems import Bad, Loc, Problem, listing, nearest, show

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import TypeVar

    T = TypeVar("T")


def check(data: Any, bases: Collection[str]) -> Iterator[Problem]:
    """Yield every problem between values."""
    subnet = _typed(values.subnet, value(data, ("network", "subnet")))
    gateway = _typed(values.ip, value(data, ("network", "gateway")))
    yield from _network(data, subnet, gateway)
    yield from _users(data)
    yield from _names(data)
    yield from _addresses(data, subnet, gateway)
    for key, parse, what in (("mac", values.mac, "MAC address"), ("serial", values.serial, "serial number")):
        yield from _unique(data, "nodes", key, parse, f"another node has this {what}")
    yield from _bases(data, bases)


def items(data: Any, *loc: str) -> list[Any]:
    """Return the list at a place, or nothing."""
    found = value(data, loc)
    return found if isinstance(found, list) else []


def _typed(parse: Callable[[str], T], raw: Any) -> T | None:
    try:
        return parse(raw) if isinstance(raw, str) else None
    except Bad:
        return None


def _network(
    data: Any, subnet: values.IPNetwork | None, gateway: values.IPAddress | None
) -> Iterator[Problem]:
    loc: Loc = ("network", "gateway")
    # IPv6 routers are known by their link-local address, which is in no subnet
    if subnet and gateway and not (gateway.version == 6 and gateway.is_link_local):
        if gateway not in subnet:
            yield Problem(loc, f"the gateway {gateway} is outside the subnet {subnet}", _inside(subnet))
        elif role := _reserved(gateway, subnet):
            yield Problem(loc, f"{gateway} is the {role} address of {subnet}", _inside(subnet))
    for key, parse in (("dns", values.ip), ("search", names.domain)):
        seen: dict[Any, int] = {}
        for index, raw in enumerate(items(data, "network", key)):
            typed = _typed(parse, raw)
            if typed is None:
                continue
            if typed in seen:
                yield Problem(
                    ("network", key, index),
                    f"{typed} stands in `{key}` twice",
                    "remove one of them",
                    first=("network", key, seen[typed]),
                )
            seen.setdefault(typed, index)


def _users(data: Any) -> Iterator[Problem]:
    users = [user for user in items(data, "users") if isinstance(user, dict)]
    yield from _unique(data, "users", "name", str, "another user has this name")
    if users and not any(user.get("ssh_keys") or user.get("password_hash") for user in users):
        yield Problem(
            ("users",),
            "no user has an SSH key or a password hash, so nobody could log in to any node",
            "add `ssh_keys: [{file: ~/.ssh/id_ed25519.pub}]` to one",
            on_key=True,
        )


def _unique(
    data: Any, section: str, key: str, parse: Callable[[str], str], message: str
) -> Iterator[Problem]:
    seen: dict[str, Loc] = {}
    for index, item in enumerate(items(data, section)):
        typed = _typed(parse, value(item, (key,)))
        if typed is None:
            continue
        loc = (section, index, key)
        if typed in seen:
            yield Problem(loc, f"{typed}: {message}", "each needs its own", first=seen[typed])
        seen.setdefault(typed, loc)


def _names(data: Any) -> Iterator[Problem]:
    domain = _typed(names.domain, value(data, ("domain",))) if value(data, ("domain",)) else DEFAULT_DOMAIN
    for index, node in enumerate(items(data, "nodes")):
        name = _typed(names.hostname, value(node, ("hostname",)))
        short, dot, rest = (name or "").partition(".")
        loc = ("nodes", index, "hostname")
        if dot and domain and rest != domain:
            yield Problem(
                loc,
                f"{name} is not in the cluster's domain {domain}",
                f"write {short}, or set `domain: {rest}`",
            )
        elif domain and name and len(f"{short}.{domain}") > 253:
            yield Problem(
                loc,
                f"with the domain, the name of {show(short)} has more than 253 characters",
                "shorten the domain",
            )
    yield from _unique(
        data,
        "nodes",
        "hostname",
        lambda text: names.hostname(text).partition(".")[0],
        "another node has this name",
    )


def _addresses(
    data: Any, subnet: values.IPNetwork | None, gateway: values.IPAddress | None
) -> Iterator[Problem]:
    for index, node in enumerate(items(data, "nodes")):
        raw = value(node, ("address",))
        address = _typed(values.address, raw)
        if subnet is None or address is None:
            continue
        loc = ("nodes", index, "address")
        prefix = raw.partition("/")[2]
        if address not in subnet:
            yield Problem(loc, f"{address} is outside the subnet {subnet}", _inside(subnet))
        elif role := _reserved(address, subnet):
            yield Problem(loc, f"{address} is the {role} address of {subnet}", _inside(subnet))
        elif address == gateway:
            yield Problem(loc, f"{address} is the gateway's address", _inside(subnet))
        elif prefix and int(prefix) != subnet.prefixlen:
            yield Problem(
                loc,
                f"the prefix /{prefix} differs from the subnet's /{subnet.prefixlen}",
                f"write {address}/{subnet.prefixlen}, or leave the prefix out",
            )
    yield from _unique(
        data, "nodes", "address", lambda text: str(values.address(text)), "another node has this address"
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


def _bases(data: Any, bases: Collection[str]) -> Iterator[Problem]:
    places: list[Loc] = [
        ("defaults", "base"),
        *(("nodes", i, "base") for i in range(len(items(data, "nodes")))),
    ]
    for loc in places:
        name = value(data, loc)
        if isinstance(name, str) and name not in bases:
            hint = (
                nearest(name, bases)
                or f"the catalogue has {listing(sorted(bases))}; another image is {{url: ..., sha256: ...}}"
            )
            yield Problem(loc, f"{show(name)} is not a base of the catalogue", hint)
