"""A board without a card: served, played to its kernel, and booted from there to a node that is well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.boot.wire import wire

if TYPE_CHECKING:
    from pathlib import Path

    from tests.boot.wire import Wire

pytestmark = pytest.mark.boot


def grown(wired: Wire, file: str, limit: float = 60) -> None:
    """Wait until what the node writes once a second into a file goes on."""
    before = int(wired.ssh(f"wc -l < {file}"))
    deadline = time.monotonic() + limit
    while int(wired.ssh(f"wc -l < {file}")) < before + 3:
        assert time.monotonic() < deadline
        time.sleep(1)


def test_a_board_without_a_card_becomes_its_node(tmp_path: Path, debian_13: Path) -> None:
    assert debian_13.exists()
    with wire(tmp_path) as wired:
        wired.serve()
        result = wired.plays("pi4")
        with wired.machine(result) as machine:
            report = wired.report(machine)
            assert wired.problems(report) == []
            assert wired.ssh("findmnt -n -o FSTYPE /") == "overlay"
            assert wired.ssh("findmnt -n -o FSTYPE /var/lib/containerd") == "ext4"
