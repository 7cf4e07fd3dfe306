"""The files that add-ons name: where they are, and what is wrong where there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pibake.config import userfiles
from pibake.config.problems import Bad, Loc, Problem, show

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.config.addon import Addon
    from pibake.config.files import Files

CLEAR = "write it into a file of its own, which only you can read, and name that file here"


@dataclass
class Finder:
    """Looks for files, and collects what is wrong.

    Attributes:
        files: the folder of cluster.yaml, and what was read from it.
        found: the add-ons, in the order in which they are written.
        problems: what is wrong with them.
    """

    files: Files
    found: list[Addon] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def values(self, place: Loc, written: Any) -> tuple[Path, dict[str, Any]] | None:
        """Return the values file at a place, and what is in it."""
        if not isinstance(written, str) or not (path := self.file(place, written)):
            return None
        try:
            return path, userfiles.mapping(path)
        except userfiles.Wrong as wrong:
            self.files.elsewhere.append(str(wrong))
        except Bad as bad:
            self.tell(place, f"cannot use {show(written)}: {bad.message}", bad.hint)
        return None

    def file(self, place: Loc, written: str) -> Path | None:
        """Return where a file is that will be read."""
        path = self.files.path(written)
        if not path.is_file():
            self.tell(place, f"there is no file {show(written)}", f"it was looked for at {path}")
            return None
        self.files.read.append(path)
        return path

    def secret(self, place: Loc, written: str) -> Path | None:
        """Return where a secret's file is; what was written may be the secret itself, and is not repeated."""
        path = self.files.path(written)
        try:
            if path.is_file():
                return path
        except OSError:  # a key of many lines is too long for a name
            pass
        self.tell(
            place, f"`{place[-1]}` names a file beside cluster.yaml, and there is none of this name", CLEAR
        )
        return None

    def tell(self, loc: Loc, message: str, hint: str = "", *, on_key: bool = False) -> None:
        """Note a problem."""
        self.problems.append(Problem(loc, message, hint, on_key=on_key))
