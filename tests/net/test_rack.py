"""What `pibake serve` hears of boards and keeps: who they are, and how far each has come."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.net.serving import ADDRESS, NEEDED, Ground, Serving, serving
from tests.net.walks import Played, all_played, boards, played, routed
from tests.tools.netns import inside

from pibake.netboot.values import PROXY, SERVER
from pibake.probe import MODELS
from pibake.rack import ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.net.lab import Lab, Seat

    from pibake.rack.values import Moment, Seen, Timeline

pytestmark = NEEDED
KNOWN = boards(["pi4", "pi3", "pi5"])
STRANGER = Played("pi3b+", "b8:27:eb:12:34:56", "c7123456", "")
REPORT = {
    "node": "node11", "stage": "root", "status": "ok", "detail": "", "attempts": 1, "started": 0.1,
    "reached": {"root": 0.1}, "uptime": 0.1, "time": 1790000000,
}  # fmt: skip


@pytest.fixture(scope="module")
def served(on: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("rack"), on) as one:
        write(one)
        one.start()
        all_played(one.lab, KNOWN, one.folder / "boards")
        yield one


def write(one: Serving) -> None:
    lines = [
        f'{{hostname: node{b.address.rpartition(".")[2]}, address: {b.address}, board: {MODELS[b.model].board}, mac: "{b.mac}"}}'
        for b in KNOWN
    ]
    one.write(*lines, more=f"netboot: {{dhcp: {SERVER}}}\n")


def kept(one: Serving) -> tuple[list[Seen], dict[str, Timeline], dict[str, Any]]:
    return ledger.read(one.netboot / ledger.NAME)


def until(so: Callable[[], bool], limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files(one: Serving, hostname: str) -> int:
    tftp = _loading(one, hostname)
    return tftp.files if tftp else 0


def size(one: Serving, hostname: str) -> int:
    """How many bytes a node has loaded, as far as it is known yet."""
    tftp = _loading(one, hostname)
    return tftp.size if tftp else 0


def _loading(one: Serving, hostname: str) -> Moment | None:
    boot = kept(one)[1].get(hostname)
    return boot.stage("tftp") if boot else None


SEATS: dict[tuple[str, str], Seat] = {}


def seat_of(lab: Lab, board: Played) -> Seat:
    """Return the one place at which a node has its address: two would answer for each other."""
    key = (lab.server, board.mac)
    if key not in SEATS:
        SEATS[key] = lab.seat(board.mac, f"{board.address}/24")
    return SEATS[key]


def post(one: Serving, board: Played, **values: Any) -> None:
    """Report as the node that a board is, from its address."""
    seat = seat_of(one.lab, board)
    body = json.dumps({**REPORT, **values}).encode()
    address = f"http://{ADDRESS}:8069/report"
    inside(seat.namespace, lambda: urllib.request.urlopen(address, body, timeout=10).close())


def test_every_board_has_a_timeline_with_what_it_asked_and_loaded(served: Serving) -> None:
    until(lambda: all(size(served, f"node{n}") > 1000 for n in (11, 12, 13)))
    seen, boots, _ = kept(served)
    for board in KNOWN:
        boot = boots[f"node{board.address.rpartition('.')[2]}"]
        dhcp, tftp = boot.stage("dhcp"), boot.stage("tftp")
        assert boot.boot == 1
        assert dhcp
        assert tftp
        assert tftp.size > 1000
        assert tftp.seconds > 0
        assert not tftp.missing
        assert dhcp.began <= tftp.began <= tftp.last
    assert {one.mac: one.boards[0] for one in seen} == {b.mac: MODELS[b.model].board for b in KNOWN}
    assert {one.serial for one in seen} == {b.serial for b in KNOWN}


def test_a_stranger_is_seen_and_is_no_node(served: Serving) -> None:
    assert played(served.lab, STRANGER, patience=0.5).address is None
    until(lambda: STRANGER.mac in {one.mac for one in kept(served)[0]})
    (found,) = [one for one in kept(served)[0] if one.mac == STRANGER.mac]
    assert (found.serial, found.boards[0], found.asked) == (STRANGER.serial, "pi3b+", 1)
    until(lambda: STRANGER.mac in kept(served)[1])


def test_boards_with_addresses_from_a_router_are_still_the_nodes_they_are(on: Ground, tmp_path: Path) -> None:
    by_mac, by_serial = boards(["pi4", "cm4"])
    with serving(tmp_path, on) as one:
        one.write(
            f'{{hostname: by-mac, address: {by_mac.address}, board: pi4, mac: "{by_mac.mac}"}}',
            f"{{hostname: by-serial, address: {by_serial.address}, board: cm4, serial: {by_serial.serial}}}",
            more=f"netboot: {{dhcp: {PROXY}}}\n",
        )
        routed(one.lab, one.folder / "router")
        one.start()
        results = all_played(one.lab, [by_mac, by_serial], one.folder / "boards")
        assert {str(result.address) for result in results}.isdisjoint(
            f"{board.address}/24" for board in (by_mac, by_serial)
        )
        until(lambda: all(files(one, name) >= 7 for name in ("by-mac", "by-serial")))
        boots = kept(one)[1]
        assert set(boots) == {"by-mac", "by-serial"}
        assert all([moment.stage for moment in boot.moments] == ["dhcp", "tftp"] for boot in boots.values())


def test_a_connection_to_nfs_is_a_kernel_and_a_report_its_stage(served: Serving) -> None:
    board = KNOWN[0]
    seat = seat_of(served.lab, board)
    inside(seat.namespace, lambda: socket.create_connection((ADDRESS, 2049), 5).close())
    until(lambda: kept(served)[1]["node11"].stage("kernel") is not None)
    post(served, board)
    time.sleep(0.3)
    post(
        served,
        board,
        stage="clock",
        status="wait",
        detail="no NTP",
        attempts=3,
        reached={"root": 0.1, "network": 0.9},
        uptime=1.0,
    )
    until(lambda: kept(served)[1]["node11"].stage("clock") is not None)
    boot = kept(served)[1]["node11"]
    assert boot.boot == 1
    assert [one.stage for one in boot.moments] == ["dhcp", "tftp", "kernel", "root", "network", "clock"]
    clock = boot.latest
    assert (clock.stage, clock.status, clock.detail, clock.count) == ("clock", "wait", "no NTP", 3)


def test_a_node_that_started_again_unheard_has_another_boot(served: Serving) -> None:
    board = KNOWN[1]
    post(served, board, node="node12", uptime=500.0, reached={"root": 20.0}, stage="scrubbed")
    until(lambda: kept(served)[1]["node12"].stage("scrubbed") is not None)
    first = kept(served)[1]["node12"].boot
    post(served, board, node="node12", uptime=0.0)
    until(lambda: kept(served)[1]["node12"].boot == first + 1)
    assert {one.stage for one in kept(served)[1]["node12"].moments} == {"kernel", "root"}


def test_a_server_that_was_killed_goes_on_with_what_it_knew(served: Serving) -> None:
    before = kept(served)
    assert {engine["name"] for engine in before[2]["engines"]} == {"dnsmasq", "ganesha.nfsd"}
    assert served.end(signal.SIGKILL) == -signal.SIGKILL
    served.said.clear()
    served.start()
    played(served.lab, KNOWN[2], patience=20)
    until(
        lambda: (
            kept(served)[1]["node13"].boot == before[1]["node13"].boot
            or kept(served)[1]["node13"].latest.last > before[1]["node13"].latest.last
        )
    )
    after = kept(served)
    assert {one.mac for one in before[0]} <= {one.mac for one in after[0]}
    assert after[1]["node11"] == before[1]["node11"]


@contextmanager
def small(folder: Path) -> Iterator[None]:
    """Have a folder be on a disk of 96 MiB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Make a file of all that is left on a disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


