"""The rack as a web page, read without JavaScript, and live with it; and as metrics.

GET /              the rack; `/?part`: only what changes, for page.js
GET /node/NAME     one node's present boot; `?part` too
GET /page/FILE     style and script
GET /metrics       for Prometheus
POST /login        the form of `access`
"""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from pibake.resources import render, text
from pibake.serve import metrics, view
from pibake.serve.access import HEADERS, Access

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from pibake.rack.states import Rack

FRESH = 2.0
"""Seconds for which one rendering serves while the ledger does not change: time alone makes a node slow."""
KEPT = 600
"""Renderings kept: of the rack, and of each node's page."""
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


@dataclass
class Desk:
    """What is shown, and to whom.

    Attributes:
        rack: the rack as it is; asked at most once in `FRESH` while `changes` stays, from threads.
        changes: a number that grows with every change of the ledger.
        access: who may look.
        started: when serving began, in seconds since 1970.
    """

    rack: Callable[[], Rack]
    changes: Callable[[], int]
    access: Access
    started: float = field(default_factory=time.time)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _key: tuple[int, int] = (-1, -1)
    _rack: Rack | None = None
    _parts: dict[str, str] = field(default_factory=dict)

    def now(self) -> Rack:
        """Return the rack, a moment old at most."""
        with self._lock:
            return self._now()

    def part(self, name: str) -> str | None:
        """Return what changes of the rack's page, or of a node's; None if there is no such node."""
        with self._lock:
            rack = self._now()
            if name not in self._parts and len(self._parts) < KEPT:
                node = next((one for one in rack.nodes if one.known.hostname == name), None)
                if name and node is None:
                    return None
                self._parts[name] = view.node(rack, node) if node else view.rack(rack)
            return self._parts.get(name)

    def _now(self) -> Rack:
        key = self.changes(), int(time.monotonic() / FRESH)
        if self._rack is None or key != self._key:
            self._key, self._rack, self._parts = key, self.rack(), {}
        return self._rack


def routes(desk: Desk) -> list[Route]:
    """Return where the page answers."""

    def page(request: Request) -> Response:
        name = request.path_params.get("name", "")
        part = desk.part(name)
        if part is None:
            return PlainTextResponse(f"there is no node {view.clean(name)}\n", 404, HEADERS)
        only = "part" in request.query_params
        tag = f'"{hashlib.sha256(part.encode()).hexdigest()[:32]}"'
        headers = {**HEADERS, "etag": tag}
        if only and request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        title = f"{name or 'the rack'} · {desk.now().cluster}"
        whole = part if only else render("netboot/page/page.html.j2", title=title, part=part, tag=tag)
        return HTMLResponse(whole, headers=headers)

    def file(request: Request) -> Response:
        name = request.path_params["file"]
        if name not in FILES:
            return PlainTextResponse("there is nothing here for you\n", 404, HEADERS)
        return Response(text("netboot", "page", name), media_type=FILES[name], headers=HEADERS)

    def measured(_: Request) -> Response:
        body = metrics.text(desk.now(), desk.started)
        return Response(body, headers={**HEADERS, "content-type": metrics.TYPE})

    return [
        Route("/", guarded(desk.access, page)),
        Route("/node/{name}", guarded(desk.access, page)),
        Route("/metrics", guarded(desk.access, measured)),
        Route("/page/{file}", file),
        Route("/login", desk.access.login, methods=["POST"]),
    ]


def guarded(
    access: Access, answer: Callable[[Request], Response]
) -> Callable[[Request], Awaitable[Response]]:
    """Return `answer` for those only who may look."""

    async def guard(request: Request) -> Response:
        refusal = access.refusal(request)
        return await run_in_threadpool(answer, request) if refusal is None else refusal

    return guard
