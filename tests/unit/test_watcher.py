"""What is heard of a board is put down to the node that it is, and to the boot that it is in."""

from __future__ import annotations

import sys
import threading
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.racks import MAC, NOW

from pibake.boards import BOARDS
from pibake.netboot.values import Client
from pibake.probe.models import MODELS, Need
from pibake.rack import ledger
from pibake.rack.case import PROBES
from pibake.rack.values import FAIL, Sighting
from pibake.serve import watcher
from pibake.serve.folders import Folders
from pibake.serve.tftplog import BROKEN, MISSING, SENT, Transfer, transfer
from pibake.serve.watcher import SLACK, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pibake.rack.values import Moment, Seen, Timeline

OTHER = "dc:a6:32:09:09:09"
FIRST, SECOND, THIRD = (f"192.168.10.{number}" for number in (11, 12, 13))
FROM_ROUTER = "192.168.10.150"
BY_MAC = Client("first", IPv4Address(FIRST), MAC, "abcd1234", BOARDS["pi4"], "nfs")
BY_SERIAL = Client("second", IPv4Address(SECOND), "", "0badcafe", BOARDS["pi4"], "nfs")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "netboot")
    made.make()
    return made


class Clock:
    """The server's, which stands still until it is set."""

    now = NOW

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(watcher, "time", made)
    return made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def heard(folders: Folders, said: list[str]) -> Watcher:
    made = Watcher(folders, said.append)
    made.update([BY_MAC, BY_SERIAL])
    return made


def dhcp(mac: str = MAC, at: float = NOW, **known: Any) -> Sighting:
    return Sighting(at, mac, "dhcp", **known)


def tftp(path: str, address: str, mac: str = MAC, at: float = NOW, serial: str = "") -> Sighting:
    return Sighting(at, mac, "tftp", serial, address=address, path=path)


def report(stage: str, uptime: float = 60.0, **more: Any) -> dict[str, Any]:
    usual = {"status": "ok", "detail": "", "attempts": 1, "started": 0, "time": NOW, "reached": {}}
    return {**usual, "stage": stage, "uptime": uptime, **more}


def boot(of: Watcher, subject: str = "first") -> Timeline:
    return of.ledger.timelines()[subject]


def stage(of: Watcher, name: str, subject: str = "first") -> Moment:
    found = boot(of, subject).stage(name)
    assert found, f"{subject} has come to {boot(of, subject)}"
    return found


def stages(of: Watcher, subject: str = "first") -> list[str]:
    return [one.stage for one in boot(of, subject).moments]


def sent(of: Watcher, path: Path, address: str) -> None:
    of.line("dnsmasq", f"dnsmasq-tftp: sent {path} to {address}")


def missed(of: Watcher, path: Path, address: str) -> None:
    of.line("dnsmasq", f"dnsmasq-tftp[7]: file {path} not found for {address}")


def test_lines_of_the_log_tell_how_transfers_ended() -> None:
    assert transfer("dnsmasq-tftp: sent /t/a b to c/x to 10.0.0.7") == Transfer(
        SENT, "/t/a b to c/x", "10.0.0.7"
    )
    assert transfer("dnsmasq-tftp[9]: file /t/x not found for 10.0.0.7") == Transfer(
        MISSING, "/t/x", "10.0.0.7"
    )
    assert transfer("dnsmasq-tftp: failed sending /t/x to 10.0.0.7") == Transfer(BROKEN, "/t/x", "10.0.0.7")


@pytest.mark.parametrize(
    "line",
    [
        "dnsmasq-tftp: error 0 Early terminate received from 10.0.0.7",
        "dnsmasq-dhcp: sent /t/x to 10.0.0.7",
        "dnsmasq-tftp: sent /t/x to nobody",
        "sent /t/x to 10.0.0.7",
        "",
    ],
)
def test_other_lines_tell_of_no_transfer(line: str) -> None:
    assert transfer(line) is None


def test_a_board_is_the_node_with_its_mac_address_or_else_its_serial_or_else_none(heard: Watcher) -> None:
    asked: list[Seen] = []
    heard.on_board = asked.append
    heard.sighted(dhcp())
    heard.sighted(dhcp(OTHER, serial="0badcafe"))
    heard.sighted(dhcp("dc:a6:32:00:00:01", serial="ffffffff", boards=("pi4",)))
    assert set(heard.ledger.timelines()) == {"first", "second", "dc:a6:32:00:00:01"}
    assert [one.mac for one in asked] == [MAC, OTHER, "dc:a6:32:00:00:01"]


