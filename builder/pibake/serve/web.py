"""HTTP: what the wire's state is, what nodes say of themselves, and the files of boards that boot over HTTP.

GET /status    the engines, and the nodes with their last reports, as JSON; for those only who may look (`access`)
GET /, /node/NAME, /metrics   what `page` has
POST /report   a node's state, from the node's own address (`phone_home: http://ADDRESS:PORT/report`)
GET /...       whatever `files` has for this peer and path; HEAD too, and ranges of files (RFC 9110 section 14)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from pibake.serve import page
from pibake.serve.access import read
from pibake.serve.ramdisk import Ramdisk
from pibake.serve.reports import LIMIT, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pibake.serve.keeper import State
    from pibake.serve.reports import Reports

BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Sources:
    """Where the answers come from; each is asked anew for every request, from threads.

    Attributes:
        engines: `Supervisor.states`.
        nodes: what is known of each node, by hostname; `address` (text) is the one it reports from.
        reports: what nodes have said.
        files: a file, or content, for a peer and a path without leading slash; None if there is nothing for it.
    """

    engines: Callable[[], Sequence[State]]
    nodes: Callable[[], Mapping[str, Mapping[str, Any]]]
    reports: Reports
    files: Callable[[IPv4Address, str], Path | bytes | Ramdisk | None]


def application(sources: Sources, desk: page.Desk) -> Starlette:
    """Return the application that answers."""

    def status(_: Request) -> Response:
        nodes = sources.nodes()
        reports = sources.reports.of(nodes)
        known = {name: {**facts, "report": reports.get(name)} for name, facts in nodes.items()}
        return JSONResponse({"engines": [asdict(state) for state in sources.engines()], "nodes": known})

    async def report(request: Request) -> Response:
        try:
            body = await read(request, LIMIT)
        except ValueError:
            return _refusal(413, f"a report has at most {LIMIT} bytes")
        except TimeoutError:
            return _refusal(408, "this took too long")
        return await run_in_threadpool(_receive, sources, str(_peer(request)), body)

    def file(request: Request) -> Response:
        found = sources.files(_peer(request), request.path_params["path"])
        if isinstance(found, bytes):
            return Response(found, media_type=BINARY)
        if isinstance(found, Ramdisk):
            length = {"content-length": str(found.image.length)}
            return StreamingResponse(found.chunks(), media_type=BINARY, headers=length)
        if found is None or not found.is_file():
            return _refusal(404, "there is nothing here for you")
        return FileResponse(found, media_type=BINARY)

    return Starlette(
        routes=[
            *page.routes(desk),
            Route("/status", page.guarded(desk.access, status)),
            Route("/report", report, methods=["POST"]),
            Route("/{path:path}", file),
        ],
        middleware=[Middleware(Capitalised)],
    )


@dataclass(frozen=True)
class Capitalised:
    """Writes names of headers as `Content-Length`: GRUB 2.12 knows no other spelling (grub-core/net/http.c, parse_line)."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""

        async def spelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [(name.title(), value) for name, value in message["headers"]]
            await send(message)

        await self.app(scope, receive, spelled)


def _receive(sources: Sources, peer: str, body: bytes) -> Response:
    hostname = next((name for name, facts in sources.nodes().items() if facts["address"] == peer), "")
    if not hostname:
        return _refusal(403, f"{peer} is not the address of a node")
    try:
        sources.reports.receive(hostname, body)
    except RefusedError as fault:
        return _refusal(400, fault.message)
    return Response(status_code=204)


def _refusal(code: int, why: str) -> Response:
    return PlainTextResponse(f"{why}\n", code)


def _peer(request: Request) -> IPv4Address:
    return IPv4Address(request.client.host if request.client else 0)
