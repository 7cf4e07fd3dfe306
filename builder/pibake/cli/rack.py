"""What `pibake boards` and `pibake status` share: where they look, and how they put things."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pibake.boards import BOARDS, size
from pibake.errors import ConfigError, PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from pibake.plan import Plan
    from pibake.rack.states import Rack
    from pibake.rack.values import Seen

LONGEST, CELL = 1500, 200
"""Characters of a text that are shown: on lines of its own, and in a table."""


class Look:
    """Looks at the rack of a cluster.yaml, as often as it is asked to.

    Raises:
        PibakeError: cluster.yaml cannot be read.
    """

    def __init__(self, config: Path | None) -> None:
        from pibake.cli.config import locate
        from pibake.serve.folders import NAME

        self.source = locate(config)
        self.folder = self.source.parent / NAME
        self._stamp: list[int] | None = None
        self.plan = self._planned()

    @property
    def ledger(self) -> Path:
        """The file in which is kept what boards have done."""
        from pibake.rack.ledger import NAME

        return self.folder / NAME

    def rack(self) -> Rack:
        """Return the rack as it stands now.

        Raises:
            PibakeError: what is kept cannot be read.
        """
        from pibake.rack import adopted, ledger, status

        with suppress(ConfigError):  # what was planned before the mistake goes on, as with `pibake serve`
            self.plan = self._planned()
        try:
            boards, timelines, server = ledger.read(self.ledger)
            known = status.known(self.plan, adopted.read(self.folder))
        except PermissionError as error:
            raise PibakeError(
                f"{error.filename}: {error.strerror}", "it is another user's: try it with sudo"
            ) from error
        return status.rack(self.plan.cluster, known, boards, timelines, server, time.time())

    def _planned(self) -> Plan:
        """Return the plan, read anew if cluster.yaml has changed."""
        from pibake import catalog
        from pibake import config as configuration
        from pibake.fsys import stamp
        from pibake.plan import plan

        now = stamp(self.source)
        if self._stamp is not None and now == self._stamp:
            return self.plan
        self._stamp = now
        return plan(configuration.load(self.source, bases=catalog.names()))


def cell(text: str) -> Text:
    """Return what may be printed of a text in a table."""
    return clean(text, CELL)


def clean(text: str, longest: int = LONGEST) -> Text:
    """Return what may be printed of a text that may come from a board; it is no markup, and moves no cursor."""
    from rich.text import Text

    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return Text("".join(one if one.isprintable() else "?" for one in cut))


def ago(then: float, now: float) -> str:
    """Return how long ago that was: 5 s ago, 2 min ago, 3 h ago, 4 d ago; "" for never."""
    return f"{lasted(max(now - then, 0))} ago" if then else ""


def lasted(seconds: float) -> str:
    """Return a length of time in its largest unit that leaves two of it, or the smallest."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 or not seconds else f"{seconds:.1f} s"


def model(seen: Seen) -> str:
    """Return what a board is, as far as its questions tell."""
    title = BOARDS[seen.boards[0]].title if seen.boards and seen.boards[0] in BOARDS else ""
    return f"{title}, {size(seen.memory)}" if seen.memory else title


def table(*headings: str) -> Table:
    """Return an empty table as the other commands have them; the last column takes the room that is left."""
    from rich.table import Table

    found = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        found.add_column(heading, no_wrap=heading != headings[-1])
    return found


def console() -> Console:
    """Return the console to print on."""
    from rich.console import Console

    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = 300  # a pipe has no edge to wrap at
    return found


def show(parts: Iterable[RenderableType]) -> None:
    """Print parts one below the other."""
    screen = console()
    for part in parts:
        screen.print(part)


def dump(value: Any) -> None:
    """Print JSON."""
    import json

    import click

    click.echo(json.dumps(value, indent=2))
