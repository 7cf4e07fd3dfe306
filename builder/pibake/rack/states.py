"""The rack at one moment, as the command line, the page and the metrics show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pibake.rack.values import Seen, Timeline

CARD, FREE, OFF, BOOTING, STUCK, UP, JOINED = "card", "free", "off", "booting", "stuck", "up", "joined"
STATES = {
    JOINED: "a member of the cluster",
    UP: "up, a plain machine",
    BOOTING: "on its way",
    STUCK: "does not come further, or is slow about it",
    OFF: "has not been heard of",
    FREE: "waits for a board to be adopted",
    CARD: "boots from a card only",
}
"""How a node stands -> what that means."""
MARKS = {JOINED: "✓", UP: "✓", BOOTING: "▸", STUCK: "✗", OFF: "○", FREE: "+", CARD: "-"}
"""How that looks where there are no colours."""


@dataclass(frozen=True)
class Known:
    """A node as cluster.yaml and adoption have it.

    Attributes:
        hostname: short.
        address: its own.
        board: a name of `boards.BOARDS`.
        mac: of the board that it is; "" if not known.
        serial: 8 hex digits; "" if not known.
        root: "nfs" or "nbd".
        member: whether it joins a cluster, or is a plain machine.
        by: who said which board it is: "cluster.yaml", or one of `adopted.HAND`, `AUTO` and `SERIAL`; "" if nobody has.
        obstacle: why it boots from a card only; "" if it boots from the wire, or will once it has a board.
    """

    hostname: str
    address: str
    board: str
    mac: str
    serial: str
    root: str
    member: bool
    by: str
    obstacle: str = ""


@dataclass(frozen=True)
class Stuck:
    """Where a boot does not go on: the last stage that was come to, the most likely cause, and what to do."""

    at: str
    cause: str
    remedy: str


@dataclass(frozen=True)
class Node:
    """A node as it stands.

    Attributes:
        known: who it is.
        state: a key of `STATES`.
        stage: the one it is in, of `values.STAGES`; "" before it was heard of.
        since: when that stage, or that state, began, in seconds since 1970; 0 before.
        detail: what it says of the stage; from a board, so nothing to trust.
        stuck: why it does not go on, if it does not.
        timeline: its present boot, if it was heard of.
    """

    known: Known
    state: str
    stage: str = ""
    since: float = 0.0
    detail: str = ""
    stuck: Stuck | None = None
    timeline: Timeline | None = None


@dataclass(frozen=True)
class Board:
    """A board that was heard of: the hostname of the node that it is, or "", and what is odd about it, or ""."""

    seen: Seen
    node: str
    note: str = ""


@dataclass(frozen=True)
class Rack:
    """All of it, at `time` (seconds since 1970).

    `engines` are `serve.keeper.State`s as mappings, empty where nothing serves; `said` are the server's last words, with
    their times, the newest last.
    """

    cluster: str
    time: float
    engines: tuple[Mapping[str, Any], ...]
    nodes: tuple[Node, ...]
    boards: tuple[Board, ...]
    said: tuple[tuple[float, str], ...] = ()
