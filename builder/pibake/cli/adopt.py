"""`pibake adopt`: make a board a node."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from pibake.cli.common import config_option
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pibake.plan import Plan
    from pibake.progress import Progress
    from pibake.rack.adopted import Adopted
    from pibake.serve.folders import Folders

PATIENCE = 10.0
"""Seconds in which a server that serves takes up what was adopted; it needs one or two for 500 nodes."""


@click.command(
    epilog="""\b
Examples:
  pibake adopt 10000000abcd1234 --as node4
  pibake adopt dc:a6:32:01:02:03 --as node4 --replace   another board in the place of node4's
  pibake adopt --release node4"""
)
@config_option
@click.option("--as", "node", metavar="NODE", help="The node that the board becomes.")
@click.option("--replace", is_flag=True, help="Even if the node is another board, or has booted as one.")
@click.option("--release", metavar="NODE", help="Take the board away from a node again.")
@click.argument("board", metavar="[SERIAL|MAC]", required=False)
@click.pass_obj
def adopt(
    progress: Progress,
    /,
    *,
    config: Path | None,
    node: str | None,
    replace: bool,
    release: str | None,
    board: str | None,
) -> None:
    """Make a board the node that it is to be, while `pibake serve` runs: its next retry boots.

    A board is named by its MAC address or its serial, all 16 digits or the last 8. The node must have neither `mac` nor
    `serial` in cluster.yaml. That is written beside cluster.yaml, into netboot/adopted.json.
    """
    if release and not (board or node or replace):
        _release(config, release, progress)
    elif board and node and not release:
        _adopt(config, board, node, progress, replace=replace)
    else:
        raise click.UsageError("give a board and --as NODE, or --release NODE alone")


def _adopt(config: Path | None, text: str, name: str, progress: Progress, *, replace: bool) -> None:
    from pibake.rack import binding, byhand, ledger
    from pibake.rack.adopted import NAME
    from pibake.serve.adoption import booted

    plan, folders = _opened(config)
    node = plan.node(name)
    path = folders.root / ledger.NAME
    boards, timelines, _ = ledger.read(path)
    seen = byhand.sought(text, boards)

    def change(known: dict[str, Adopted]) -> None:
        if replace:
            known.pop(node.hostname, None)
        before = not replace and booted(node.hostname, folders, timelines)
        known[node.hostname] = byhand.adoption(plan, known, node, seen, booted=before, time=time.time())

    adopted = _changed(folders, progress, change)[node.hostname]
    if doubt := byhand.doubt(seen, boards):
        click.echo(f"warning: {doubt}", err=True)
    click.echo(f"{node.hostname} is the board {binding.name(adopted)} from now on ({folders.root / NAME})")
    if replace:
        click.echo(
            f"it goes on with the files {node.hostname} has here; `pibake serve --renew {node.hostname}` starts it anew"
        )
    if _taken(folders, node.hostname, adopted):
        click.echo(f"its next retry boots as {node.hostname}")


def _release(config: Path | None, name: str, progress: Progress) -> None:
    from pibake.rack.adopted import SERIAL

    plan, folders = _opened(config)
    hostname = name.lower().partition(".")[0]
    gone: list[Adopted] = []

    def change(known: dict[str, Adopted]) -> None:
        if hostname not in known:
            plan.node(name)  # raises, with the nodes there are, if there is none
            adopted = ", ".join(sorted(known))
            raise PibakeError(
                f"no board was adopted as {hostname}",
                f"of {adopted} one was" if adopted else "nobody has adopted any",
            )
        gone.append(known.pop(hostname))

    _changed(folders, progress, change)
    again = "the next board with its serial is it" if gone[0].by == SERIAL else "it waits for another"
    click.echo(f"{hostname} has no board any more; {again}")
    _taken(folders, hostname, None)


def _opened(config: Path | None) -> tuple[Plan, Folders]:
    from pibake import catalog
    from pibake import config as configuration
    from pibake.cli.config import locate
    from pibake.plan import plan
    from pibake.serve.folders import NAME, Folders

    source = locate(config)
    decided = plan(configuration.load(source, bases=catalog.names()))
    return decided, Folders(source.resolve().parent / NAME)


def _changed(
    folders: Folders, progress: Progress, change: Callable[[dict[str, Adopted]], None]
) -> dict[str, Adopted]:
    """Change what is adopted, and return it; nobody else does meanwhile."""
    from pibake.lock import held
    from pibake.rack import adopted
    from pibake.serve.adoption import LOCK

    try:
        folders.root.mkdir(0o755, parents=True, exist_ok=True)
        with held(folders.root, LOCK, progress):
            known = adopted.read(folders.root)
            change(known)
            adopted.write(folders.root, known)
    except PermissionError as error:
        raise PibakeError(
            f"{error.filename}: {error.strerror}: `pibake serve` ran as root and keeps its files there",
            "sudo pibake adopt",
        ) from error
    return known


def _taken(folders: Folders, hostname: str, wanted: Adopted | None) -> bool:
    """Wait until the server that runs, if one does, serves what was adopted; say what there is to do if it does not."""
    from pibake.lock import is_held
    from pibake.rack import adopted
    from pibake.serve.service import LOCK

    try:
        if not folders.run.exists() or not is_held(folders.run, LOCK):
            click.echo("nothing serves this cluster now: `sudo pibake serve` does")
            return False
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if adopted.read(folders.run).get(hostname) == wanted:
                return True
            time.sleep(0.05)
    except PermissionError:  # what runs is root's: it looks by itself
        return True
    click.echo(f"`pibake serve` runs, and has not taken it up within {PATIENCE:g} s: its log says why")
    return False
