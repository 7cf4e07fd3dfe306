"""The rack's page and metrics, over a real connection, at loopback and at an address where the token is asked for."""

from __future__ import annotations

import html.parser
import http.client
import re
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request
from tests.tools.netns import Place, entered, needs_namespaces, places
from tests.tools.test_serve_web import ask, port

from pibake.errors import PibakeError
from pibake.rack.states import STATES, Board, Known, Node, Rack, Stuck
from pibake.rack.values import FAIL, OK, WAIT, Moment, Seen, Timeline
from pibake.resources import text
from pibake.serve import http as listening
from pibake.serve.access import HEADERS, Access, token
from pibake.serve.http import EACH, serving
from pibake.serve.page import Desk
from pibake.serve.reports import Reports
from pibake.serve.web import Sources, application

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.applications import Starlette

HERE = IPv4Address("127.0.0.1")
OUTSIDE = "10.77.0.1"
TOKEN = "t" * 32
HOSTILE = "<script>alert(1)</script>\x1b[2J"
VOID = {"meta", "link", "input", "br", "hr", "img"}


def many(count: int) -> Rack:
    """Return a rack in which every state is, and texts that a board may send."""
    nodes = []
    for number in range(count):
        state = list(STATES)[number % len(STATES)]
        known = Known(f"node{number}", f"10.0.{number // 250}.{number % 250}", "pi4", "", "", "nfs", True, "")
        moments = (
            Moment("dhcp", 1000, 1001),
            Moment("tftp", 1001, 1009, detail=HOSTILE, files=3, size=9, seconds=2.0),
        )
        stuck = Stuck("tftp", HOSTILE, "look") if state == "stuck" else None
        boot = Timeline(known.hostname, 2, moments)
        nodes.append(Node(known, state, "tftp", 1001, HOSTILE, stuck, boot))
    boards = (Board(Seen("dc:a6:32:01:02:03", 1, 2, 3, "0a0b0c0d", ("pi4",), vendor=HOSTILE), ""),)
    engine = {"name": "dnsmasq", "state": "ready", "restarts": 2, "since": 1.5, "pid": 7, "problem": ""}
    return Rack("lab", 1100, (engine,), tuple(nodes), boards, ((1000, HOSTILE),))  # fmt: skip


@pytest.fixture
def at(tmp_path: Path) -> Iterator[int]:
    number = port()
    with serving(shown(tmp_path), number, HERE):
        yield number


def shown(folder: Path) -> Starlette:
    rack = many(14)
    desk = Desk(lambda: rack, lambda: 0, Access(TOKEN))
    return application(
        Sources(lambda: (), dict, Reports(lambda name: folder / name), lambda _, __: None), desk
    )


