"""What the values of a cluster.yaml must be to each other.

The rules read the values as they were typed and skip what is no value of its kind (`check` has told that
already), so that one mistake does not hide another.
"""

from __future__ import annotations

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
    yield from _users(data)
    yield from _names(data)
    for key, parse, what in (("mac", values.mac, "MAC address"), ("serial", values.serial, "serial number")):
        yield from unique(data, "nodes", key, parse, f"another node has this {what}")
    yield from _bases(data, bases)


def holders(data: Any) -> list[Loc]:
    """Return the place of every mapping that says something of nodes: `defaults`, the classes and the nodes."""
    classes = value(data, ("classes",))
    named: list[Loc] = [("classes", name) for name in classes] if isinstance(classes, dict) else []
    return [("defaults",), *named, *(("nodes", index) for index in range(len(items(data, "nodes"))))]


def source(data: Any, index: int, key: str) -> Loc:
    """Return where the value stands that holds for a node: at itself, in its class, or else in `defaults`."""
    name = value(data, ("nodes", index, "class"))
    layers: list[Loc] = [("nodes", index), *([("classes", name)] if isinstance(name, str) else [])]
    return next(((*loc, key) for loc in layers if value(data, (*loc, key)) is not None), ("defaults", key))


def items(data: Any, *loc: str | int) -> list[Any]:
    """Return the list at a place, or nothing."""
    found = value(data, loc)
    return found if isinstance(found, list) else []


def typed(parse: Callable[[str], T], raw: Any) -> T | None:
    """Return a value as its parser reads it, or None where it is no value of its kind."""
    try:
        return parse(raw) if isinstance(raw, str) else None
    except Bad:
        return None


def is_head(data: Any, node: Any) -> bool:
    """Return whether a node is the one that `head` names."""
    named, own = (
        typed(names.hostname, value(*place)) for place in ((data, ("head", "node")), (node, ("hostname",)))
    )
    return bool(named and own) and str(named).partition(".")[0] == str(own).partition(".")[0]


def _users(data: Any) -> Iterator[Problem]:
    users = [user for user in items(data, "users") if isinstance(user, dict)]
    yield from unique(data, "users", "name", str, "another user has this name")
    if users and not any(user.get("ssh_keys") or user.get("password_hash") for user in users):
        yield Problem(
            ("users",),
            "no user has an SSH key or a password hash, so nobody could log in to any node",
            "add `ssh_keys: [{file: ~/.ssh/id_ed25519.pub}]` to one",
            on_key=True,
        )


def unique(data: Any, section: str, key: str, parse: Callable[[str], str], message: str) -> Iterator[Problem]:
    """Yield a problem for every value of `key` that another item of the section has as well."""
    seen: dict[str, Loc] = {}
    for index, item in enumerate(items(data, section)):
        found = typed(parse, value(item, (key,)))
        if found is None:
            continue
        loc = (section, index, key)
        if found in seen:
            yield Problem(loc, f"{found}: {message}", "each needs its own", first=seen[found])
        seen.setdefault(found, loc)


def _names(data: Any) -> Iterator[Problem]:
    domain = typed(names.domain, value(data, ("domain",))) if value(data, ("domain",)) else DEFAULT_DOMAIN
    for index, node in enumerate(items(data, "nodes")):
        name = typed(names.hostname, value(node, ("hostname",)))
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
    yield from unique(
        data,
        "nodes",
        "hostname",
        lambda text: names.hostname(text).partition(".")[0],
        "another node has this name",
    )


def _bases(data: Any, bases: Collection[str]) -> Iterator[Problem]:
    for holder in holders(data):
        loc = (*holder, "base")
        name = value(data, loc)
        if isinstance(name, str) and name not in bases:
            hint = (
                nearest(name, bases)
                or f"the catalogue has {listing(sorted(bases))}; another image is {{url: ..., sha256: ...}}"
            )
            yield Problem(loc, f"{show(name)} is not a base of the catalogue", hint)
