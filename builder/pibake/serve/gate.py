"""Lets each node open its own disk over NBD, and nobody else: QEMU's server does not look at addresses.

The storage daemon listens at a Unix socket. What a client says before it has a disk is looked at (`haggling`); after that
bytes go through without being looked at, from socket to socket inside the kernel (splice(2)).
"""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pibake.errors import PibakeError
from pibake.serve import haggling

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from pibake.netboot.values import Site

TOGETHER = 8
"""Connections of one address: the oldest makes room for a new one."""
FILES = 16384
"""Files this process may have open: six for each node that has its disk, where 1024 are usual."""
PAUSE = 0.2
"""Seconds between two looks at whether to stop, and of rest when a connection cannot be taken."""
AT_ONCE = 1 << 20
"""Bytes that are moved at a time."""


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
        self._in_use: dict[str, _Pair] = {}
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
        self._listener.settimeout(PAUSE)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()
        self._daemon.unlink(missing_ok=True)  # QEMU leaves it behind
        with self._lock:
            for pairs in self._open.values():
                for pair in pairs:
                    pair.end()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                client, (address, _) = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:  # no file is left for it, or it is gone again
                self._stop.wait(PAUSE)
                continue
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
                    one.settimeout(haggling.PATIENCE)
                daemon.connect(str(self._daemon))
                self._take(haggling.haggle(client, daemon, self._allowed(address)), pair)
                pair.through()
            except (haggling.Refused, OSError):  # the daemon starts anew, perhaps: the node connects again
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

    def _take(self, name: str, pair: _Pair) -> None:
        """Let one connection have a disk, and end the one before it: a node that was switched off leaves that behind."""
        with self._lock:
            before, self._in_use[name] = self._in_use.get(name), pair
        if before:
            before.end()

    def _leave(self, address: str, pair: _Pair) -> None:
        with self._lock:
            self._in_use = {name: one for name, one in self._in_use.items() if one is not pair}
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
