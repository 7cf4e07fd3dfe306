"""The HTTP server, as a thread of this process."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from pibake.errors import PibakeError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from ipaddress import IPv4Address

LINGER = 2
"""Seconds that requests have to end when the server does."""


CONNECTIONS = 800
"""At one time; more are told to come again (503). Below the 1024 files that a process may have open by default."""
EACH = 64
"""The same, of one address; more are closed, so that no machine keeps the others out."""
PATIENCE = 10
"""Seconds that the head of a request may take to come."""


class Patient(H11Protocol):
    """Ends connections that ask for nothing, or do not come to an end with it: uvicorn waits for as long as something comes."""

    _watched = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless this address has enough of them."""
        super().connection_made(transport)
        peer = self.client[0] if self.client else ""
        others = [one.client for one in self.connections if isinstance(one, H11Protocol)]
        if sum(client is not None and client[0] == peer for client in others) > EACH:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Go on; what came may be a part of a head only."""
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        """Look again, once, if nothing is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn has it None before a request
        if not self._watched and (cycle is None or cycle.response_complete):
            self._watched = True
            self.loop.call_later(PATIENCE, self._look, cycle)

    def _look(self, before: RequestResponseCycle | None) -> None:
        self._watched = False
        if self.transport.is_closing():
            return
        if self.cycle is before:
            self.transport.close()
        else:
            self._watch()


@contextmanager
def serving(application: Any, port: int, *addresses: IPv4Address) -> Iterator[None]:
    """Answer HTTP with an ASGI application, at some addresses, while the block is entered.

    Raises:
        PibakeError: an address is not this machine's, or the port is taken.
    """
    with ExitStack() as stack:
        listeners = [stack.enter_context(_listener(address, port)) for address in addresses]
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="off",
                loop="asyncio",
                http=Patient,
                ws="none",
                limit_concurrency=CONNECTIONS,
                timeout_graceful_shutdown=LINGER,
            )
        )
        thread = threading.Thread(target=server.run, args=(listeners,), name="http", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()


def _listener(address: IPv4Address, port: int) -> socket.socket:
    try:
        return socket.create_server((str(address), port), backlog=1024)
    except OSError as error:
        raise PibakeError(
            f"cannot serve HTTP at {address}:{port}: {error.strerror}", "ss -ltnp shows who has the port"
        ) from error
