"""The HTTP server, as a thread of this process."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address

LINGER = 2
"""Seconds that requests have to end when the server does."""


@contextmanager
def serving(application: Any, address: IPv4Address, port: int) -> Iterator[None]:
    """Answer HTTP with an ASGI application while the block is entered.

    Raises:
        PibakeError: the address is not this machine's, or the port is taken.
    """
    try:
        listener = socket.create_server((str(address), port), backlog=1024)
    except OSError as error:
        raise PibakeError(
            f"cannot serve HTTP at {address}:{port}: {error.strerror}", "ss -ltnp shows who has the port"
        ) from error
    with listener:
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                loop="asyncio",
                http="h11",
                ws="none",
                timeout_graceful_shutdown=LINGER,
            )
        )
        thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()
