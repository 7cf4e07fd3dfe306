"""What the rack's page says, as HTML: the rack, and one node."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.boards import BOARDS
from pibake.rack.states import JOINED, MARKS, STATES, UP
from pibake.rack.values import STAGES
from pibake.resources import render

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.rack.states import Node, Rack, Stuck
    from pibake.rack.values import Moment, Timeline

ORDER = ("stuck", "booting", "joined", "up", "off", "free", "card")
CLIP = 240
"""Characters of a text from a board that are shown."""
DENSE = 100
"""Nodes above which cells have only what tells the nodes' names apart."""
WIDTH = 600
"""Of the bar of a stage, in units of its picture."""
SLIVER = 4
"""Of the shortest bar, in the same."""
_CODE = re.compile(r"`[^`]*`")


@dataclass(frozen=True)
class Group:
    """Nodes that are stuck for the same reason, the same way; `stuck` speaks of NODE where they are several."""

    nodes: tuple[Node, ...]
    stuck: Stuck


@dataclass(frozen=True)
class Bar:
    """When a stage of a boot was: `left` and `width` of `WIDTH`, and how many seconds it took."""

    moment: Moment
    left: float
    width: float
    took: float


def rack(rack: Rack) -> str:
    """Return what changes of the rack's page."""
    nodes = sorted(rack.nodes, key=lambda node: ORDER.index(node.state))
    counts = [(state, sum(node.state == state for node in nodes)) for state in ORDER]
    unknown = [board for board in rack.boards if not board.node]
    dense = len(nodes) > DENSE
    prefix = _prefix(node.known.hostname for node in nodes) if dense else ""
    groups = _groups(node for node in nodes if node.stuck)
    return _render("rack", rack=rack, nodes=nodes, counts=counts, unknown=unknown, groups=groups, dense=dense, prefix=prefix)  # fmt: skip


def node(rack: Rack, node: Node) -> str:
    """Return what changes of a node's page."""
    bars = _bars(node.timeline) if node.timeline else []
    begin = bars[0].moment.began if bars else 0.0
    return _render("node", rack=rack, node=node, bars=bars, begin=begin, board=BOARDS[node.known.board].title)


def clean(value: object, limit: int = CLIP) -> str:
    """Return what may be shown of a text from a board: printable, and not too long."""
    text = "".join(char if char.isprintable() else "�" for char in str(value)[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def age(seconds: float) -> str:
    """Return a span of time in its largest unit, coarse so that a page stays the same for a while."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name}"
    return "< 1 min"


def many(count: int, noun: str) -> str:
    """Return `1 node`, or `2 nodes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def says(node: Node) -> str:
    """Return what there is to say of a node beside its stage: how long a boot took that is over, or what it says itself."""
    if node.state in {JOINED, UP} and node.timeline:
        moments = node.timeline.moments
        return f"booted in {max(one.last for one in moments) - moments[0].began:.0f} s"
    return node.known.obstacle or node.detail


def _groups(nodes: Iterable[Node]) -> list[Group]:
    """Return nodes that are stuck by why, so that one switch without power is one thing to read."""
    found: dict[tuple[str, str, str], list[Node]] = {}
    for node in nodes:
        if stuck := node.stuck:
            found.setdefault((stuck.at, stuck.cause, _anyone(node, stuck.remedy)), []).append(node)
    alone = ((together, together[0].stuck, key) for key, together in found.items())
    return [
        Group(tuple(together), stuck if len(together) == 1 else type(stuck)(*key))
        for together, stuck, key in alone
        if stuck
    ]


def _anyone(node: Node, text: str) -> str:
    """Return a text with NODE in its commands in place of a node's name."""
    name = re.compile(rf"(?<![\w-]){re.escape(node.known.hostname)}(?![\w-])")
    return _CODE.sub(lambda code: name.sub("NODE", code[0]), text)


def _prefix(names: Iterable[str]) -> str:
    """Return what all names begin with, but for a number that the rest of them goes on with."""
    ordered = sorted(names)
    first, last = ordered[0], ordered[-1]
    same = next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first)
    )
    return first[:same].rstrip("0123456789")


def _bars(timeline: Timeline) -> list[Bar]:
    """Return a bar for each stage; one goes on until the next begins."""
    moments = timeline.moments
    begin = moments[0].began if moments else 0.0
    span = max([begin + 1, *(moment.last for moment in moments)]) - begin
    bars = []
    for moment, after in zip(moments, (*moments[1:], None), strict=True):
        took = max(moment.last, after.began if after else 0.0) - moment.began
        left = min((moment.began - begin) / span * WIDTH, WIDTH - SLIVER)
        width = min(max(SLIVER, took / span * WIDTH), WIDTH - left)
        bars.append(Bar(moment, round(left, 1), round(width, 1), took))
    return bars


def _render(name: str, **values: object) -> str:
    return render(
        f"netboot/page/{name}.html.j2", **values, states=STATES, stages=STAGES, glyphs=MARKS, width=WIDTH, boards=BOARDS,
        clean=clean, age=age, clock=_clock, many=many, says=says,
    )  # fmt: skip


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
