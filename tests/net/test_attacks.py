"""Whatever is sent to a server, it serves on: malformed packets by the thousand, and connections that mean no good."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.net.serving import ADDRESS, NEEDED, Ground, Serving, serving
from tests.net.walks import boards, played
from tests.tools.netns import inside

from pibake.netboot.values import SERVER
from pibake.probe import MODELS, packet
from pibake.probe.messages import Board, discover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = NEEDED
PI4, PI5 = boards(["pi4", "pi5"])
ATTACKER, PLACE = "02:66:66:66:66:66", "192.168.10.66/24"
FRAMES = 6000
GROWTH = 48 << 20
"""Bytes by which the server's memory may have grown."""


@pytest.fixture(scope="module")
def served(on: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("attacked"), on) as one:
        one.write(
            f'{{hostname: node1, address: {PI4.address}, board: pi4, mac: "{PI4.mac}"}}',
            f'{{hostname: node2, address: {PI5.address}, board: pi5, mac: "{PI5.mac}", root: nbd}}',
            more=f"netboot: {{dhcp: {SERVER}}}\n",
        )
        one.start()
        yield one


def thrown(seed: int) -> random.Random:
    """Return dice that fall the same way in each run."""
    return random.Random(seed)  # noqa: S311 - no secrets come of it


def memory(one: Serving) -> int:
    assert one.child
    pages = int(Path(f"/proc/{one.child.pid}/statm").read_text().split()[1])
    return pages * 4096


@pytest.fixture(scope="module")
def attacker(served: Serving) -> str:
    """The network namespace of somebody in the subnet who is no node."""
    return served.lab.seat(ATTACKER, PLACE).namespace


def unharmed(one: Serving, attacker: str, attack: Callable[[], None]) -> None:
    """Let somebody attack; the engines are the same afterwards, and a board boots."""
    engines, before = one.engines(), memory(one)
    inside(attacker, attack)
    time.sleep(0.5)
    assert one.engines() == engines
    assert memory(one) - before < GROWTH
    assert played(one.lab, PI4, patience=20).boots
    states = json.loads(one.get("/status")[1])["engines"]
    assert [(state["state"], state["restarts"]) for state in states] == [("ready", 0)] * len(engines)


def damaged(frame: bytes, dice: random.Random) -> bytes:
    """Return a frame with some bytes changed, cut off, doubled or made up; Ethernet and IPv4 still lead to the server."""
    body = bytearray(frame)
    for _ in range(dice.randrange(1, 12)):
        body[dice.randrange(42, len(body))] = dice.randrange(256)
    kind = dice.randrange(5)
    if kind == 0:
        body = body[: dice.randrange(42, len(body))]
    elif kind == 1:
        body += dice.randbytes(dice.randrange(1, 1000 - min(len(body), 900)))
    elif kind == 2:
        body[42:] = dice.randbytes(dice.randrange(0, 900))
    length = len(body) - 14
    body[16:18] = struct.pack("!H", length)
    body[38:40] = struct.pack("!H", length - 20 if kind != 3 else dice.randrange(65536))
    body[24:26] = b"\0\0"
    body[24:26] = struct.pack("!H", packet.checksum(bytes(body[14:34])))
    return bytes(body)


def test_malformed_packets_by_the_thousand(served: Serving, attacker: str) -> None:
    dice = thrown(7)
    asked = []
    for model in MODELS.values():
        for stage in model.stages:
            for mac in (PI4.mac, ATTACKER):
                board = Board(model, bytes.fromhex(mac.replace(":", "")), PI4.serial)
                asked.append(packet.broadcast(board.mac, packet.encode(discover(board, stage.asking, 7))))
    for path in (b"start4.elf", b"../" * 40 + b"etc/shadow", b"a" * 900, b"%n%s" * 30, b"\xff" * 90):
        for operation in range(8):
            request = struct.pack("!H", operation) + path + b"\0octet\0blksize\0" + b"9" * 20 + b"\0"
            asked.append(packet.broadcast(bytes.fromhex(ATTACKER.replace(":", "")), request, port=69))

    def attack() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            for number in range(FRAMES):
                wire.send(damaged(dice.choice(asked), dice))
                if number % 100 == 0:
                    time.sleep(0.01)  # a socket that is full would take less of it

    unharmed(served, attacker, attack)


def test_tftp_requests_that_are_none(served: Serving, attacker: str) -> None:
    dice = thrown(11)

    def attack() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            for number in range(2000):
                head = struct.pack("!H", dice.choice((0, 1, 1, 1, 2, 3, 4, 5, 6, 65535)))
                wire.sendto(head + dice.randbytes(dice.randrange(0, 700)), (ADDRESS, 69))
                if number % 100 == 0:
                    time.sleep(0.01)

    unharmed(served, attacker, attack)


def test_connections_that_mean_no_good(served: Serving, attacker: str) -> None:
    dice = thrown(13)
    said = [
        b"", b"\0" * 4096, b"GET / HTTP/1.1\r\n", b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"POST /report HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"POST /report HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx",
        b"GET /%00/../../../../etc/shadow HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" + bytes(300), b"IHAVEOPT" * 200,
    ]  # fmt: skip

    def attack() -> None:
        held = []
        for number in range(900):
            with suppress(OSError):
                link = socket.create_connection((ADDRESS, (8069, 2049, 10809)[number % 3]), 2)
                held.append(link)
                link.settimeout(0.2)
                link.sendall(dice.choice(said) if number % 4 else dice.randbytes(dice.randrange(1, 3000)))
            if len(held) > 200:
                held.pop(0).close()
        for link in held:
            link.close()

    unharmed(served, attacker, attack)


def test_reports_that_are_none(served: Serving, attacker: str) -> None:
    dice = thrown(17)
    values = ["x" * 5000, -1, 1e308, None, [], {}, True, "\u202e\x1b[2J", {"a": {"b": []}}]
    names = [
        "node",
        "stage",
        "status",
        "detail",
        "attempts",
        "started",
        "uptime",
        "time",
        "reached",
        "__class__",
    ]

    def attack() -> None:
        for _ in range(300):
            body = json.dumps(
                {name: dice.choice(values) for name in dice.sample(names, dice.randrange(len(names)))}
            )
            with suppress(OSError):
                urllib.request.urlopen(f"http://{ADDRESS}:8069/report", body.encode(), timeout=2).close()

    unharmed(served, attacker, attack)
    node = served.lab.seat(PI5.mac, f"{PI5.address}/24")
    inside(node.namespace, attack)
    assert set(json.loads(served.get("/status")[1])["nodes"]) == {"node1", "node2"}
