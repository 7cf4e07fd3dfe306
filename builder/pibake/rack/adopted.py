"""Which boards have been made nodes since cluster.yaml was written: `pibake adopt`, and `adopt: auto`.

A file beside the other state of `pibake serve`, so that it never writes into anybody's cluster.yaml: there a board's
`serial` or `mac` may be copied to, and then counts.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pibake.boards import BOARDS
from pibake.errors import PibakeError
from pibake.fsys import store

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
    """Return the boards that are nodes, by hostname; none if nobody has adopted one.

    Raises:
        PibakeError: somebody has damaged the file.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text("utf-8"))
        return {str(hostname): _checked(Adopted(**value)) for hostname, value in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise PibakeError(
            f"{path} is damaged: {error}", "mend it, or remove it and adopt the boards again"
        ) from error


def _checked(one: Adopted) -> Adopted:
    """Return what has been read: it is about to become lines of other programs' configuration.

    Raises:
        ValueError: it is nothing that was written here.
    """
    texts = (one.mac, one.serial, one.board, one.by)
    if (
        not all(isinstance(text, str) for text in texts)
        or not re.fullmatch(r"([0-9a-f]{2}(:[0-9a-f]{2}){5})?", one.mac)
        or not re.fullmatch(r"([0-9a-f]{8})?", one.serial)
        or not one.mac + one.serial
        or one.board not in BOARDS
        or one.by not in {HAND, AUTO, SERIAL}
        or not isinstance(one.time, int | float)
    ):
        raise ValueError(f"{one} is no board")
    return one


def write(folder: Path, adopted: Mapping[str, Adopted]) -> None:
    """Replace the file whole.

    Raises:
        OSError: it cannot be written.
    """
    store(folder / NAME, {hostname: asdict(one) for hostname, one in sorted(adopted.items())})
