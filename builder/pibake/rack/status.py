"""The rack at one moment, put together from the plan, from who was adopted, and from what was heard."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from pibake.boards import BOARDS, GENERIC
from pibake.plan.wire import mac, obstacle, unknown
from pibake.rack import binding, states
from pibake.rack.states import Board, Known, Node, Rack
from pibake.rack.stuck import stuck
from pibake.rack.values import OK, STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pibake.plan import NodePlan, Plan
    from pibake.rack.adopted import Adopted
    from pibake.rack.values import Moment, Seen, Timeline

PLANNED = "cluster.yaml"
"""Who said which board a node is, if cluster.yaml does."""


def known(plan: Plan, adopted: Mapping[str, Adopted]) -> tuple[Known, ...]:
    """Return every node of the plan, with the board that it is, in the order of cluster.yaml."""
    counting, _ = binding.counted(plan, adopted)
    return tuple(_known(node, counting.get(node.hostname)) for node in plan.nodes)


def rack(  # noqa: PLR0917 - all of it is what a rack is made of
    cluster: str,
    known: Iterable[Known],
    boards: Sequence[Seen],
    timelines: Mapping[str, Timeline],
    server: Mapping[str, Any],
    now: float,
) -> Rack:
    """Return the rack as it stands.

    Args:
        cluster: its name.
        known: its nodes.
        boards: those heard of.
        timelines: the present boot of every subject.
        server: what `Ledger.say` kept: "engines", mappings, and "said", pairs of a time and a text.
        now: in seconds since 1970.
    """
    nodes = tuple(known)
    owners = _Owners(nodes)
    bound = [(seen, owners.of(seen)) for seen in boards]
    seen_as = {node.hostname: seen for seen, node in bound if node}
    sharing: defaultdict[str, list[str]] = defaultdict(list)
    for seen in boards:
        if seen.serial:
            sharing[seen.serial].append(seen.mac)
    return Rack(
        cluster,
        now,
        tuple(server.get("engines", ())),
        tuple(_node(one, seen_as.get(one.hostname), timelines.get(one.hostname), now) for one in nodes),
        tuple(
            Board(
                seen,
                node.hostname if node else "",
                _note(seen, node, sharing[seen.serial] if seen.serial else []),
            )
            for seen, node in bound
        ),
        tuple((float(time), str(text)) for time, text in server.get("said", ())),
    )


def as_json(rack: Rack) -> dict[str, Any]:
    """Return the rack as JSON values, as docs/rack.md lists them; times are in seconds since 1970, 0 for never."""
    return {
        "cluster": rack.cluster,
        "time": rack.time,
        "engines": [dict(engine) for engine in rack.engines],
        "nodes": [_node_json(node) for node in rack.nodes],
        "boards": [
            {**asdict(board.seen), "boards": list(board.seen.boards), "node": board.node, "note": board.note}
            for board in rack.boards
        ],
        "said": [{"time": time, "text": text} for time, text in rack.said],
    }


def furthest(timeline: Timeline) -> Moment:
    """Return the last stage a boot has come to: a board may ask for an address again while it loads."""
    return max(timeline.moments, key=lambda one: STAGES.index(one.stage))


class _Owners:
    """Which node a board is: by its MAC address, or by its serial where nothing else is known."""

    def __init__(self, nodes: Iterable[Known]) -> None:
        self._by_mac = {node.mac: node for node in nodes if node.mac}
        self._by_serial = {node.serial: node for node in nodes if node.serial and not node.mac}

    def of(self, seen: Seen) -> Known | None:
        return self._by_mac.get(seen.mac) or self._by_serial.get(seen.serial)


def _known(node: NodePlan, one: Adopted | None) -> Known:
    board = binding.identified(node, one)
    planned = bool(mac(node) or node.serial)
    return Known(
        node.hostname,
        str(node.link.address.ip),
        one.board if one and node.board == GENERIC else node.board,
        mac(board),
        board.serial,
        node.wire.root,
        node.member is not None,
        one.by if one else PLANNED if planned else "",
        "" if unknown(node) else obstacle(node),
    )


def _node(known: Known, seen: Seen | None, timeline: Timeline | None, now: float) -> Node:
    if known.obstacle:
        return Node(known, states.CARD, detail=known.obstacle)
    if not known.mac and not known.serial:
        return Node(known, states.FREE)
    if timeline is None or not timeline.moments:
        return Node(known, states.OFF)
    at = furthest(timeline)
    last = timeline.stage("ready" if known.member else STAGES[-1])
    if last and last.status == OK:
        state = states.JOINED if known.member else states.UP
        return Node(known, state, at.stage, last.last, at.detail, None, timeline)
    likely = seen.boards[0] if seen and seen.boards and known.board == GENERIC else known.board
    why = stuck(replace(known, board=likely), timeline, now)
    state = states.STUCK if why else states.BOOTING
    return Node(known, state, at.stage, at.began, at.detail, why, timeline)


def _note(seen: Seen, node: Known | None, sharing: Sequence[str]) -> str:
    """Return what is odd about a board; `sharing` are the boards with its serial, itself among them."""
    notes = []
    if others := [other for other in sharing if other != seen.mac]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        notes.append(f"{others[0]}{more} has the serial {seen.serial}, too")
    if node and node.board != GENERIC and seen.boards and node.board not in seen.boards:
        asks, is_ = BOARDS[seen.boards[0]].title, BOARDS[node.board].title
        notes.append(f"it asks as a {asks} does, and {node.hostname} is a {is_} in cluster.yaml")
    return "; ".join(notes)


def _node_json(node: Node) -> dict[str, Any]:
    return {
        **asdict(node.known),
        "state": node.state,
        "stage": node.stage,
        "since": node.since,
        "detail": node.detail,
        "stuck": asdict(node.stuck) if node.stuck else None,
        "boot": node.timeline.boot if node.timeline else 0,
        "stages": [asdict(moment) for moment in node.timeline.moments] if node.timeline else [],
    }