@dataclass(frozen=True)
class Neighbours:
    """Where the page is, and a machine beside it."""

    server: Place
    client: Place

    def ask(
        self, method: str, path: str, body: str | None = None, *, at: str = OUTSIDE, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Ask from the machine beside it, or on the server itself at 127.0.0.1."""

        def alone() -> tuple[int, bytes, dict[str, str]]:
            link = http.client.HTTPConnection(at, 8069, timeout=10)
            try:
                link.request(method, path, body, headers)
                answer = link.getresponse()
                return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
            finally:
                link.close()

        return (self.server if at == str(HERE) else self.client).inside(alone)

    def connect(self) -> socket.socket:
        return self.client.inside(lambda: socket.create_connection((OUTSIDE, 8069), 10))


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[Neighbours]:
    with places(f"{OUTSIDE}/24", "10.77.0.9/24") as (server, client), ExitStack() as stack:
        with entered(server.name):
            both = HERE, IPv4Address(OUTSIDE)
            stack.enter_context(serving(shown(tmp_path), 8069, *both))
        yield Neighbours(server, client)


class Balanced(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [name for name, _ in attrs if name == "style" or name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", ["/", "/node/node3", "/?part"])
def test_pages_are_well_formed_and_escape_what_boards_say(at: int, path: str) -> None:
    code, body, headers = ask(at, "GET", path)
    assert code == 200
    text = body.decode()
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;alert" in text
    parser = Balanced()
    parser.feed(text)
    assert not parser.open
    assert {name: headers.get(name) for name in HEADERS} == HEADERS


def test_a_part_that_has_not_changed_is_not_sent_again(at: int) -> None:
    tag = ask(at, "GET", "/?part")[2]["etag"]
    assert ask(at, "GET", "/?part", headers={"If-None-Match": tag})[:2] == (304, b"")


@pytest.mark.parametrize("path", ["/", "/node/node1", "/metrics", "/status"])
def test_a_name_of_another_site_is_refused_at_loopback(at: int, path: str) -> None:
    assert ask(at, "GET", path, headers={"Host": "evil.example"})[0] == 403
    assert ask(at, "GET", path, headers={"Host": "localhost:1"})[0] == 200


def test_metrics_have_their_types_and_values(at: int) -> None:
    code, body, headers = ask(at, "GET", "/metrics")
    assert (code, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = body.decode().splitlines()
    assert 'pibake_nodes{state="stuck"} 2.0' in lines
    assert 'pibake_engine_restarts_total{engine="dnsmasq"} 2.0' in lines
    assert 'pibake_node_tftp_bytes{node="node1"} 9.0' in lines
    assert 'pibake_boards{known="no"} 1.0' in lines


def test_the_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    made = token(tmp_path / "token")
    assert (len(made), (tmp_path / "token").stat().st_mode & 0o777) == (32, 0o600)
    assert token(tmp_path / "token") == made
    (tmp_path / "token").write_text("short")
    with pytest.raises(PibakeError, match="is not a token"):
        token(tmp_path / "token")


def test_500_nodes_are_rendered_in_200_milliseconds() -> None:
    rack = many(500)
    Desk(lambda: many(1), lambda: 0, Access(TOKEN)).part("")
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert Desk(lambda: rack, lambda: 0, Access(TOKEN)).part("")
        took.append(time.perf_counter() - began)
    assert min(took) < 0.2


def test_elsewhere_the_token_or_its_cookie_is_asked_for_and_wrong_ones_wait() -> None:
    access = Access(TOKEN)

    def code(**headers: str) -> int:
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": pairs}
        refusal = access.refusal(Request({**scope, "server": ("10.0.0.2", 8069), "client": ("10.0.0.9", 5)}))
        return refusal.status_code if refusal else 200

    assert code(host="localhost") == 401
    assert code(cookie=f"pibake={access.cookie}") == 200
    assert code(cookie=f"pibake={TOKEN}") == 401
    assert code(authorization=f"Bearer {TOKEN}") == 200
    assert code(authorization="Bearer wrong") == 401
    assert code(authorization=f"Bearer {TOKEN}") == 429


@needs_namespaces
def test_the_token_is_asked_for_at_a_real_address_and_not_at_loopback(neighbours: Neighbours) -> None:
    assert neighbours.ask("GET", "/", at=str(HERE))[0] == 200
    for path in ("/", "/?part", "/node/node1", "/metrics", "/status"):
        code, body, headers = neighbours.ask("GET", path, Host="localhost")
        assert (code, headers["www-authenticate"]) == (401, 'Bearer realm="pibake"')
        assert b"node1" not in body
        assert neighbours.ask("GET", path, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert neighbours.ask("GET", "/", at=str(HERE), Host="evil.example")[0] == 403


@needs_namespaces
def test_the_form_gives_a_cookie_for_the_token_and_has_wrong_ones_wait(neighbours: Neighbours) -> None:
    code, body, headers = neighbours.ask("GET", "/", Accept="text/html")
    assert code == 401
    assert b'<form method="post" action="/login">' in body
    assert headers["content-security-policy"] == HEADERS["content-security-policy"]
    code, _, headers = neighbours.ask("POST", "/login", f"token={TOKEN}")
    assert (code, headers["location"]) == (303, "/")
    cookie, *rest = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=strict"} <= set(rest)
    assert TOKEN not in cookie
    assert neighbours.ask("GET", "/", Cookie=cookie)[0] == 200
    code, body, headers = neighbours.ask("POST", "/login", "token=wrong")
    assert code == 403
    assert b"That is not the token." in body
    assert "set-cookie" not in headers
    code, _, headers = neighbours.ask("POST", "/login", f"token={TOKEN}")
    assert (code, headers["retry-after"]) == (429, "1")
    time.sleep(1.05)
    assert neighbours.ask("POST", "/login", "token=wrong")[0] == 403
    assert neighbours.ask("POST", "/login", "token=wrong")[2]["retry-after"] == "2"
    assert neighbours.ask("GET", "/", Cookie=cookie)[0] == 200


@needs_namespaces
def test_a_form_that_is_too_long_or_comes_too_slowly_is_refused(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert neighbours.ask("POST", "/login", "token=" + "x" * 4096)[0] == 413
    monkeypatch.setattr("pibake.serve.access.PATIENCE", 0.3)
    with neighbours.connect() as link:
        link.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\ntoken=")
        assert link.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_connections_that_say_nothing_take_no_more_than_one_address_may_have(at: int) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", at), 5)) for _ in range(300)]
        began = time.monotonic()
        assert ask(at, "GET", "/", source="127.0.0.2")[0] == 200
        assert time.monotonic() - began < 2
        assert sum(map(ended, silent)) == 300 - EACH
    began = time.monotonic()
    while time.monotonic() - began < 5:
        try:
            assert ask(at, "GET", "/")[0] == 200
            break
        except OSError:
            time.sleep(0.05)
    else:
        pytest.fail("an address whose connections have ended is kept out")


@pytest.mark.parametrize("first", [b"", b"GET /page/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_head_that_dribbles_is_not_waited_for(
    at: int, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(listening, "PATIENCE", 0.5)
    with socket.create_connection(("127.0.0.1", at), 5) as link:
        if first:
            link.sendall(first)
            assert link.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        began = time.monotonic()
        link.sendall(b"GET / HTTP/1.1\r\nX: ")
        while not ended(link):
            assert time.monotonic() - began < 4
            time.sleep(0.1)
            try:
                link.sendall(b"x")
            except OSError:
                break


def ended(link: socket.socket) -> bool:
    """Tell whether the other end has closed a connection."""
    link.setblocking(False)
    try:
        while link.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_nodes_that_are_stuck_for_one_reason_are_one_thing_to_read() -> None:
    part = Desk(lambda: many(14), lambda: 0, Access(TOKEN)).part("") or ""
    assert part.count('<p class="remedy">') == 1
    assert re.search(r'<h3><a href="/node/node3">node3</a> <a href="/node/node10">node10</a>', part)
    assert "14 nodes · 1 board heard" in part


def test_every_class_that_has_a_colour_is_one_of_a_state_or_a_status() -> None:
    style = text("netboot", "page", "page.css")
    assert all(f".mark.{state} " in style for state in ("joined", "up", "booting", "stuck"))
    assert all(f".bar-{status} " in style and f".st-{status} " in style for status in (OK, WAIT, FAIL))


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    light, dark, *_ = text("netboot", "page", "page.css").split(":root {")[1:]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", light if scheme == "light" else dark))
    inks = {"ink", "muted", "link", "joined", "up", "booting", "stuck"}
    pairs = {(ink, ground) for ink in inks for ground in ("panel", "ground")}
    pairs |= {("on-alarm", "alarm"), ("on", "link"), ("muted", "quiet"), ("ink", "code"), ("ink", "quiet")}
    for state in ("joined", "up", "booting"):
        pairs |= {("ink", f"{state}-soft"), (state, f"{state}-soft")}
    for ink, ground in sorted(pairs):
        one, other = luminance(colours[ink]), luminance(colours[ground])
        ratio = (max(one, other) + 0.05) / (min(one, other) + 0.05)
        assert ratio >= 4.5, f"{ink} on {ground}: {ratio:.2f}"
