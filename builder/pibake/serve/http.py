"""The HTTP server, as a thread of this process."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pibake.errors import PibakeError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator
    from ipaddress import IPv4Address

LINGER = 2
"""Seconds that requests have to end when the server does."""


CONNECTIONS = 800
"""At one time; more are told to come again (503). Below the 1024 files that a process may have open by default."""
PATIENCE = 10
"""Seconds that the first request of a connection may take to come."""


class Patient(H11Protocol):
    """Ends connections that ask for nothing: uvicorn does so only after their first request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and look again."""
        super().connection_made(transport)
        self.loop.call_later(PATIENCE, self._look)

    def _look(self) -> None:
        cycle: object = self.cycle  # uvicorn has it None before a request
        if cycle is None and not self.transport.is_closing():
            self.transport.close()


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
