"""What `pibake adopt` is asked for, and what speaks against it. Nothing here reads or writes anything."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pibake.boards import BOARDS, GENERIC
from pibake.config import values
from pibake.config.problems import Bad
from pibake.errors import PibakeError
from pibake.plan.wire import mac, obstacle, unknown
from pibake.rack import binding
from pibake.rack.adopted import HAND, Adopted
from pibake.rack.values import Seen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.plan import NodePlan, Plan

LIST = "`pibake boards` lists those that ask"


def sought(text: str, boards: Sequence[Seen]) -> Seen:
    """Return the board that is meant by a MAC address or a serial; one that has not asked yet has `asked` 0.

    Raises:
        PibakeError: it is neither, or two boards have the serial.
    """
    try:
        hardware = values.mac(text) if ":" in text or "-" in text else ""
        serial = "" if hardware else values.serial(text)
    except Bad as error:
        raise PibakeError(
            f"{error.message.rstrip('.')}, and a board is named by its serial or its MAC address",
            f"{error.hint}; {LIST}",
        ) from error
    found = [one for one in boards if (one.mac == hardware if hardware else one.serial == serial)]
    if len(found) > 1:
        macs = " and ".join(one.mac for one in found)
        raise PibakeError(
            f"boards with different MAC addresses have the serial {serial}: {macs}", "give the MAC address"
        )
    return found[0] if found else Seen(hardware, 0, 0, 0, serial)


def adoption(
    plan: Plan, adopted: Mapping[str, Adopted], node: NodePlan, seen: Seen, *, booted: bool, time: float
) -> Adopted:
    """Return what to note of a board that is to be a node.

    Args:
        plan: the cluster.
        adopted: all that was adopted.
        node: the node.
        seen: the board, of `sought`.
        booted: whether the node has booted as another board, and that is not to be replaced.
        time: in seconds since 1970.

    Raises:
        PibakeError: it cannot be, and why.
    """
    counting, _ = binding.counted(plan, adopted)
    name, board = node.hostname, binding.name(seen)
    if not unknown(node):
        raise PibakeError(*_settled(node))
    others = binding.all_identified(plan, {host: one for host, one in counting.items() if host != name})
    if other := binding.owner(others, seen.mac, seen.serial):
        how = f"`pibake adopt --release {other}` takes it away from {other}"
        raise PibakeError(
            f"the board {board} is {other} already",
            how if other in counting else f"cluster.yaml says so: change {other} there first",
        )
    if seen.boards and not binding.fits(node, seen.boards):
        raise PibakeError(
            f"the board {board} is a {' or '.join(BOARDS[kind].title for kind in seen.boards)}, and {name} is a {BOARDS[node.board].title}",
            f"give it to a node it fits, or change `board` of {name} in cluster.yaml",
        )
    if (before := counting.get(name)) and not same(before, seen):
        raise PibakeError(
            f"{name} is the board {binding.name(before)} already",
            f"{_way_out(name)}; `pibake adopt --release {name}` takes it away",
        )
    if booted and not before:
        raise PibakeError(f"{name} has booted as another board", _way_out(name))
    kind = node.board if node.board != GENERIC else next(iter(seen.boards), GENERIC)
    return Adopted(seen.mac, seen.serial, kind, HAND, time)


def same(one: Adopted, seen: Seen) -> bool:
    """Tell whether an adoption is of a board."""
    return one.mac == seen.mac if one.mac and seen.mac else bool(seen.serial) and one.serial == seen.serial


def doubt(seen: Seen, boards: Sequence[Seen]) -> str:
    """Return what to say of a board that has not asked yet; "" if it has."""
    if seen.asked or seen.last:
        return ""
    key = seen.mac or seen.serial
    known = [one.mac if seen.mac else one.serial for one in boards]
    close = difflib.get_close_matches(key, filter(None, known), n=1, cutoff=0.8)
    return f"no board {key} has asked yet; " + (f"did you mean {close[0]}?" if close else LIST)


def _settled(node: NodePlan) -> tuple[str, str]:
    """Return why a node needs no board, or could do nothing with one."""
    if reason := obstacle(node):
        return f"{node.hostname} boots from a card only: {reason}", "give the board to another node"
    known = mac(node) or f"serial {node.serial}"
    return f"cluster.yaml says that {node.hostname} is the board {known}, which counts", "change it there"


def _way_out(name: str) -> str:
    return (
        f"`--replace` lets the new board go on with the files that {name} has on the server, and `pibake serve --renew {name}` starts it anew;"
        f" `pibake forget {name} --apply` takes the old one out of the cluster"
    )
