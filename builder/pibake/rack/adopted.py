"""Which boards have been made nodes since cluster.yaml was written: `pibake adopt`, and `adopt: auto`.

A file beside the other state of `pibake serve`, so that it never writes into anybody's cluster.yaml: there a board's
`serial` or `mac` may be copied to, and then counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pibake.fsys import load, store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME = "adopted.json"
HAND, AUTO, SERIAL = "hand", "auto", "serial"
"""How a board came to its node: by `pibake adopt`, by `adopt: auto`, or as the first with the `serial` cluster.yaml gives the node."""


@dataclass(frozen=True)
class Adopted:
    """The board that a node is; `serial` may be "", `time` is when it was adopted (seconds since 1970)."""

    mac: str
    serial: str
    board: str
    by: str
    time: float


def read(folder: Path) -> dict[str, Adopted]:
    """Return the boards that are nodes, by hostname; none if nobody has adopted one."""
    return {hostname: Adopted(**value) for hostname, value in load(folder / NAME).items()}


def write(folder: Path, adopted: Mapping[str, Adopted]) -> None:
    """Replace the file whole.

    Raises:
        OSError: it cannot be written.
    """
    store(folder / NAME, {hostname: asdict(one) for hostname, one in sorted(adopted.items())})