def test_another_board_with_a_nodes_serial_is_not_the_node_whose_mac_address_is_known(heard: Watcher) -> None:
    heard.sighted(dhcp(OTHER, serial="abcd1234"))
    assert set(heard.ledger.timelines()) == {OTHER}


def test_nodes_that_are_new_count_from_then_on(heard: Watcher) -> None:
    heard.sighted(dhcp(OTHER))
    heard.update([Client("third", IPv4Address(THIRD), OTHER, "", BOARDS["pi4"], "nfs")])
    heard.sighted(dhcp(OTHER, NOW + 1))
    assert stage(heard, "dhcp", "third").count == 1
    heard.sighted(dhcp(MAC))
    assert "first" not in heard.ledger.timelines()


@pytest.mark.parametrize(
    ("asked", "subject"),
    [
        (tftp("start4.elf", FIRST, MAC, serial="abcd1234"), "first"),
        (tftp("start4.elf", FROM_ROUTER, MAC, serial="abcd1234"), "first"),
        (tftp("start4.elf", FROM_ROUTER, OTHER, serial="0badcafe"), "second"),
        (tftp("start4.elf", FROM_ROUTER, OTHER), OTHER),
        (tftp("start4.elf", SECOND, MAC), "first"),
    ],
)
def test_files_are_put_down_to_who_asked_for_them_whatever_address_a_router_gave_it(
    heard: Watcher, folders: Folders, clock: Clock, asked: Sighting, subject: str
) -> None:
    file = folders.tftp / "start4.elf"
    file.write_bytes(bytes(5000))
    heard.sighted(asked)
    clock.now += 2
    sent(heard, file, asked.address)
    assert set(heard.ledger.timelines()) == {subject}
    found = stage(heard, "tftp", subject)
    assert (found.files, found.size, found.seconds) == (1, 5000, 2.0)


def test_a_file_of_a_node_counts_also_if_nobody_heard_it_ask(heard: Watcher, folders: Folders) -> None:
    (folders.tftp / "config.txt").write_bytes(bytes(70))
    sent(heard, folders.tftp / "config.txt", SECOND)
    assert (stage(heard, "tftp", "second").files, stage(heard, "tftp", "second").size) == (1, 70)
    sent(heard, folders.tftp / "config.txt", FROM_ROUTER)
    assert set(heard.ledger.timelines()) == {"second"}


