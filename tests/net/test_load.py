"""Boards that get power at once, while boards that nobody knows ask without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.crowd import power, seats, strays
from bench.rack import beside, described, used, whole
from tests.net.serving import NEEDED, ground, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = NEEDED
STRAYS = 1000.0


def test_eight_pi_3s_boot_while_a_thousand_strangers_a_second_ask(tmp_path: Path) -> None:
    (tmp_path / "ground").mkdir()
    (tmp_path / "served").mkdir()
    on = ground(tmp_path / "ground")
    which = seats(["pi3"] * 8, "10.77")
    with serving(tmp_path / "served", on, "10.77.0.2/16") as one:
        one.put(described(on, which))
        one.start()
        with strays(one.lab.server, STRAYS):
            ended = power(one.lab.server, which)
        assert [board.complaint for board in ended if not board.booted] == []
        assert all(whole(board, one.netboot / "tftp") for board in ended)
        assert beside(one.netboot, len(which)) < 1 << 20
        assert used(one)["dnsmasq"].peak < 32 << 20
    assert max(board.seconds for board in ended) < 15
