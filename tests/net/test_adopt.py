"""Boards that nobody knew become nodes while `pibake serve` runs, and boards that boot meanwhile do not notice."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.net.serving import ADDRESS, NEEDED, SUBNET, Ground, Serving, serving
from tests.net.walks import Played, all_played, boards, played
from tests.tools import nfs41
from tests.tools.netns import inside

from pibake import config, plan
from pibake.netboot.values import SERVER
from pibake.probe import MODELS
from pibake.progress import Plain
from pibake.rack import adopted
from pibake.rack.ledger import NAME, Ledger
from pibake.rack.values import Seen, Sighting
from pibake.serve.adoption import Adoption
from pibake.serve.folders import Folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pibake.probe import Result

pytestmark = NEEDED
KNOWN, HAND, TWIN, *NEXT = boards(["pi4", "pi4", "pi5", "pi4", "pi4", "pi5", "pi5", "pi3b+", "pi3b+"])
CLONE = Played(TWIN.model, "2c:cf:67:99:99:99", TWIN.serial, TWIN.address)
NODES = (
    f'{{hostname: known, address: {SUBNET}.21, board: pi4, mac: "{KNOWN.mac}"}}',
    f"{{hostname: twin, address: {SUBNET}.22, board: pi5, serial: {TWIN.serial}}}",
    f"{{hostname: any, address: {SUBNET}.30}}",
    *(
        f"{{hostname: {kind}-{number}, address: {SUBNET}.{first + number}, board: {board}}}"
        for kind, board, first in (("five", "pi5", 40), ("three", "pi3b+", 50), ("four", "pi4", 60))
        for number in (1, 2, 3)
    ),
)


@pytest.fixture(scope="module")
def served(on: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp(SERVER), on) as one:
        one.write(*NODES, more=f"netboot: {{dhcp: {SERVER}, adopt: auto}}\n")
        one.start()
        yield one


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def adoption(served: Serving, said: list[str]) -> Iterator[Adoption]:
    class Said(Plain):
        def say(self, text: str) -> None:
            said.append(text)

    decided = plan.plan(config.load(served.folder / "cluster.yaml", bases=[]))
    made = Adoption(Folders(served.netboot), decided, Said(sys.stderr), gather=0.2)
    yield made
    made.stop()


def pibake(one: Serving, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pibake", *arguments], cwd=one.folder, env={**os.environ, **one.ground.env},
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip


def seen(board: Played, first: float = 1.0) -> Seen:
    return Seen(board.mac, first, first, 1, board.serial, (MODELS[board.model].board,))


def until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def until_served(one: Serving, *hostnames: str) -> None:
    until(lambda: set(hostnames) <= adopted.read(one.netboot / "run").keys())


def hostname(result: Result) -> str:
    (name,) = [word.partition("=")[2] for word in result.cmdline.split() if word.startswith("pibake.name=")]
    return name


def listed(one: Serving) -> set[str]:
    done = pibake(one, "boards", "--json")
    assert done.returncode == 0, done.stderr
    return {board["serial"] for board in json.loads(done.stdout)}


def test_a_board_that_nobody_knew_boots_at_its_next_retry_as_the_node_it_is_adopted_as(
    on: Ground, tmp_path: Path
) -> None:
    with serving(tmp_path, on) as one, ThreadPoolExecutor(1) as pool:
        one.write(
            f"{{hostname: first, address: {SUBNET}.21, board: pi4}}", more=f"netboot: {{dhcp: {SERVER}}}\n"
        )
        one.start()
        assert "`pibake adopt SERIAL --as first`" in one.until("note: first waits for a board")
        before = one.engines()
        assert set(before) == {"dnsmasq"}
        playing = pool.submit(played, one.lab, HAND, patience=40)
        until(lambda: HAND.serial in listed(one))
        done = pibake(one, "adopt", f"10000000{HAND.serial}", "--as", "first")
        assert done.returncode == 0, done.stderr
        assert "its next retry boots as first" in done.stdout
        assert not playing.done()
        result = playing.result(40)
        assert result.boots
        assert hostname(result) == "first"
        assert str(result.address) == f"{SUBNET}.21/24"
        after = one.engines()
        assert (set(after), after["dnsmasq"]) == ({"dnsmasq", "ganesha.nfsd"}, before["dnsmasq"])
        assert f"first is the pi4 {HAND.mac} (serial {HAND.serial}): adopted by hand" in one.said


def test_a_board_may_be_adopted_before_it_is_plugged_in_and_has_its_files_at_once(served: Serving) -> None:
    done = pibake(served, "adopt", HAND.serial, "--as", "four-1")
    assert done.returncode == 0, done.stderr
    assert "has asked yet" in done.stderr
    result = played(served.lab, HAND, patience=20)
    assert (result.boots, hostname(result)) == (True, "four-1")
    seat = served.lab.seat("02:00:00:00:00:61", f"{SUBNET}.61/24")
    with nfs41.Client(
        inside(seat.namespace, lambda: socket.create_connection((ADDRESS, 2049), 10)), "four-1"
    ) as client:
        client.reclaimed()
        assert client.names("nodes/four-1/boot") >= {"user-data"}


def test_a_file_that_is_being_loaded_goes_on_over_an_adoption(served: Serving) -> None:
    loaded = (served.netboot / "tftp" / KNOWN.mac.replace(":", "-") / "initrd.img").read_bytes()
    seat = served.lab.seat(KNOWN.mac, f"{SUBNET}.21/24")
    half, whole = threading.Event(), threading.Event()

    def load() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.settimeout(10)
            wire.sendto(b"\0\1initrd.img\0octet\0", (ADDRESS, 69))
            content, last = b"", 0
            while last == 0 or len(content) == 512 * last:
                data, peer = wire.recvfrom(2048)
                if int.from_bytes(data[2:4], "big") != last + 1:
                    continue
                content, last = content + data[4:], last + 1
                if last == 2:
                    half.set()
                    assert whole.wait(20)
                wire.sendto(struct.pack("!HH", 4, last), peer)
        return content

    assert len(loaded) > 2 * 512
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(inside, seat.namespace, load)
        assert half.wait(10)
        done = pibake(served, "adopt", "dc:a6:32:00:00:77", "--as", "four-2")
        assert "no board dc:a6:32:00:00:77 has asked yet" in done.stderr
        released = pibake(served, "adopt", "--release", "four-2")
        whole.set()
        content = loading.result(20)
    assert (done.returncode, released.returncode) == (0, 0)
    assert content == loaded


def test_the_first_board_with_a_serial_is_the_node_and_another_is_not_answered(
    served: Serving, adoption: Adoption, said: list[str]
) -> None:
    before = served.engines()["dnsmasq"]
    adoption.board(seen(TWIN, 1.0))
    adoption.board(seen(CLONE, 2.0))
    until_served(served, "twin")
    served.until(f"twin is the pi5 {TWIN.mac}")
    assert served.engines()["dnsmasq"] == before
    clone = played(served.lab, CLONE, patience=0.5)
    assert not clone.boots
    assert clone.address is None
    first = played(served.lab, TWIN, patience=20)
    assert first.boots
    assert hostname(first) == "twin"
    (warning,) = said
    assert f"two boards have the serial {TWIN.serial}: {TWIN.mac} and {CLONE.mac}" in warning


def test_boards_become_the_next_nodes_of_their_kind_in_the_order_in_which_they_appear(
    served: Serving, adoption: Adoption
) -> None:
    for number, board in reversed(list(enumerate(NEXT))):
        adoption.board(seen(board, number))
    names = ["four-2", "four-3", "five-1", "five-2", "three-1", "three-2"]
    until_served(served, *names)
    served.until(f"three-2 is the pi3b+ {NEXT[-1].mac}")
    results = all_played(served.lab, NEXT, served.folder / "boards")
    assert [result.boots for result in results] == [True] * len(NEXT)
    assert [hostname(result) for result in results] == names


def test_another_board_never_takes_the_place_of_one_that_has_booted_unless_that_is_asked_for(
    served: Serving, adoption: Adoption, said: list[str]
) -> None:
    (served.netboot / "nodes/four-1/report.json").write_text('{"stage": "ready"}')
    other = Played("pi4", "dc:a6:32:77:77:77", "77777777", "")
    refused = pibake(served, "adopt", other.mac, "--as", "four-1")
    assert refused.returncode == 1
    assert f"four-1 is the board {HAND.mac} (serial {HAND.serial}) already" in refused.stderr
    assert "--replace" in refused.stderr
    assert pibake(served, "adopt", "--release", "four-1").returncode == 0
    adoption.board(seen(other))
    until(lambda: bool(said))
    assert "four-1" not in adopted.read(served.netboot)
    assert "`pibake adopt SERIAL --as four-1 --replace`" in said[0]
    refused = pibake(served, "adopt", other.mac, "--as", "four-1")
    assert "four-1 has booted as another board" in refused.stderr
    done = pibake(served, "adopt", other.mac, "--as", "four-1", "--replace")
    assert done.returncode == 0, done.stderr
    assert "`pibake serve --renew four-1` starts it anew" in done.stdout
    assert not played(served.lab, HAND, patience=0.5).address
    assert adopted.read(served.netboot / "run")["four-1"].mac == other.mac


def test_what_cannot_be_adopted_says_why(served: Serving) -> None:
    ledger = Ledger(served.netboot / NAME)
    ledger.hear(Sighting(time.time(), "2c:cf:67:00:00:01", "dhcp", "0000a001", ("pi5",)))
    ledger.flush()

    def complaint(*arguments: str) -> str:
        done = pibake(served, "adopt", *arguments)
        assert done.returncode == 1
        return done.stderr

    assert "did you mean `five-3`" in complaint("0000a001", "--as", "five3")
    assert "banana is not a board's serial number" in complaint("banana", "--as", "any")
    assert "is a Raspberry Pi 5, and three-3 is a Raspberry Pi 3 Model B+" in complaint(
        "0000a001", "--as", "three-3"
    )
    assert f"cluster.yaml says that known is the board {KNOWN.mac}" in complaint("0000a001", "--as", "known")
    assert "is known already" in complaint(KNOWN.mac, "--as", "any")
    assert "no board was adopted as five-3" in complaint("--release", "five-3")