def test_a_full_disk_costs_what_is_kept_and_not_the_wire(on: Ground, tmp_path: Path) -> None:
    with small(tmp_path / "netboot"), serving(tmp_path, on) as one:
        write(one)
        one.start()
        filler = one.netboot / "filler"
        fill(filler)
        result = played(one.lab, KNOWN[0], patience=20)
        assert result.boots
        assert "boards are served all the same" in one.until("what boards do cannot be kept")
        post(one, KNOWN[0])
        assert one.end(signal.SIGKILL) == -signal.SIGKILL
        one.said.clear()
        one.start()
        assert played(one.lab, KNOWN[2], patience=20).boots
        one.until("what boards do cannot be kept")
        filler.unlink()
        one.until("what boards do is kept again")
        boot = kept(one)[1]["node13"]
        assert {"dhcp", "tftp"} <= {moment.stage for moment in boot.moments}
        with sqlite3.connect(one.netboot / ledger.NAME) as base:
            assert base.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        one.end()


def test_secrets_are_there_until_the_node_has_said_that_it_is_through(served: Serving) -> None:
    boot = served.netboot / "nodes/node12/export/boot"
    (boot / "pibake-secrets.tar").write_bytes(b"secret")
    post(served, KNOWN[1], node="node12", stage="ready", uptime=0.1)
    assert (boot / "pibake-secrets.tar").exists()
    post(served, KNOWN[1], node="node12", stage="scrubbed", status="wait", uptime=0.2)
    assert (boot / "pibake-secrets.tar").exists()
    post(served, KNOWN[1], node="node12", stage="scrubbed", uptime=0.3)
    assert not (boot / "pibake-secrets.tar").exists()
    assert (boot / "user-data").exists()
