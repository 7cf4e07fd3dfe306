"""The systemd unit of `pibake serve`: what it may do, and which folders it may write to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pibake import fsys, resources
from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH = Path("/etc/systemd/system/pibake-serve.service")


def render(command: Sequence[str], working: Path, writable: Sequence[Path]) -> str:
    """Return the unit.

    Args:
        command: what it starts; the program with its full path.
        working: the folder it starts in, that of cluster.yaml.
        writable: the folders it writes to; one that does not exist is left out by systemd.

    Raises:
        ValueError: a path holds a control character.
    """
    return resources.render(
        "netboot/pibake-serve.service.j2",
        command=" ".join(_word(word).replace("$", "$$") for word in command),
        working=working,
        writable=" ".join(_word(f"-{path}") for path in writable),
    )


def install(text: str, path: Path = PATH) -> None:
    """Put the unit where systemd looks for it, whole or not at all.

    Raises:
        PibakeError: this process may not, or systemd is not there.
    """
    try:
        fsys.write(path, text)
    except OSError as error:
        raise PibakeError(
            f"cannot write {path}: {error.strerror}", "run it as root, on a system with systemd"
        ) from error


def _word(text: str) -> str:
    """Return a word as systemd reads it back (systemd.service(5), "Command lines"; `%` begins a specifier)."""
    escaped = resources.line(text).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
