"""The tables of `pibake status`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.cli import rack as view
from pibake.cli.boards import named, strangers
from pibake.progress import size
from pibake.rack import states
from pibake.rack.status import furthest
from pibake.rack.values import OK, STAGES, WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rich.console import RenderableType
    from rich.text import Text

    from pibake.cli.rack import Look
    from pibake.rack.states import Node, Rack
    from pibake.rack.values import Moment, Timeline

COLOURS = {
    states.JOINED: "green",
    states.UP: "green",
    states.BOOTING: "cyan",
    states.STUCK: "red",
    states.OFF: "dim",
    states.FREE: "yellow",
    states.CARD: "dim",
}
DONE, UNDER_WAY, WRONG, TO_COME = "●", "◐", "✗", "·"
WARNINGS = 5
"""The server's last words that are shown."""


def parts(look: Look, hostname: str) -> Iterator[RenderableType]:
    """Return what there is to show of the rack, or of one node."""
    rack = look.rack()
    if hostname:
        (node,) = (one for one in rack.nodes if one.known.hostname == hostname)
        return _one(node, look)
    return _all(rack, look)


def _all(rack: Rack, look: Look) -> Iterator[RenderableType]:
    table = view.table("State", "Node", "Board", "Address", "Stage", "Since", "Boot", "Detail")
    for node in rack.nodes:
        table.add_row(*_row(node, rack.time))
    yield table
    for node in rack.nodes:
        yield from _stuck(node)
    yield _engines(rack, served=look.ledger.exists())
    if unknown := strangers(rack):
        count = f"{len(unknown)} board{'s are' if len(unknown) > 1 else ' is'} no node yet"
        yield view.clean(f"{count}: {named(unknown)}; `pibake boards` says more")
    for then, text in rack.said[-WARNINGS:]:
        yield view.clean(f"{view.ago(then, rack.time)}: {text}")


def _row(node: Node, now: float) -> list[Text | str]:
    known = node.known
    return [
        _state(node), known.hostname, known.board, known.address, _track(node), view.ago(node.since, now),
        str(node.timeline.boot) if node.timeline else "", view.cell(node.detail),
    ]  # fmt: skip


def _state(node: Node) -> Text:
    from rich.text import Text

    return Text(f"{states.MARKS[node.state]} {node.state}", COLOURS[node.state])


def _track(node: Node) -> Text | str:
    """Return a character for each stage, and the name of the one it is in; nothing of a node that was not heard of."""
    from rich.text import Text

    if node.timeline is None or not node.timeline.moments:
        return ""
    stages = [one for one in STAGES if node.known.member or one != "endpoint"]
    heard = {moment.stage: moment for moment in node.timeline.moments}
    at = STAGES.index(node.stage)
    marks = (_mark(heard.get(stage), passed=STAGES.index(stage) < at) for stage in stages)
    return Text(f"{''.join(marks)} {node.stage}")


def _mark(moment: Moment | None, *, passed: bool) -> str:
    """Return how a stage stands; what has come after it says that it is done, whether it was heard of or not."""
    if passed or (moment and moment.status == OK):
        return DONE
    return TO_COME if moment is None else UNDER_WAY if moment.status == WAIT else WRONG


def _stuck(node: Node) -> Iterator[Text]:
    if node.stuck:
        where = view.clean(f"{node.known.hostname} is stuck at {node.stuck.at}: {node.stuck.cause}")
        where.stylize("red", 0, len(node.known.hostname))
        yield where
        yield view.clean(f"  {node.stuck.remedy}")


def _engines(rack: Rack, *, served: bool) -> Text:
    if not served:
        return view.clean("nothing has been served here yet: `sudo pibake serve` does")
    if not any(map(_lives, rack.engines)):
        return view.clean("nothing serves now: `sudo pibake serve` does")
    return view.clean(f"engines: {', '.join(map(_engine, rack.engines))}")


def _lives(engine: Mapping[str, Any]) -> bool:
    """Tell whether an engine's process is there still: what was last said of it may be of a server that was killed."""
    return bool(engine.get("pid")) and Path("/proc", str(engine["pid"])).exists()


def _engine(engine: Mapping[str, Any]) -> str:
    again = f", started again {engine['restarts']} times" if engine.get("restarts") else ""
    problem = f" ({engine['problem']})" if engine.get("problem") else ""
    return f"{engine['name']} {engine['state']}{again}{problem}"


def _one(node: Node, look: Look) -> Iterator[RenderableType]:
    """Yield what there is to say of one node."""
    from rich.text import Text

    from pibake.boards import BOARDS
    from pibake.rack.ledger import history

    known = node.known
    which = ", ".join(filter(None, (BOARDS[known.board].title, known.serial, known.mac, known.address)))
    yield Text.assemble(_state(node), f"  {known.hostname}  {states.STATES[node.state]}  ({which})")
    if node.timeline is None:
        if node.detail:
            yield view.clean(node.detail)
        return
    table = view.table("Stage", "Began", "Took", "Status", "Detail")
    ended = 0.0
    for moment in node.timeline.moments:
        took = max(moment.last - (ended or moment.began), 0)
        table.add_row(
            moment.stage, _clock(moment.began), view.lasted(took), moment.status, view.cell(_detail(moment))
        )
        ended = max(ended, moment.last)
    yield table
    yield from _stuck(node)
    before = [boot for boot in history(look.ledger, known.hostname) if boot.boot != node.timeline.boot]
    if before:
        yield _boots(before)


def _boots(boots: list[Timeline]) -> RenderableType:
    table = view.table("Boot before", "Began", "Took", "Came to", "Detail")
    for boot in reversed(boots):
        last, began = furthest(boot), boot.moments[0].began
        table.add_row(
            str(boot.boot), _clock(began), view.lasted(max(last.last - began, 0)), f"{last.stage}: {last.status}",
            view.cell(_detail(last)),
        )  # fmt: skip
    return table


def _detail(moment: Moment) -> str:
    """Say what there is to a stage, in one line."""
    said = [moment.detail]
    if moment.stage == "tftp":
        rate = f", {size(moment.size / moment.seconds)}/s" if moment.seconds > 0 else ""
        said.insert(0, f"{moment.files} files, {size(moment.size)}{rate}")
        said.append(f"there is no {moment.missing}" if moment.missing else "")
    elif moment.count > 1:
        said.insert(0, f"{moment.count} times")
    return "; ".join(filter(None, said))


def _clock(then: float) -> str:
    """Return a time as this host has it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))
