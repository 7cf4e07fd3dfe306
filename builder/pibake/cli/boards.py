"""`pibake boards`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pibake.cli.common import config_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from pibake.rack.states import Board, Known, Rack


FEW = 5
"""Boards that are named in one line."""


@click.command(
    epilog="Example: pibake boards; pibake boards --json | jq -r '.[] | select(.node == \"\").serial'"
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, for scripts.")
def boards(*, config: Path | None, as_json: bool) -> None:
    """Show the boards that have asked to boot, and which node each is.

    Those that are no node yet come first, with the command that makes each one.
    """
    from pibake.cli import rack as view
    from pibake.rack import status

    look = view.Look(config)
    rack = look.rack()
    if as_json:
        view.dump(status.as_json(rack)["boards"])
    elif rack.boards:
        view.show(_parts(rack))
    else:
        click.echo("no board has been heard of yet: `sudo pibake serve` listens; then switch the boards on")


def _parts(rack: Rack) -> Iterator[RenderableType]:
    from pibake.cli import rack as view

    ordered = [*strangers(rack), *(board for board in rack.boards if board.node)]
    table = view.table(
        "Board", "Serial", "MAC address", "Address", "First seen", "Last seen", "Asked", "Node"
    )
    for board in ordered:
        seen = board.seen
        table.add_row(
            view.cell(view.model(seen) or seen.vendor or "?"), view.clean(seen.serial), view.clean(seen.mac),
            view.clean(seen.address), view.ago(seen.first, rack.time), view.ago(seen.last, rack.time), str(seen.asked),
            board.node,
        )  # fmt: skip
    yield table
    for board in ordered:
        if board.note:
            yield view.clean(f"{board.seen.mac}: {board.note}")
    free = [node.known for node in rack.nodes if node.state == "free"]
    left = []
    for board in strangers(rack):
        if node := _fitting(board, free):
            free.remove(node)
            yield view.clean(f"pibake adopt {named([board])} --as {node.hostname}")
        else:
            left.append(board)
    if left:
        yield view.clean(
            f"{named(left)}: no node in cluster.yaml, without `mac` and `serial`, waits for such a board"
        )


def named(boards: Sequence[Board]) -> str:
    """Name boards in one line: a few of them, if they are many."""
    names = [board.seen.serial or board.seen.mac for board in boards[:FEW]]
    return ", ".join(names) + (f" and {len(boards) - FEW} more" if len(boards) > FEW else "")


def strangers(rack: Rack) -> list[Board]:
    """Return the boards that are no node, the one that was last heard of first."""
    found = [board for board in rack.boards if not board.node]
    return sorted(found, key=lambda board: -board.seen.last)


def _fitting(board: Board, free: list[Known]) -> Known | None:
    """Return a node that waits for a board like this: one of its kind, or else one of any."""
    kinds = board.seen.boards
    exact = (node for node in free if node.board in kinds)
    return next(exact, None) or next((node for node in free if node.board == "generic" or not kinds), None)
