"""What nodes and their classes, and data disks and the rest of a node, must be to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.config import disks, names, wire
from pibake.config.check import value
from pibake.config.problems import Bad, Loc, Problem, listing, nearest, show
from pibake.config.rules import holders, items, source, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD = "/dev/mmcblk0"


def check(data: Any) -> Iterator[Problem]:
    """Yield every problem of classes and disks."""
    for holder in holders(data):
        yield from _twice(data, (*holder, "disks"))
        yield from _unnamed(data, (*holder, "disks"))
    for index in range(len(items(data, "nodes"))):
        yield from _class(data, index)
        yield from _card(data, index)
        yield from _state(data, index)


def _class(data: Any, index: int) -> Iterator[Problem]:
    loc = ("nodes", index, "class")
    name = typed(names.node_class, value(data, loc))
    known = value(data, ("classes",))
    known = known if isinstance(known, dict) else {}
    if name and name not in known:
        hint = nearest(name, known) or f"the classes are {listing(known)}"
        add = f"add `classes: {{{name}: {{...}}}}` at the top level"
        yield Problem(loc, f"there is no class {show(name)}", hint if known else add)


def _twice(data: Any, loc: Loc) -> Iterator[Problem]:
    """Yield what two disks of one list have in common; no list is ever joined with another."""
    seen: dict[tuple[str, str], Loc] = {}
    for index in range(len(items(data, *loc))):
        for key, found, at in _facts(data, (*loc, index)):
            if (key, found) in seen:
                yield Problem(
                    at,
                    f"{found}: another disk of this list has this {key}",
                    _APART[key],
                    first=seen[key, found],
                )
            seen.setdefault((key, found), at)


_APART = {
    "device": "each disk is one device",
    "mount": "each disk has a folder of its own",
    "label": "a node knows its disks by their labels: give each its own `label`",
}


def _facts(data: Any, loc: Loc) -> Iterator[tuple[str, str, Loc]]:
    """Yield what nothing else may be, of one disk: key, value, and where it stands."""
    parsers = {"device": disks.device, "mount": disks.mount, "label": disks.label}
    for key, parse in parsers.items():
        if found := typed(parse, value(data, (*loc, key))):
            yield key, found, (*loc, key)
    if value(data, (*loc, "label")) is None and (mount := typed(disks.mount, value(data, (*loc, "mount")))):
        yield "label", disks.label_of(mount), (*loc, "mount")


def _unnamed(data: Any, loc: Loc) -> Iterator[Problem]:
    """Yield the disks that have no `label`, and whose folder has no name that a disk can have."""
    for index in range(len(items(data, *loc))):
        at = (*loc, index, "mount")
        mount = typed(disks.mount, value(data, at))
        if not mount or value(data, (*loc, index, "label")) is not None:
            continue
        try:
            disks.label(disks.label_of(mount))
        except Bad as bad:
            yield Problem(at, f"this disk takes its label from here, and {bad.message}", "add `label: data`")


def _card(data: Any, index: int) -> Iterator[Problem]:
    """Yield the disk that a node's card is: every node boots from one that does not say how it boots from the wire."""
    if any(value(data, source(data, index, key)) is not None for key in ("root", "state")):
        return
    for key, found, loc in _disks(data, index):
        if key == "device" and found == CARD:
            yield Problem(
                loc,
                f"{CARD} is the card that a node boots from",
                "name another disk; a node that never boots from a card says so with `root:`",
            )


def _state(data: Any, index: int) -> Iterator[Problem]:
    """Yield the disk that a node's own files live on when it boots from the wire."""
    where = source(data, index, "state")
    state = typed(wire.state, value(data, where)) or ""
    for key, found, loc in _disks(data, index):
        if (key == "device" and found == disks.whole(state)) or (
            key == "label" and state == f"LABEL={found}"
        ):
            yield Problem(
                loc,
                f"{found} is where this node's own files live (`state: {state}`)",
                "give its `state` another place, or leave this disk out",
                first=where,
            )


def _disks(data: Any, index: int) -> Iterator[tuple[str, str, Loc]]:
    loc = source(data, index, "disks")
    for number in range(len(items(data, *loc))):
        yield from _facts(data, (*loc, number))
