"""TFTP as boards speak it, against a server that loses, repeats and gives up, as networks and servers do."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from tests.net.lab import made_namespace
from tests.tools.netns import inside

from pibake.probe import tftp
from pibake.probe.tftp import Arrived, Refused, Silence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.probe.tftp import Answer

HOST = IPv4Address("127.0.0.1")
NAMESPACE = "pibake-tftp"


@dataclass
class Server:
    """A server of one file for one client at a time.

    `lost` are the packets that never leave, counted from 0 over the whole transfer; `limit` ends it with an error.
    """

    content: bytes
    grants: dict[str, int] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()
    limit: int = 1 << 30
    twice: bool = False
    heard: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        request, client = listener.recvfrom(2048)
        self.heard.append(request)
        block, window = self.grants.get("blksize", 512), self.grants.get("windowsize", 1)
        blocks = [self.content[at : at + block] for at in range(0, len(self.content) + 1, block)]
        sent, done = 0, 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.settimeout(0.1)
            if self.grants:
                words = "".join(f"{key}\0{value}\0" for key, value in self.grants.items())
                own.sendto(b"\0\6" + words.encode(), client)
                self.heard.append(own.recv(2048))
                if self.heard[-1][:2] == b"\0\5":
                    return
            while done < len(blocks):
                for number in range(done, min(done + window, len(blocks))):
                    if sent >= self.limit:
                        own.sendto(b"\0\5\0\0out of sorts\0", client)
                        return
                    if sent not in self.lost:
                        data = struct.pack("!HH", 3, (number + 1) & 0xFFFF) + blocks[number]
                        for _ in range(1 + self.twice):
                            own.sendto(data, client)
                    sent += 1
                done += self.acknowledged(own, done, window)

    def acknowledged(self, own: socket.socket, done: int, window: int) -> int:
        """Return how many more blocks the client has; 0 if it says nothing of them in time."""
        try:
            while True:
                self.heard.append(own.recv(2048))
                ahead = (int.from_bytes(self.heard[-1][2:], "big") - done) & 0xFFFF
                if 0 < ahead <= window:
                    return ahead
        except TimeoutError:
            return 0


@pytest.fixture(scope="module", autouse=True)
def _namespace() -> Iterator[None]:
    with ExitStack() as stack:
        made_namespace(f"{NAMESPACE}-{threading.get_native_id()}", stack)
        yield


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tftp, "RETRY_SECONDS", 0.2)


@contextmanager
def serving(server: Server) -> Iterator[None]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((str(HOST), tftp.PORT))
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        yield
        thread.join(5)
        assert not thread.is_alive()


def got(server: Server, *options: tuple[str, int]) -> Answer:
    def exchange() -> Answer:
        with serving(server):
            return tftp.read(HOST, "folder/file", options)

    return inside(f"{NAMESPACE}-{threading.get_native_id()}", exchange)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024])
def test_a_file_of_any_size_arrives_whole(size: int) -> None:
    answer = got(Server(content := bytes(range(256)) * 4 * (size > 0)))
    assert answer == Arrived(content, -1, 512)
    assert got(Server(b"x" * size)) == Arrived(b"x" * size, -1, 512)


def test_a_request_has_its_options_in_order_and_what_is_granted_counts() -> None:
    server = Server(b"y" * 3000, {"tsize": 3000, "blksize": 1428})
    assert got(server, ("tsize", 0), ("blksize", 1468)) == Arrived(b"y" * 3000, 3000, 1428)
    assert server.heard[0] == b"\0\1folder/file\0octet\0tsize\x000\0blksize\x001468\0"


def test_what_is_lost_or_comes_twice_is_asked_for_again_and_counted_once() -> None:
    content = bytes(range(256)) * 20
    assert got(Server(content, lost=frozenset((0, 3, 4)))) == Arrived(content, -1, 512)
    assert got(Server(content, twice=True)) == Arrived(content, -1, 512)


def test_a_window_is_acknowledged_as_one() -> None:
    server = Server(b"z" * 5000, {"blksize": 500, "windowsize": 4})
    assert got(server, ("blksize", 500), ("windowsize", 4)) == Arrived(b"z" * 5000, -1, 500)
    acknowledged = [int.from_bytes(packet[2:], "big") for packet in server.heard[1:]]
    assert acknowledged == [0, 4, 8, 11]


def test_a_packet_lost_in_a_window_is_sent_again() -> None:
    content = bytes(range(250)) * 20
    server = Server(content, {"blksize": 500, "windowsize": 4}, lost=frozenset((5,)))
    assert got(server, ("blksize", 500), ("windowsize", 4)) == Arrived(content, -1, 500)


def test_block_numbers_go_on_from_0_after_65535() -> None:
    content = b"12345678" * 65540
    server = Server(content, {"blksize": 8, "windowsize": 64})
    assert got(server, ("blksize", 8), ("windowsize", 64)) == Arrived(content, -1, 8)


def test_an_error_in_the_middle_is_a_refusal_and_silence_is_silence() -> None:
    assert got(Server(b"w" * 5000, limit=3)) == Refused(0, "out of sorts")
    silent = inside(f"{NAMESPACE}-{threading.get_native_id()}", lambda: tftp.read(HOST, "file"))
    assert isinstance(silent, Silence)


def test_a_probe_gives_up_as_boards_do() -> None:
    server = Server(b"v" * 5000, {"tsize": 5000})

    def exchange() -> Answer:
        with serving(server):
            return tftp.probe(HOST, "file", (("tsize", 0),), 8)

    assert inside(f"{NAMESPACE}-{threading.get_native_id()}", exchange) == Arrived(b"", 5000, 512)
    assert server.heard[1].startswith(b"\0\5\0\x08")
