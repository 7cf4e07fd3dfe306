"""Boards become nodes by themselves, a rack at a time, and not for ever."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.unit.test_binding import cluster, one, seen

from pibake.progress import Silent
from pibake.rack import adopted
from pibake.rack.adopted import AUTO
from pibake.rack.values import Moment, Timeline
from pibake.serve.adoption import Adoption
from pibake.serve.folders import Folders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from pibake.plan import Plan
    from pibake.rack.adopted import Adopted


def automatic(decided: Plan, seconds: int = 60) -> Plan:
    return replace(decided, netboot=replace(decided.netboot, adopt="auto", adopt_window=seconds))


def made(
    folder: Path, decided: Plan, timelines: Mapping[str, Timeline] | None = None, gather: float = 0.02
) -> Adoption:
    return Adoption(Folders(folder), decided, Silent(), lambda: timelines or {}, gather)


def settled(folder: Path, count: int) -> dict[str, str]:
    """Wait for so many boards to be nodes, and a little for more; return the last digit of each node's board."""
    deadline = time.monotonic() + 5
    while len(found := adopted.read(folder)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    time.sleep(0.1)
    return {hostname: board.mac[-1] for hostname, board in adopted.read(folder).items()}


def test_boards_that_ask_at_once_are_adopted_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], adopted.write

    def noted(folder: Path, every: Mapping[str, Adopted]) -> None:
        written.append(len(every))
        write(folder, every)

    monkeypatch.setattr(adopted, "write", noted)
    one_ = made(tmp_path, automatic(cluster(tmp_path, *[", board: pi4"] * 8)), gather=0.2)
    for number in (3, 1, 2, 7, 5, 6, 4, 8):
        one_.board(seen(number, "pi4"))
        one_.board(seen(number, "pi4"))
    assert settled(tmp_path, 8) == {f"node{n}": str(n + 1) for n in range(8)}
    assert written == [8]


def test_nothing_is_adopted_by_itself_unless_cluster_yaml_says_so_or_after_the_window(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", board: pi4")
    for plan in (decided, automatic(decided, -1)):
        made(tmp_path, plan).board(seen(1, "pi4"))
    assert settled(tmp_path, 0) == {}


def test_a_node_that_has_booted_is_not_given_to_the_next_board(tmp_path: Path) -> None:
    decided = automatic(cluster(tmp_path, ", board: pi4", ", board: pi4", ", board: pi4"))
    booted = Timeline("node0", 1, (Moment("dhcp", 1, 1), Moment("kernel", 2, 2)))
    asked = Timeline("node1", 1, (Moment("dhcp", 1, 1),))
    folder = Folders(tmp_path).node("node2")
    folder.mkdir(parents=True)
    (folder / "report.json").write_text('{"stage": "ready"}')
    one_ = made(tmp_path, decided, {"node0": booted, "node1": asked})
    for number in (1, 2, 3):
        one_.board(seen(number, "pi4"))
    assert settled(tmp_path, 1) == {"node1": "1"}


def test_a_board_that_is_a_node_already_becomes_no_other(tmp_path: Path) -> None:
    decided = automatic(cluster(tmp_path, ", board: pi4", ', board: pi4, mac: "dc:a6:32:01:02:01"'))
    adopted.write(tmp_path, {})
    one_ = made(tmp_path, decided)
    one_.board(seen(1, "pi4"))
    assert settled(tmp_path, 0) == {}
    one_.board(seen(2, "pi4"))
    one_.board(seen(3, "pi4"))
    assert settled(tmp_path, 1) == {"node0": "2"}


def test_what_is_stopped_adopts_nothing(tmp_path: Path) -> None:
    one_ = made(tmp_path, automatic(cluster(tmp_path, ", board: pi4")), gather=60)
    one_.board(seen(1, "pi4"))
    one_.stop()
    one_.board(seen(1, "pi4"))
    assert settled(tmp_path, 0) == {}


def test_a_disk_that_is_full_is_said_and_boards_that_ask_again_are_adopted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    class Said(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    one_ = Adoption(Folders(tmp_path), automatic(cluster(tmp_path, ", board: pi4")), Said(), gather=0.02)
    with monkeypatch.context() as patched:
        patched.setattr(adopted, "write", full)
        one_.board(seen(1, "pi4"))
        time.sleep(0.2)
    assert "boards are not adopted: [Errno 28] No space left" in said[0]
    one_.board(seen(1, "pi4"))
    assert settled(tmp_path, 1) == {"node0": "1"}
    assert adopted.read(tmp_path)["node0"] == replace(
        one(1, by=AUTO), time=adopted.read(tmp_path)["node0"].time
    )
