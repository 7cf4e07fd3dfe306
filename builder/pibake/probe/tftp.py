"""A TFTP client that asks as boards do: sizes first, block sizes, windows, and requests that are given up on purpose.

Sources: RFC 1350, RFC 2347 (options), 2348 (blksize), 2349 (tsize), 7440 (windowsize).
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address

PORT = 69
READ, DATA, ACKNOWLEDGE, ERROR, OPTIONS = 1, 3, 4, 5, 6
NOT_FOUND = 1
RETRY_SECONDS = 1.0
TRIES = 5


@dataclass(frozen=True)
class Refused:
    """A server that said no: error code and its words. `NOT_FOUND` is what boards expect of a file that is not there."""

    code: int
    text: str


@dataclass(frozen=True)
class Silence:
    """A server that stopped answering."""

    text: str


@dataclass(frozen=True)
class Arrived:
    """What came: the content, empty where only a probe was asked for; the announced size, or -1; the block size."""

    data: bytes
    announced: int
    block: int


Answer = Arrived | Refused | Silence


def read(server: IPv4Address, name: str, options: Iterable[tuple[str, int]] = (), port: int = PORT) -> Answer:
    """Fetch a file."""
    try:
        with _Reading(server, name, options, port) as reading:
            return reading.all()
    except OSError as error:
        return Silence(error.strerror or str(error))


def probe(server: IPv4Address, name: str, options: Iterable[tuple[str, int]], code: int) -> Answer:
    """Ask whether there is a file, and give up with an error of this code once the server has said so."""
    try:
        with _Reading(server, name, options) as reading:
            answer = reading.first()
            if isinstance(answer, (Refused, Silence)):
                return answer
            reading.send(struct.pack("!HH", ERROR, code) + b"Early terminate\0")
            return Arrived(b"", reading.announced, reading.block)
    except OSError as error:
        return Silence(error.strerror or str(error))


class _Reading:
    """One read request and its transfer."""

    def __init__(
        self, server: IPv4Address, name: str, options: Iterable[tuple[str, int]], port: int = PORT
    ) -> None:
        self.name = name
        self.peer = (str(server), port)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        words = [name, "octet", *(str(word) for pair in options for word in pair)]
        self.last = struct.pack("!H", READ) + b"".join(word.encode() + b"\0" for word in words)
        self.block, self.window, self.announced = 512, 1, -1
        self.answered = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.last = data
        self.socket.sendto(data, self.peer)

    def receive(self) -> bytes:
        """Return the next packet of this transfer, after asking again where none comes; empty if none ever does."""
        for _ in range(TRIES):
            until = time.monotonic() + RETRY_SECONDS
            while (left := until - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    raw, sender = self.socket.recvfrom(65535)
                except TimeoutError:
                    break
                if sender[0] == self.peer[0] and (not self.answered or sender == self.peer):
                    self.peer, self.answered = sender, True
                    return raw
            self.socket.sendto(self.last, self.peer)
        return b""

    def first(self) -> bytes | Refused | Silence:
        """Send the request; return the first packet, with what it says of options taken note of."""
        self.send(self.last)
        raw = self.receive()
        if not raw:
            return Silence("no answer")
        if self.kind(raw) == ERROR:
            return _refusal(raw)
        if self.kind(raw) == OPTIONS:
            words = raw[2:].decode("ascii", "replace").lower().split("\0")
            granted = {
                key: int(value)
                for key, value in zip(words[::2], words[1::2], strict=False)
                if value.isdigit()
            }
            self.block = granted.get("blksize", 512)
            self.window = max(granted.get("windowsize", 1), 1)
            self.announced = granted.get("tsize", -1)
        return raw

    @staticmethod
    def kind(raw: bytes) -> int:
        return int.from_bytes(raw[:2], "big")

    def all(self) -> Answer:
        """Return the whole file; block numbers start again at 0 after 65535."""
        raw = self.first()
        if isinstance(raw, (Refused, Silence)):
            return raw
        pieces: list[bytes] = []
        if self.kind(raw) == OPTIONS:
            self.send(struct.pack("!HH", ACKNOWLEDGE, 0))
            raw = self.receive()
        while raw:
            if self.kind(raw) == ERROR:
                return _refusal(raw)
            number = int.from_bytes(raw[2:4], "big")
            if self.kind(raw) == DATA and number == (len(pieces) + 1) & 0xFFFF:
                pieces.append(raw[4:])
                ended = len(raw) - 4 < self.block
                if ended or len(pieces) % self.window == 0:
                    self.send(struct.pack("!HH", ACKNOWLEDGE, number))
                if ended:
                    return Arrived(b"".join(pieces), self.announced, self.block)
            raw = self.receive()
        return Silence(f"it stopped after {sum(map(len, pieces))} bytes")


def _refusal(raw: bytes) -> Refused:
    return Refused(int.from_bytes(raw[2:4], "big"), raw[4:].split(b"\0")[0].decode("utf-8", "replace"))
