"""`pibake card`: what a card holds."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.card import Card, Root

ROOM = 64 << 20
"""Bytes behind the root file system from which on it counts as not enlarged yet."""


@click.group(epilog="Example: pibake card read /dev/sdX")
def card() -> None:
    """Say what a card in the reader holds, or an image."""


@card.command(
    epilog="""\b
Examples:
  pibake card read /dev/sdX
  pibake card read images/out/node3.img --json | jq -r .hostname"""
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.argument("source", type=click.Path(path_type=Path), metavar="DEVICE|IMG")
def read(*, as_json: bool, source: Path) -> None:
    """Say which node and build DEVICE or IMG holds, and how far the node has come.

    Nothing is mounted or changed; permission to read is enough. Exit status 1 if pibake did not make the card, or if
    something on it cannot be read.
    """
    from pibake import card as cards

    found = cards.read(source)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _show(found)
    if found.problems or not found.ours:
        sys.exit(1)


def _show(found: Card) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pibake.cli.system import plain

    table = Table(title=str(found.path), title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for heading, value in _ours(found) if found.ours else _foreign(found):
        if value:
            table.add_row(heading, Text(plain(value)))
    for problem in found.problems:
        table.add_row("Cannot read", Text(plain(problem), style="red"))
    console = Console()
    if not console.is_terminal:
        console.width = 200  # a pipe has no edge to wrap at
    console.print(table)
    if advice := _advice(found):
        console.print(Text.assemble(("next: ", "cyan"), plain(advice)))


def _foreign(found: Card) -> Iterator[tuple[str, str]]:
    from pibake.progress import size

    yield "Made by", "nobody knows: what would tell it cannot be read" if found.problems else "not pibake"
    yield "System", found.root.system if found.root else ""
    kinds = (f"{p.number}: {size(p.size)}, type {p.type}" for p in found.partitions.partitions)
    yield "Partitions", f"{found.partitions.label}\n" + "\n".join(kinds)
    yield "Size", size(found.size)


def _ours(found: Card) -> Iterator[tuple[str, str]]:
    marker, root = found.marker, found.root
    yield "Node", marker.fqdn if marker else found.hostname
    if marker:
        yield "Cluster", marker.cluster
        yield "Address", ", ".join(marker.addresses)
        yield "Role", f"{marker.role}, {marker.kubernetes}" if marker.kubernetes else "plain machine"
        made = f"pibake {marker.pibake}, {_date(marker.source_date_epoch)}"
        golden = (
            ""
            if marker.golden_sha256 == marker.base_sha256
            else f", golden image {marker.golden_sha256[:16]}"
        )
        yield "Build", made + golden
        yield "Base", f"{marker.base}, {marker.base_sha256[:16]}"
    yield "System", root.system if root else ""
    yield "Seed", f"{found.instance_id}{_applied(found)}"
    yield "Secrets", "on the boot partition" if found.secrets else "not on the boot partition"
    if root:
        yield from _progress(root)


def _applied(found: Card) -> str:
    if found.root is None:
        return ""
    if not found.pending:
        return ", applied"
    earlier = f"; {found.root.applied} was applied before" if found.root.applied else ""
    return f", not applied yet{earlier}"


def _progress(root: Root) -> Iterator[tuple[str, str]]:
    from pibake.progress import size

    yield "First boot", "happened" if root.booted else "has not happened yet"
    if root.state:
        when = f" ({_date(root.state.time)})" if root.state.time else ""
        yield "State", f"{root.state.stage}: {root.state.status}{when}\n{root.state.detail}"
        yield (
            "Reached",
            ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in root.state.reached.items()),
        )
    if root.joined:
        yield "Member", "has joined its cluster"
    grown = f"; {size(root.unused)} behind it are unused" if root.unused > ROOM else ", all there is"
    yield "Root file system", size(root.size) + grown
    yield "Host keys", "\n".join(f"{kind} {value}" for kind, value in root.host_keys.items())
    if not root.clean:
        yield "Shut down", "was not shut down cleanly: what the node wrote last may be missing here"


def _advice(found: Card) -> str:
    """Return what to do next where that is obvious."""
    root, name = found.root, found.hostname
    if root is None or found.problems:
        return "flash the card anew if the board does not boot from it"
    if not found.ours:
        return "pibake did not make this card; a node is put on it by flashing"
    if not root.booted:
        return f"put the card into {name}'s board and give it power"
    if found.pending:
        return f"{name} applies the new seed the next time it boots"
    if root.state and root.state.status != "ok":
        how = "stopped" if root.state.status == "failed" else "was waiting"
        return f"{name} {how} at `{root.state.stage}`: {root.state.detail}"
    return ""


def _date(epoch: int) -> str:
    try:
        return dt.datetime.fromtimestamp(epoch, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError, OSError):
        return "at no known time"
