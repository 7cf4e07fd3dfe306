"""What dnsmasq says of the files it sends (dnsmasq 2.90, src/tftp.c)."""

from __future__ import annotations

import re
from dataclasses import dataclass

SENT, MISSING, BROKEN = "sent", "missing", "broken"
LINES = (
    (SENT, re.compile(r"sent (?P<path>.+) to (?P<address>\d+(?:\.\d+){3})")),
    (MISSING, re.compile(r"file (?P<path>.+) not found for (?P<address>\d+(?:\.\d+){3})")),
    (BROKEN, re.compile(r"failed sending (?P<path>.+) to (?P<address>\d+(?:\.\d+){3})")),
)
PROGRAM = re.compile(r"dnsmasq-tftp(?:\[\d+\])?: ")


@dataclass(frozen=True)
class Transfer:
    """How the transfer of a file ended: `SENT`, `MISSING` or `BROKEN`; the path is that on this server."""

    end: str
    path: str
    address: str


def transfer(line: str) -> Transfer | None:
    """Return what a line of the log says of a transfer; None if it is of something else."""
    said = PROGRAM.match(line)
    if not said:
        return None
    for end, pattern in LINES:
        if found := pattern.fullmatch(line[said.end() :]):
            return Transfer(end, found["path"], found["address"])
    return None
