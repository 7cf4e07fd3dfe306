"""Which board a node is: what cluster.yaml says, what was adopted, and who comes next. Nothing here reads or writes anything."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pibake.boards import GENERIC
from pibake.plan.wire import ROM_OUI, mac, obstacle, unknown
from pibake.rack.adopted import AUTO, SERIAL, Adopted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pibake.plan import NodePlan, Plan
    from pibake.rack.values import Seen


def counted(plan: Plan, adopted: Mapping[str, Adopted]) -> tuple[dict[str, Adopted], tuple[str, ...]]:
    """Return what counts of the adoptions, as cluster.yaml comes first, and a sentence about each other one that people made."""
    counting: dict[str, Adopted] = {}
    ignored = []
    nodes = {node.hostname: node for node in plan.nodes}
    macs = {mac(node): node.hostname for node in plan.nodes}
    serials = {node.serial: node.hostname for node in plan.nodes if not mac(node)}
    for hostname, one in adopted.items():
        node = nodes.get(hostname)
        other = macs.get(one.mac, hostname) if one.mac else hostname
        if other == hostname and one.serial:
            other = serials.get(one.serial, hostname)
        if node is None:
            ignored.append(f"{hostname} was adopted as {name(one)}, and is no node of cluster.yaml any more")
        elif other != hostname:
            ignored.append(f"{hostname} was adopted as {name(one)}, and that board is {other}")
        elif unknown(node):
            counting[hostname] = one
            (macs if one.mac else serials)[one.mac or one.serial] = hostname
        elif reason := obstacle(node):
            ignored.append(f"{hostname} was adopted as {name(one)}, and boots from a card only: {reason}")
        elif not mac(node) and node.serial == one.serial and one.mac:
            counting[hostname] = replace(one, by=SERIAL)
            macs[one.mac] = hostname
        elif one.by != SERIAL and not _agrees(node, one):
            ignored.append(
                f"{hostname} was adopted as {name(one)}; cluster.yaml says it is {mac(node) or node.serial}, which counts"
            )
    return counting, tuple(ignored)


def free(plan: Plan, counting: Mapping[str, Adopted]) -> list[NodePlan]:
    """Return the nodes that would boot from the wire, if they had a board."""
    return [node for node in plan.nodes if unknown(node) and node.hostname not in counting]


def identified(node: NodePlan, one: Adopted | None) -> NodePlan:
    """Return a node with the MAC address and serial of its board, which are on the wire only: its seed does not change."""
    if one is None:
        return node
    link = replace(node.link, mac=one.mac or node.link.mac)
    return replace(node, link=link, serial=one.serial or node.serial)


def all_identified(plan: Plan, counting: Mapping[str, Adopted]) -> list[NodePlan]:
    """Return every node with the MAC address and serial of its board."""
    return [identified(node, counting.get(node.hostname)) for node in plan.nodes]


def owner(nodes: Iterable[NodePlan], hardware: str, serial: str) -> str:
    """Return which node a board is, by its MAC address, or by its serial where a node has no other mark; "" if it is none.

    Args:
        nodes: of `all_identified`.
        hardware: the board's MAC address, or "".
        serial: the board's, or "".
    """
    by_serial = ""
    for node in nodes:
        known = mac(node)
        if hardware and known == hardware:
            return node.hostname
        if serial and node.serial == serial and not (hardware and known):
            by_serial = node.hostname
    return by_serial


def fits(node: NodePlan, boards: Sequence[str]) -> bool:
    """Tell whether a board that may be any of these can be a node; memory is no reason."""
    return node.board == GENERIC or node.board in boards


def appointed(waiting: Sequence[NodePlan], boards: Iterable[Seen], time: float) -> dict[str, Adopted]:
    """Return which of the nodes that wait become which boards, by hostname: in the order of both.

    A node that does not say which board it is takes any, once no other node waits: before, it might take a board that
    another one needs. Of a board that asks like nothing we know, no node is made.
    """
    left, found = list(waiting), {}
    for seen in boards:
        node, board = _next(left, seen.boards)
        if node is not None:
            left.remove(node)
            found[node.hostname] = Adopted(seen.mac, seen.serial, board, AUTO, time)
    return found


def pinned(
    nodes: Iterable[NodePlan], counting: Mapping[str, Adopted], seen: Seen, time: float
) -> tuple[str, Adopted] | None:
    """Return the node that is known by the serial of a board, and by no MAC address yet, with this board's."""
    if not seen.serial:
        return None
    for node in nodes:
        if node.serial == seen.serial and not mac(node) and not obstacle(node):
            kind = seen.boards[0] if seen.boards else node.board
            one = counting.get(node.hostname) or Adopted("", seen.serial, kind, SERIAL, time)
            # also of one that was adopted by serial: what dnsmasq is told of serials stays as it is, so that it need not
            # start anew under a board that loads
            return node.hostname, replace(one, mac=seen.mac, by=SERIAL)
    return None


def double(nodes: Iterable[NodePlan], seen: Seen) -> str:
    """Return the MAC address of the node that has the serial of a board with another MAC address, or ""."""
    if not seen.serial or seen.mac.startswith(ROM_OUI):  # such a serial is made of the MAC address
        return ""
    known = (mac(node) for node in nodes if node.serial == seen.serial)
    return next((hardware for hardware in known if hardware not in {"", seen.mac}), "")


def name(one: Adopted | Seen) -> str:
    """Return what people call a board by: its MAC address, and its serial if it is known."""
    return f"{one.mac} (serial {one.serial})" if one.mac and one.serial else one.mac or f"serial {one.serial}"


def _next(left: Sequence[NodePlan], boards: Sequence[str]) -> tuple[NodePlan | None, str]:
    """Return the node that a board becomes, and which board it is then."""
    for board in boards:
        for node in left:
            if node.board == board:
                return node, board
    if boards and left and all(node.board == GENERIC for node in left):
        return left[0], boards[0]
    return None, ""


def _agrees(node: NodePlan, one: Adopted) -> bool:
    """Tell whether cluster.yaml and an adoption can be of one board."""
    pairs = ((mac(node), one.mac), (node.serial, one.serial))
    return all(not known or not told or known == told for known, told in pairs) and any(
        known and known == told for known, told in pairs
    )
