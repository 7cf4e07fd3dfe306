"""Who may look at the rack over HTTP: programs of this machine, and whoever has the token.

At 127.0.0.1 nothing is asked for but a name of this machine in `Host`, which a page of another site cannot send (DNS
rebinding). At any other address it is `Authorization: Bearer TOKEN` (RFC 6750 section 2.1), or the cookie that the form gives.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from pibake.errors import PibakeError
from pibake.resources import render

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

COOKIE = "pibake"
BODY = 1024
"""Bytes that a form has at most."""
PATIENCE = 5.0
"""Seconds that a form, or a report, may take to come."""
STEP, LONGEST = 1.0, 60.0
"""Seconds to wait after the first wrong token from an address, doubled by each further one, and the most of them."""
PEERS = 1024
"""Addresses whose wrong tokens are remembered."""
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""What goes with every answer that is for people."""
_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


def token(path: Path) -> str:
    """Return the token kept at `path`; one of 192 bits is made, for its owner only, where there is none.

    Raises:
        PibakeError: the file holds something else.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        kept = path.read_text("utf-8", "replace").strip()
        if not re.fullmatch(r"[A-Za-z0-9_-]{22,256}", kept):
            raise PibakeError(
                f"{path} is not a token: one has 22 or more letters and digits", f"rm {path}, and serve again"
            ) from None
        path.chmod(0o600)
        return kept
    with os.fdopen(handle, "w") as file:
        made = secrets.token_urlsafe(24)
        file.write(f"{made}\n")
    return made


@dataclass
class Access:
    """Lets in who may look."""

    token: str
    _wrong: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def cookie(self) -> str:
        """Return what the cookie holds: made from the token, which cannot be found from it."""
        return hmac.new(self.token.encode(), COOKIE.encode(), "sha256").hexdigest()

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to one who may not look; None for one who may."""
        if _at(request).startswith("127."):
            if _LOCAL.fullmatch(request.headers.get("host", "")):
                return None
            return PlainTextResponse("ask for this as http://localhost\n", 403, HEADERS)
        if _same(request.cookies.get(COOKIE, ""), self.cookie):
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if wait := self._wait(request):
                return _later(wait)
            if self._right(request, given):
                return None
        return _asked(request)

    async def login(self, request: Request) -> Response:
        """Give the cookie for the right token."""
        if wait := self._wait(request):
            return _later(wait)
        try:
            body = await read(request, BODY)
        except ValueError:
            return PlainTextResponse("a token is shorter\n", 413, HEADERS)
        except TimeoutError:
            return PlainTextResponse("this took too long\n", 408, {**HEADERS, "connection": "close"})
        given = parse_qs(body.decode("latin-1"), max_num_fields=4).get("token", [""])[0]
        if not self._right(request, given):
            return _form("That is not the token.", 403)
        answer = RedirectResponse("/", 303, HEADERS)
        answer.set_cookie(COOKIE, self.cookie, httponly=True, samesite="strict")
        return answer

    def _right(self, request: Request, given: str) -> bool:
        peer = _peer(request)
        if _same(given.strip(), self.token):
            self._wrong.pop(peer, None)
            return True
        times = self._wrong.pop(peer, (0, 0.0))[0] + 1
        while len(self._wrong) >= PEERS:
            self._wrong.pop(next(iter(self._wrong)))
        self._wrong[peer] = times, time.monotonic() + min(STEP * 2 ** min(times - 1, 10), LONGEST)
        return False

    def _wait(self, request: Request) -> float:
        return max(0.0, self._wrong.get(_peer(request), (0, 0.0))[1] - time.monotonic())


async def read(request: Request, limit: int) -> bytes:
    """Return a request's body.

    Raises:
        ValueError: it has more than `limit` bytes.
        TimeoutError: it does not come within `PATIENCE`.
    """
    body = b""
    async with asyncio.timeout(PATIENCE):
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise ValueError(limit)
    return body


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode())


def _asked(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return _form("", 401)
    return PlainTextResponse(
        "this asks for `Authorization: Bearer TOKEN`; the token is in netboot/token beside cluster.yaml\n",
        401,
        {**HEADERS, "www-authenticate": 'Bearer realm="pibake"'},
    )


def _form(problem: str, code: int) -> Response:
    return HTMLResponse(render("netboot/page/login.html.j2", problem=problem), code, HEADERS)


def _later(wait: float) -> Response:
    return PlainTextResponse(
        "wrong tokens came from this address; wait a little\n",
        429,
        {**HEADERS, "retry-after": str(int(wait) + 1)},
    )


def _at(request: Request) -> str:
    return str((request.scope.get("server") or ("",))[0])


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""
