"""Lets each node open its own disk over NBD, and nobody else: QEMU's server does not look at addresses.

The storage daemon listens at a Unix socket. What a client says before it has a disk is looked at here, option by option;
after that bytes go through without being looked at, from socket to socket inside the kernel (splice(2)).

Source: the NBD protocol (NetworkBlockDevice/nbd, doc/proto.md), "Handshake" and "Option haggling".
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from pibake.netboot.values import Site

GREETING = struct.Struct(">8s8sH")
OPTION = struct.Struct(">QII")
REPLY = struct.Struct(">QIII")
ASKS, ANSWERS = 0x49484156454F5054, 0x3E889045565A9
"""What options begin with ("IHAVEOPT"), and replies to them."""
EXPORT_NAME, ABORT, INFO, GO, STRUCTURED, LIST_META, SET_META = 1, 2, 6, 7, 8, 9, 10
NAMED = {INFO, GO, LIST_META, SET_META}
"""Options whose data begins with the name of an export, and its length."""
ACK, ERROR = 1, 1 << 31
UNSUPPORTED, UNKNOWN = ERROR + 1, ERROR + 6
LONGEST, MOST = 4096 + 64, 32
"""Bytes of an option (a name has 4096 at most), and options of one client."""
PATIENCE = 10.0
"""Seconds in which something has to be said, until there is a disk."""
TOGETHER = 8
"""Connections of one address: a node that was switched off leaves one behind; the oldest makes room for a new one."""
AT_ONCE = 1 << 20
"""Bytes that are moved at a time."""


class Refused(Exception):
    """What a client says is not what a node says."""


class Gate:
    """Stands before the storage daemon while its block is entered.

    Args:
        site: this server.
        daemon: the Unix socket at which the storage daemon listens.
        allowed: told an address, returns the names of the disks that it may open.
    """

    def __init__(self, site: Site, daemon: Path, allowed: Callable[[str], Collection[str]]) -> None:
        self._site = site
        self._daemon = daemon
        self._allowed = allowed
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[str, deque[_Pair]] = {}
        self._thread = threading.Thread(target=self._listen, name="gate", daemon=True)

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            PibakeError: the port is taken.
        """
        place = (str(self._site.address.ip), self._site.ports.nbd)
        try:
            self._listener = socket.create_server(place, backlog=1024)
        except OSError as error:
            raise PibakeError(
                f"cannot serve NBD at {place[0]}:{place[1]}: {error.strerror}",
                "ss -ltnp shows who has the port",
            ) from error
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()
        with self._lock:
            for pairs in self._open.values():
                for pair in pairs:
                    pair.end()

    def _listen(self) -> None:
        while not self._stop.is_set():
            if not select.select([self._listener], [], [], 0.2)[0]:
                continue
            with suppress(OSError):  # it is gone again, or there are too many
                client, (address, _) = self._listener.accept()
                if self._allowed(address):
                    threading.Thread(target=self._serve, args=(client, address), daemon=True).start()
                else:
                    client.close()

    def _serve(self, client: socket.socket, address: str) -> None:
        with client, socket.socket(socket.AF_UNIX) as daemon:
            pair = _Pair(client, daemon)
            self._enter(address, pair)
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for one in (client, daemon):
                    one.settimeout(PATIENCE)
                daemon.connect(str(self._daemon))
                haggle(client, daemon, self._allowed(address))
                pair.through()
            except (Refused, OSError):  # the daemon starts anew, perhaps: the node connects again
                pass
            finally:
                pair.end()
                self._leave(address, pair)

    def _enter(self, address: str, pair: _Pair) -> None:
        with self._lock:
            pairs = self._open.setdefault(address, deque())
            pairs.append(pair)
            oldest = pairs.popleft() if len(pairs) > TOGETHER else None
        if oldest:
            oldest.end()

    def _leave(self, address: str, pair: _Pair) -> None:
        with self._lock:
            pairs = self._open.get(address, deque())
            with suppress(ValueError):
                pairs.remove(pair)
            if not pairs:
                self._open.pop(address, None)


class _Pair:
    """A client and the daemon, between whom bytes go to and fro."""

    def __init__(self, client: socket.socket, daemon: socket.socket) -> None:
        self._client = client
        self._daemon = daemon

    def through(self) -> None:
        """Let bytes through until one of them ends."""
        for one in (self._client, self._daemon):
            one.settimeout(None)
        back = threading.Thread(target=self._move, args=(self._daemon, self._client), daemon=True)
        back.start()
        self._move(self._client, self._daemon)
        back.join()

    def end(self) -> None:
        """End both connections; whoever moves bytes notices."""
        for one in (self._client, self._daemon):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _move(self, source: socket.socket, target: socket.socket) -> None:
        out, into = os.pipe()
        try:
            while count := os.splice(source.fileno(), into, AT_ONCE):
                while count:
                    count -= os.splice(out, target.fileno(), count)
        except OSError:
            pass
        finally:
            os.close(out)
            os.close(into)
            self.end()


def haggle(client: socket.socket, daemon: socket.socket, allowed: Collection[str]) -> None:
    """Pass on what a client and the daemon say to each other, until the client has one of the disks it may have.

    Raises:
        Refused: it says something else.
        OSError: one of them ends, or says nothing for too long.
    """
    greeting = _receive(daemon, GREETING.size)
    client.sendall(greeting)
    daemon.sendall(_receive(client, 4))
    for _ in range(MOST):
        head = _receive(client, OPTION.size)
        magic, option, length = OPTION.unpack(head)
        if magic != ASKS or length > LONGEST:
            raise Refused
        data = _receive(client, length)
        if option == EXPORT_NAME:  # has no reply
            if _decoded(data) not in allowed:
                raise Refused
            daemon.sendall(head + data)
            return
        if option == ABORT:
            raise Refused
        if not _may(option, data, allowed):
            refusal = UNKNOWN if option in NAMED else UNSUPPORTED
            client.sendall(REPLY.pack(ANSWERS, option, refusal, 0))
            continue
        daemon.sendall(head + data)
        if _answered(client, daemon) == ACK and option == GO:
            return
    raise Refused


def _may(option: int, data: bytes, allowed: Collection[str]) -> bool:
    """Tell whether an option may be passed on; a list of all disks, and encryption, are none of those."""
    if option in NAMED:
        length = int.from_bytes(data[:4], "big")
        return len(data) >= 4 + length and _decoded(data[4 : 4 + length]) in allowed
    return option == STRUCTURED


def _answered(client: socket.socket, daemon: socket.socket) -> int:
    """Pass on the daemon's replies to an option; return the type of the last one."""
    while True:
        head = _receive(daemon, REPLY.size)
        _, _, kind, length = REPLY.unpack(head)
        client.sendall(head + _receive(daemon, length))
        if kind == ACK or kind & ERROR:
            return int(kind)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _receive(link: socket.socket, length: int) -> bytes:
    """Return exactly so many bytes.

    Raises:
        OSError: it ended before.
    """
    data = b""
    while len(data) < length:
        more = link.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data
