"""What is kept of boards and boots: in memory, on the disk, and after a restart."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.unit.racks import MAC, NOW

from pibake.errors import PibakeError
from pibake.rack import ledger
from pibake.rack.ledger import BOARDS, BOOTS, QUIET, Ledger, history, read
from pibake.rack.values import FAIL, WAIT, Sighting

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ledger.NAME


def mac(number: int) -> str:
    return f"dc:a6:32:00:{number >> 8:02x}:{number & 255:02x}"


def boots(path: Path, subject: str = "node1") -> list[int]:
    return [one.boot for one in history(path, subject)]


def test_all_that_a_board_has_told_is_kept(path: Path) -> None:
    kept = Ledger(path)
    kept.hear(Sighting(NOW, MAC, "dhcp", "abcd1234", ("pi4", "pi400"), 4096, "PXEClient"))
    seen = kept.hear(Sighting(NOW + 5, MAC, "tftp", address="192.168.10.13", path="abcd1234/start4.elf"))
    assert (seen.first, seen.last, seen.asked) == (NOW, NOW + 5, 1)
    assert (seen.serial, seen.memory, seen.vendor, seen.address) == (
        "abcd1234",
        4096,
        "PXEClient",
        "192.168.10.13",
    )


def test_what_a_board_may_be_is_narrowed_by_what_it_asks(path: Path) -> None:
    kept = Ledger(path)
    for told, known in [
        (("pi3", "pi2"), ("pi3", "pi2")),
        (("pi2",), ("pi2",)),
        (("pi3", "pi2"), ("pi2",)),
        ((), ("pi2",)),
        (("pi5",), ("pi5",)),
    ]:
        assert kept.hear(Sighting(NOW, MAC, "dhcp", boards=told)).boards == known


def test_a_question_again_within_a_minute_is_a_retry_and_after_it_a_new_boot(path: Path) -> None:
    kept = Ledger(path)
    kept.note("node1", "dhcp", NOW)
    assert kept.note("node1", "dhcp", NOW + QUIET).count == 2
    assert kept.timelines()["node1"].boot == 1
    assert kept.note("node1", "dhcp", NOW + 2 * QUIET + 1).count == 1
    assert kept.timelines()["node1"].boot == 2


def test_a_question_after_the_kernel_is_a_new_boot_at_once(path: Path) -> None:
    kept = Ledger(path)
    for at, stage in enumerate(("dhcp", "tftp", "dhcp", "kernel")):
        kept.note("node1", stage, NOW + at)
    assert kept.timelines()["node1"].boot == 1
    kept.note("node1", "dhcp", NOW + 5)
    assert [one.stage for one in kept.timelines()["node1"].moments] == ["dhcp"]
    assert kept.timelines()["node1"].boot == 2


def test_files_are_added_up_and_other_values_take_the_place_of_the_old(path: Path) -> None:
    kept = Ledger(path)
    kept.note("node1", "tftp", NOW, files=1, size=100, seconds=0.5, missing="a")
    found = kept.note("node1", "tftp", NOW + 1, files=2, size=50, seconds=0.25, missing="b", status=FAIL)
    assert (found.files, found.size, found.seconds, found.missing, found.count) == (3, 150, 0.75, "b", 2)
    assert (found.began, found.last, found.status) == (NOW, NOW + 1, FAIL)


def test_stages_stand_in_the_order_in_which_they_began(path: Path) -> None:
    kept = Ledger(path)
    for stage, at in (("kernel", 2), ("cloud-init", 9), ("root", 5)):
        kept.note("node1", stage, NOW + at)
    assert [one.stage for one in kept.timelines()["node1"].moments] == ["kernel", "root", "cloud-init"]


def test_what_is_flushed_is_read_as_it_was_and_goes_on_after_a_restart(path: Path) -> None:
    kept = Ledger(path)
    kept.hear(Sighting(NOW, MAC, "dhcp", "abcd1234", ("pi4", "pi400"), 4096))
    kept.note("node1", "dhcp", NOW)
    kept.note("node1", "kernel", NOW + 9, status=WAIT, detail="waits")
    kept.say("said", [[NOW, "hello"]])
    kept.flush()
    assert read(path) == (kept.boards(), kept.timelines(), {"said": [[NOW, "hello"]]})
    again = Ledger(path)
    assert (again.boards(), again.timelines()) == (kept.boards(), kept.timelines())
    again.note("node1", "dhcp", NOW + 20)
    again.flush()
    assert boots(path) == [1, 2]


def test_what_is_not_flushed_is_not_read(path: Path) -> None:
    kept = Ledger(path)
    kept.note("node1", "dhcp", NOW)
    assert read(path) == ([], {}, {})
    kept.flush()
    assert boots(path) == [1]


def test_the_last_20_boots_are_kept_of_each_subject(path: Path) -> None:
    kept = Ledger(path)
    kept.note("node2", "dhcp", NOW)
    for number in range(BOOTS + 5):
        kept.note("node1", "dhcp", NOW + number * 2 * QUIET)
        kept.flush()
    assert boots(path) == list(range(6, BOOTS + 6))
    assert boots(path, "node2") == [1]


def test_many_boots_between_two_flushes_are_kept_and_old_ones_go(path: Path) -> None:
    kept = Ledger(path)
    for number in range(BOOTS + 5):
        kept.note("node1", "dhcp", NOW + number * 2 * QUIET)
    kept.flush()
    assert boots(path) == list(range(6, BOOTS + 6))


def test_of_more_than_4096_boards_those_seen_longest_ago_go_with_what_they_did(path: Path) -> None:
    kept = Ledger(path)
    for number in range(BOARDS):
        kept.hear(Sighting(NOW + number, mac(number), "dhcp"))
        kept.note(mac(number), "dhcp", NOW + number)
    kept.flush()
    kept.hear(Sighting(NOW + BOARDS, mac(0), "dhcp"))
    for number in (BOARDS, BOARDS + 1):
        kept.hear(Sighting(NOW + number, mac(number), "dhcp"))
        kept.note(mac(number), "dhcp", NOW + number)
    kept.flush()
    boards, timelines, _ = read(path)
    assert len(boards) == len(timelines) == BOARDS
    assert {mac(1), mac(2)}.isdisjoint(
        {seen.mac for seen in boards} | timelines.keys() | kept.timelines().keys()
    )
    assert mac(0) in {seen.mac for seen in boards}


def test_a_board_that_comes_and_goes_between_two_flushes_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "BOARDS", 1)
    kept = Ledger(path)
    for number in (1, 2):
        kept.hear(Sighting(NOW + number, mac(number), "dhcp"))
        kept.note(mac(number), "dhcp", NOW + number)
    kept.flush()
    boards, timelines, _ = read(path)
    assert [seen.mac for seen in boards] == list(timelines) == [mac(2)]


def test_a_flush_that_fails_loses_nothing_and_the_next_one_writes_it(path: Path) -> None:
    kept = Ledger(path)
    kept.hear(Sighting(NOW, MAC, "dhcp"))
    kept.note("node1", "dhcp", NOW)
    kept.say("said", [])
    with closing(sqlite3.connect(path)) as base:
        base.execute("ALTER TABLE moments RENAME TO elsewhere")
    with pytest.raises(OSError, match="no such table: moments"):
        kept.flush()
    kept.note("node1", "dhcp", NOW + 1)
    with closing(sqlite3.connect(path)) as base:
        base.execute("ALTER TABLE elsewhere RENAME TO moments")
    kept.flush()
    boards, timelines, server = read(path)
    assert [seen.mac for seen in boards] == [MAC]
    assert timelines["node1"].moments[0].count == 2
    assert server == {"said": []}


def test_nothing_new_is_not_written(path: Path) -> None:
    kept = Ledger(path)
    kept.note("node1", "dhcp", NOW)
    kept.say("said", [])
    kept.flush()
    before = path.stat().st_mtime_ns
    kept.say("said", [])
    kept.flush()
    assert path.stat().st_mtime_ns == before


def test_texts_of_boards_are_values_and_no_statements(path: Path) -> None:
    hostile = "'); DROP TABLE moments; --\x00\N{SNOWMAN}"
    kept = Ledger(path)
    kept.hear(Sighting(NOW, MAC, "dhcp", vendor=hostile))
    kept.note("node1", "network", NOW, detail=hostile, missing=hostile)
    kept.flush()
    boards, timelines, _ = read(path)
    assert boards[0].vendor == hostile
    assert (timelines["node1"].moments[0].detail, timelines["node1"].moments[0].missing) == (hostile, hostile)


def test_before_anything_was_kept_there_is_nothing(path: Path) -> None:
    assert read(path) == ([], {}, {})
    assert history(path, "node1") == []
    assert not path.exists()


def test_a_file_that_is_no_ledger_is_named(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    for what in (Ledger, read, lambda path: history(path, "node1")):
        with pytest.raises(PibakeError, match=str(path)) as caught:
            what(path)
        assert "remove it" in caught.value.hint
