"""What nodes that say how they boot from the wire must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.boards import BOARDS
from pibake.config import kube, radio, values, wire
from pibake.config.check import value
from pibake.config.problems import Loc, Problem
from pibake.config.rules import items, source, typed

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(data: Any) -> Iterator[Problem]:
    """Yield every problem of `root` and `state`: where they stand at a node, the node must be able to boot that way."""
    for index, node in enumerate(items(data, "nodes")):
        for key in ("root", "state"):
            if value(node, (key,)) is not None and (found := _cannot(data, index)):
                message, first = found
                hint = f"leave `{key}` out: this node boots from a card"
                yield Problem(("nodes", index, key), message, hint, first=first)
                break
        root, state = source(data, index, "root"), source(data, index, "state")
        # what `defaults` say of `state` is for the others
        if typed(wire.root, value(data, root)) == "nbd" and state[0] != "defaults":
            yield Problem(
                state,
                "with `root: nbd` all of a node's files live on its disk on the server",
                "leave `state` out, or take `root: nfs`",
                first=root,
            )


def _cannot(data: Any, index: int) -> tuple[str, Loc | None] | None:
    """Return why a node cannot boot from the wire, and which other value says so."""
    where = source(data, index, "board")
    board = typed(kube.board, value(data, where))
    if board and BOARDS[board].netboot == "none":
        return f"the {BOARDS[board].title} has no Ethernet port to boot from", where
    if typed(radio.link, value(data, source(data, index, "link"))) == "wifi":
        return "no board boots over Wi-Fi", None
    if value(data, ("network", "vlan")) is not None:
        return "boards ask for what they boot from without a VLAN's tag", ("network", "vlan")
    subnet = typed(values.subnet, value(data, ("network", "subnet")))
    if subnet is not None and subnet.version != 4:
        return "boards boot over IPv4, and this network is IPv6", ("network", "subnet")
    return None
