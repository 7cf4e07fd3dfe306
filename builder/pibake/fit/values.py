"""What the rules of fit say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pibake.system import System


class Level(StrEnum):
    """What a finding means for the build."""

    REFUSED = "refused"
    """The node could not work: nothing is made."""
    WARNED = "warned"
    """The node may not work, or not for long: it is made, and the person is told."""
    NOTE = "note"
    """Something was decided that the person would not guess."""


@dataclass(frozen=True)
class Finding:
    """One thing that a node, its board and its base do not agree on: a sentence, and what to do about it."""

    level: Level
    message: str
    hint: str


def refused(message: str, hint: str) -> Finding:
    """Return a reason not to make the node."""
    return Finding(Level.REFUSED, message, hint)


def warned(message: str, hint: str) -> Finding:
    """Return a reason to think twice."""
    return Finding(Level.WARNED, message, hint)


def noted(message: str, hint: str) -> Finding:
    """Return something to know."""
    return Finding(Level.NOTE, message, hint)


def lacking(system: System) -> list[str]:
    """Return what a system does not have of all that pibake's own programs on a node need."""
    needs = {"systemd": system.init == "systemd", "/usr/bin/python3": bool(system.python)}
    return [what for what, there in needs.items() if not there]


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers a version or a kernel's release begins with: "6.12.48+deb13-arm64" is (6, 12, 48)."""
    found = []
    for part in version.split("."):
        digits = part[: next((at for at, character in enumerate(part) if not character.isdigit()), len(part))]
        if not digits:
            break
        found.append(int(digits))
        if digits != part:
            break
    return tuple(found)
