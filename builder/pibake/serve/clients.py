"""Which nodes boot from the wire, and which of them wait for a board."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from pibake.boards import BOARDS
from pibake.errors import PibakeError
from pibake.netboot.values import Client
from pibake.plan.wire import mac, obstacle, unknown
from pibake.rack import binding
from pibake.rack.adopted import SERIAL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pibake.plan import NodePlan, Plan
    from pibake.rack.adopted import Adopted


def wired(
    plan: Plan, adopted: Mapping[str, Adopted]
) -> tuple[tuple[Client, ...], tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return the nodes that can boot from the wire, the hostnames of those that cannot, with the reason, and of those that wait.

    Raises:
        PibakeError: there is none of the first and the last.
    """
    free = tuple(node.hostname for node in binding.free(plan, adopted))
    boards = binding.all_identified(plan, adopted)
    obstacles = {node.hostname: obstacle(node) for node in boards if not unknown(node)}
    left_out = tuple((name, reason) for name, reason in obstacles.items() if reason)
    clients = tuple(
        client(node, adopted.get(node.hostname))
        for node in plan.nodes
        if not obstacles.get(node.hostname, "free")
    )
    if not clients and not free:
        name, reason = left_out[0]
        raise PibakeError(
            f"no node of {plan.cluster} can boot from the wire; of {name}: {reason}",
            "docs/netboot.md says what a node needs for that",
        )
    return clients, left_out, free


def client(node: NodePlan, adopted: Adopted | None) -> Client:
    """Return a node as it is known on the wire."""
    address = ipaddress.IPv4Address(str(node.link.address.ip))
    board = binding.identified(node, adopted)
    return Client(
        node.hostname,
        address,
        mac(board),
        board.serial,
        BOARDS[node.board],
        node.wire.root,
        node.wire.state,
        pinned=adopted is not None and adopted.by == SERIAL,
    )
