"""What a played board asked, what came, and what a real one would make of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Interface
    from pathlib import Path


class Verdict(StrEnum):
    """`OK`; `WARNING`: some boards, or some of their firmware, stop here; `MISSING`: this one does not boot."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Step:
    """One question of a board's.

    Attributes:
        asked: "DISCOVER", "REQUEST", or the path of a file.
        got: what came, in words.
        verdict: how a real board would go on.
        note: what it would miss, and what to do about it; empty if all is well.
        size: bytes of the file that came.
        seconds: from the question to the whole answer.
    """

    asked: str
    got: str
    verdict: Verdict = Verdict.OK
    note: str = ""
    size: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """How far a board came.

    Attributes:
        model: which board was played, a name of `models.MODELS`.
        mac: its MAC address, `dc:a6:32:01:02:03`.
        serial: its serial, 8 hex digits.
        steps: everything it asked, in order.
        address: its own address and subnet; None if nobody gave it one.
        server: where it went for files; None if nobody told it.
        kernel: the saved file it would start: Linux, or UEFI's boot file; None without one, or if nothing is saved.
        initramfs: the saved initramfs; None if config.txt names none, or nothing is saved.
        cmdline: the first line of its kernel command line file.
    """

    model: str
    mac: str
    serial: str
    steps: tuple[Step, ...]
    address: IPv4Interface | None = None
    server: IPv4Address | None = None
    kernel: Path | None = None
    initramfs: Path | None = None
    cmdline: str = ""

    @property
    def boots(self) -> bool:
        """Whether nothing is missing that a real board needs."""
        return all(step.verdict is not Verdict.MISSING for step in self.steps)
