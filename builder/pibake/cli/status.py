"""`pibake status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pibake.cli.common import config_option

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cli.rack import Look
    from pibake.rack.states import Node

EVERY = 1.0
"""Seconds between two looks of `--watch`."""


@click.command(
    epilog="""\b
Examples:
  pibake status
  pibake status node3                 how it came where it is, and its boots before
  pibake status --watch
  pibake status --json | jq -r '.nodes[] | select(.state == "stuck").hostname'"""
)
@config_option
@click.option(
    "--watch", is_flag=True, help="Go on showing it until Ctrl-C; through a pipe, a line for each change."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, for scripts.")
@click.argument("node", default="", metavar="[NODE]")
def status(*, config: Path | None, watch: bool, as_json: bool, node: str) -> None:
    """Show how far each node has come, and why one hangs.

    It reads what `pibake serve` has noted, whether that runs or not. With NODE, it shows the stages of its present boot, and
    its boots before.
    """
    from pibake.cli import rack as view

    if watch and as_json:
        raise click.UsageError("--watch and --json do not go together: give one of them")
    look = view.Look(config)
    hostname = look.plan.node(node).hostname if node else ""
    if as_json:
        _json(look, hostname)
    elif watch:
        _watch(look, hostname)
    else:
        from pibake.cli import statusview

        view.show(statusview.parts(look, hostname))


def _json(look: Look, hostname: str) -> None:
    from dataclasses import asdict

    from pibake.cli import rack as view
    from pibake.rack import ledger
    from pibake.rack.status import as_json

    value = as_json(look.rack())
    if not hostname:
        view.dump(value)
        return
    (one,) = (node for node in value["nodes"] if node["hostname"] == hostname)
    boots = [
        {"boot": boot.boot, "stages": [asdict(moment) for moment in boot.moments]}
        for boot in ledger.history(look.ledger, hostname)
    ]
    view.dump({**one, "boots": boots})


def _watch(look: Look, hostname: str) -> None:
    from pibake.cli import rack as view

    screen = view.console()
    try:
        if not screen.is_terminal or screen.is_dumb_terminal:  # a dumb one cannot draw anew
            _follow(look, hostname)
        from rich.console import Group
        from rich.live import Live

        from pibake.cli import statusview

        with Live(console=screen, auto_refresh=False, screen=True, vertical_overflow="ellipsis") as live:
            while True:
                live.update(Group(*statusview.parts(look, hostname)), refresh=True)
                time.sleep(EVERY)
    except KeyboardInterrupt:
        return


def _follow(look: Look, hostname: str) -> None:
    """Print a line for each node that has changed."""
    before: dict[str, str] = {}
    while True:
        rack = look.rack()
        for node in rack.nodes:
            name, line = node.known.hostname, _line(node)
            if hostname in {"", name} and before.get(name) != line:
                before[name] = line
                click.echo(f"{time.strftime('%H:%M:%S', time.localtime(rack.time))} {line}")
        time.sleep(EVERY)


def _line(node: Node) -> str:
    from pibake.cli import rack as view

    said = [f"{node.known.hostname}: {node.state}", node.stage, node.detail]
    if node.stuck:
        said.append(f"{node.stuck.cause} ({node.stuck.remedy})")
    return view.clean(": ".join(filter(None, said))).plain
