"""Nodes, boards and boots for tests of the rack."""

from __future__ import annotations

from typing import Any

from pibake.rack.states import Known
from pibake.rack.values import OK, Moment, Timeline

NOW = 1_700_000_000.0
MAC = "dc:a6:32:01:02:03"


def known(hostname: str = "node3", **values: Any) -> Known:
    """Return a Pi 4 that is a member and known by its MAC address, but for these values."""
    usual = {
        "address": "192.168.10.13", "board": "pi4", "mac": MAC, "serial": "abcd1234", "root": "nfs", "member": True,
        "by": "cluster.yaml",
    }  # fmt: skip
    return Known(hostname, **{**usual, **values})


def moment(stage: str, ago: float, **values: Any) -> Moment:
    """Return a stage that began, and was heard of last, so many seconds ago."""
    return Moment(stage, **{"began": NOW - ago, "last": NOW - ago, "status": OK, **values})


def boot(*moments: Moment, subject: str = "node3") -> Timeline:
    """Return a first boot."""
    return Timeline(subject, 1, moments)