def test_the_size_of_a_file_elsewhere_is_not_looked_at(heard: Watcher, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(bytes(9))
    sent(heard, outside, FIRST)
    assert stage(heard, "tftp").size == 0


def test_a_file_that_is_not_there_is_kept_as_it_was_asked_for_until_the_board_goes_on(
    heard: Watcher, folders: Folders
) -> None:
    missed(heard, folders.tftp / "abcd1234/start4.elf", FIRST)
    missed(heard, folders.tftp / "abcd1234/recovery.elf", FIRST)
    assert stage(heard, "tftp").missing == "abcd1234/start4.elf"
    sent(heard, folders.tftp / "start4.elf", FIRST)
    assert stage(heard, "tftp").missing == ""


@pytest.mark.parametrize(
    "name",
    sorted(
        {
            name
            for model in MODELS.values()
            for part in model.stages
            for name, need in part.files
            if need in {Need.OPTIONAL, Need.ABSENT}
        }
    ),
)
def test_a_file_that_every_board_does_without_is_not_missing(
    heard: Watcher, folders: Folders, name: str
) -> None:
    missed(heard, folders.tftp / "abcd1234" / name, FIRST)
    assert "first" not in heard.ledger.timelines() or stage(heard, "tftp").missing == ""


def test_no_file_that_a_board_needs_is_one_that_it_does_without() -> None:
    needed = {
        name for model in MODELS.values() for part in model.stages for name, need in part.files
        if need in {Need.REQUIRED, Need.EXPECTED}
    }  # fmt: skip
    assert not needed & PROBES


def test_the_first_connection_of_a_boot_is_the_kernels(heard: Watcher, clock: Clock) -> None:
    heard.sighted(dhcp())
    for after in (5, 9):
        clock.now = NOW + after
        heard.connected(FIRST, 2049)
        heard.connected(FROM_ROUTER, 2049)
    assert stages(heard) == ["dhcp", "kernel"]
    assert (stage(heard, "kernel").began, stage(heard, "kernel").count) == (NOW + 5, 1)
    assert set(heard.ledger.timelines()) == {"first"}


def test_a_node_that_runs_and_connects_again_starts_no_kernel(heard: Watcher) -> None:
    heard.reported("first", report("root"))
    heard.connected(FIRST, 2049)
    assert stages(heard) == ["root"]


@pytest.mark.usefixtures("clock")
def test_what_a_node_has_reached_is_told_with_its_times(heard: Watcher) -> None:
    reached = {"root": 12.0, "network": 20.0, "nonsense": 1.0}
    heard.reported("first", report("join", status=FAIL, detail="no route", attempts=3, reached=reached))
    assert stages(heard) == ["root", "network", "join"]
    assert [one.began - NOW for one in boot(heard).moments] == [-48.0, -40.0, 0.0]
    told = stage(heard, "join")
    assert (told.status, told.detail, told.count) == (FAIL, "no route", 3)


def test_a_report_of_a_newer_boot_does_not_land_in_the_old_one(heard: Watcher, clock: Clock) -> None:
    heard.sighted(dhcp(at=NOW - 90))
    heard.reported("first", report("ready", reached={"root": 10.0}))
    clock.now += 100
    heard.reported("first", report("root", uptime=9.0))
    assert boot(heard).boot == 2
    assert stages(heard) == ["kernel", "root"]
    assert stage(heard, "kernel").began == NOW + 91


def test_a_boot_that_ended_at_its_kernel_is_not_the_one_that_is_reported_later(
    heard: Watcher, clock: Clock
) -> None:
    heard.connected(FIRST, 2049)
    clock.now += 300
    heard.reported("first", report("root", uptime=9.0))
    assert boot(heard).boot == 2


def test_reports_that_come_late_stay_in_their_boot(heard: Watcher, clock: Clock) -> None:
    for uptime, late in ((1.0, 0.0), (2.0, SLACK - 1), (60.0, 0.5)):
        clock.now = NOW + uptime + late
        heard.reported("first", report("join", uptime=uptime, reached={"root": 0.1}))
    assert boot(heard).boot == 1


@pytest.mark.parametrize("name", ["dhcp", "tftp", "kernel"])
def test_a_report_tells_of_what_a_node_does_itself_and_no_more(heard: Watcher, name: str) -> None:
    heard.reported("first", report(name, reached={name: 3.0, "root": 12.0}))
    assert stages(heard) == ["root"]


@pytest.mark.parametrize("uptime", [-1e14, -3600.0, 1e14])
def test_a_node_that_lies_about_its_uptime_has_times_that_can_be(
    heard: Watcher, clock: Clock, uptime: float
) -> None:
    for after in range(3):
        clock.now = NOW + after
        heard.reported("first", report("ready", uptime=uptime, reached={"root": -1e14, "join": 1e14}))
    assert boot(heard).boot == 1
    assert all(0 <= one.began <= NOW + 2 for one in boot(heard).moments)


def test_the_last_words_are_kept_and_no_more(heard: Watcher) -> None:
    for number in range(60):
        heard.said(f"sentence {number}")
    assert [text for _, text in heard.server()["said"]] == [f"sentence {number}" for number in range(10, 60)]


@pytest.fixture
def hurried() -> Iterator[None]:
    """Have threads take turns at every chance."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hurried")
def test_words_may_be_said_while_others_read_them(heard: Watcher) -> None:
    over = threading.Event()
    faults: list[Exception] = []

    def talk() -> None:
        while not over.is_set():
            heard.said("something")

    def read() -> None:
        try:
            for _ in range(1000):
                heard.server()
        except RuntimeError as error:
            faults.append(error)

    talking = [threading.Thread(target=talk) for _ in range(2)]
    reading = threading.Thread(target=read)
    for one in (*talking, reading):
        one.start()
    reading.join()
    over.set()
    for one in talking:
        one.join()
    assert faults == []


def test_what_is_heard_goes_to_the_disk_by_itself(
    heard: Watcher, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "EVERY", 0.02)
    path = folders.root / ledger.NAME
    with heard:
        heard.sighted(dhcp(serial="abcd1234"))
        until(lambda: "first" in ledger.read(path)[1])
        heard.said("bye")
    boards, boots, server = ledger.read(path)
    assert ([one.serial for one in boards], set(boots)) == (["abcd1234"], {"first"})
    assert server["said"][-1][1] == "bye"


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)
