"""What boards say on the wire is heard, also by nobody who serves it, and nothing else is."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING

import pytest
from tests.tools.netns import Place, entered, needs_namespaces, places

from pibake.netboot.values import Ports, Site
from pibake.probe import packet
from pibake.probe.messages import Board, discover
from pibake.probe.models import MODELS
from pibake.serve import ear
from pibake.serve.ear import Ear

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pibake.rack.values import Sighting

pytestmark = needs_namespaces
SITE = Site("eth0", IPv4Interface("10.77.0.1/24"), ports=Ports(nfs=3049, nbd=20809))
BOARD = Board(MODELS["pi4"], bytes.fromhex("dca632010203"), "abcd1234")
OURS, OTHERS = bytes.fromhex("020000000001"), bytes.fromhex("020000000009")
DHCP, TFTP = 67, 69
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10


@dataclass
class Heard:
    """What an ear has told."""

    sightings: list[Sighting] = field(default_factory=list)
    connections: list[tuple[str, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def connected(self, address: str, port: int) -> None:
        self.connections.append((address, port))


@pytest.fixture
def net() -> Iterator[list[Place]]:
    """The server and a board, with a cable between them: a bridge would not pass all that is wrong on to others."""
    with places("", "") as made:
        for place in made:
            place.ip("link", "delete", "eth0")
        cable = ("type", "veth", "peer", "name", "eth0", "netns", made[1].name)
        made[0].ip("link", "add", "name", "eth0", "address", OURS.hex(":"), *cable)
        for place in made:
            place.ip("link", "set", "eth0", "up")
        yield made


@pytest.fixture(autouse=True)
def _sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear, "AGAIN", 0.1)


@contextmanager
def hearing(place: Place) -> Iterator[Heard]:
    """Have an ear at a place, which listens when the block begins."""
    heard = Heard()
    with entered(place.name), Ear(SITE, heard.sightings.append, heard.connected, heard.said.append):
        time.sleep(0.1)
        yield heard


def send(place: Place, *frames: bytes) -> None:
    def work() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("eth0", 0))
            for frame in frames:
                raw.send(frame)

    place.inside(work)


def question() -> bytes:
    asking = MODELS["pi4"].stages[0].asking
    return packet.broadcast(BOARD.mac, packet.encode(discover(BOARD, asking, 7)))


def read_request(to: bytes, path: bytes = b"abcd1234/start4.elf") -> bytes:
    frame = packet.broadcast(BOARD.mac, b"\0\1" + path + b"\0octet\0", TFTP)
    return to + frame[6:]


def tcp(flags: int, port: int, to: bytes = OURS) -> bytes:
    body = struct.pack("!HHIIBBHHH", 999, port, 1, 0, 5 << 4, flags, 1024, 0, 0)
    head = bytearray(packet.broadcast(BOARD.mac, body[8:])[:34])
    head[0:6], head[23], head[26:30] = to, 6, bytes((10, 77, 0, 13))
    return bytes(head) + body


def settled(heard: Heard, so: Callable[[], bool]) -> None:
    """Wait until something is so, and for whatever else may still come."""
    deadline = time.monotonic() + 5
    while not so():
        assert time.monotonic() < deadline, heard
        time.sleep(0.02)
    time.sleep(0.1)


def test_questions_and_connections_to_our_ports_are_heard_and_nothing_else(net: list[Place]) -> None:
    other_ports = (packet.broadcast(BOARD.mac, b"\0\1x\0octet\0", 4011), tcp(SYN, 2049), tcp(SYN, 22))
    parts = bytearray(read_request(OURS))
    parts[20:22] = b"\0\1"
    with hearing(net[0]) as heard:
        send(net[1], *other_ports, bytes(parts), tcp(ACK, 3049), tcp(SYN_ACK, 20809))
        send(net[1], question(), read_request(OURS), tcp(SYN, 3049), tcp(SYN, 20809))
        settled(heard, lambda: len(heard.connections) == 2)
    assert [(one.asked, one.mac, one.serial) for one in heard.sightings] == [
        (asked, BOARD.mac.hex(":"), BOARD.serial) for asked in ("dhcp", "tftp")
    ]
    assert heard.connections == [("10.77.0.13", 3049), ("10.77.0.13", 20809)]
    assert heard.said == []


def test_what_is_between_others_is_not_heard_though_the_interface_hears_all(net: list[Place]) -> None:
    net[0].ip("link", "set", "eth0", "promisc", "on")
    with hearing(net[0]) as heard:
        send(net[1], read_request(OTHERS), tcp(SYN, 3049, OTHERS), tcp(SYN, 20809))
        settled(heard, lambda: bool(heard.connections))
    assert (heard.sightings, heard.connections) == ([], [("10.77.0.13", 20809)])


def test_what_this_host_asks_itself_is_not_heard(net: list[Place]) -> None:
    with hearing(net[0]) as heard:
        send(net[0], question(), tcp(SYN, 3049, OTHERS))
        send(net[1], tcp(SYN, 20809))
        settled(heard, lambda: bool(heard.connections))
    assert (heard.sightings, len(heard.connections)) == ([], 1)


def test_frames_of_vlans_and_frames_that_are_none_do_no_harm(net: list[Place]) -> None:
    asked = question()
    tagged = asked[:12] + bytes.fromhex("81000064") + asked[12:]
    short = [asked[:length] for length in (14, 20, 34, 42, 60, 200)]
    long_head = bytearray(asked)
    long_head[14] = 0x4F
    with hearing(net[0]) as heard:
        send(net[1], tagged, *short, bytes(long_head), asked[:14] + b"\xff" * 40, asked.ljust(1500, b"\xff"))
        send(net[1], tcp(SYN, 3049))
        settled(heard, lambda: bool(heard.connections))
    assert all(one.mac == BOARD.mac.hex(":") for one in heard.sightings)
    assert heard.said == []


def test_a_thousand_questions_at_once_are_all_heard(net: list[Place]) -> None:
    with hearing(net[0]) as heard:
        send(net[1], *[question()] * 1000)
        settled(heard, lambda: len(heard.sightings) == 1000)


def test_an_interface_that_goes_away_is_said_once_and_heard_when_it_is_back(net: list[Place]) -> None:
    with hearing(net[0]) as heard:
        net[0].ip("link", "set", "eth0", "down")
        net[0].ip("link", "set", "eth0", "name", "eth1")
        settled(heard, lambda: bool(heard.said))
        time.sleep(0.3)
        net[0].ip("link", "set", "eth1", "name", "eth0")
        net[0].ip("link", "set", "eth0", "up")
        deadline = time.monotonic() + 5
        while not heard.sightings and time.monotonic() < deadline:
            send(net[1], question())
            time.sleep(0.05)
        assert heard.sightings
    assert len(heard.said) <= 2
    assert len(set(heard.said)) == len(heard.said)
    assert heard.said[0].startswith("cannot hear boards on eth0: ")
