"""The rack's page and metrics, over a real connection, at loopback and at an address where the token is asked for."""

from __future__ import annotations

import html.parser
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request
from tests.tools.test_serve_web import ask, port

from pibake.errors import PibakeError
from pibake.rack.states import STATES, Board, Known, Node, Rack, Stuck
from pibake.rack.values import Moment, Seen, Timeline
from pibake.serve.access import HEADERS, Access, token
from pibake.serve.http import serving
from pibake.serve.page import Desk
from pibake.serve.reports import Reports
from pibake.serve.web import Sources, application

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = IPv4Address("127.0.0.1")
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
    rack = many(14)
    desk = Desk(lambda: rack, lambda: 0, Access(TOKEN))
    sources = Sources(lambda: (), dict, Reports(lambda name: tmp_path / name), lambda _, __: None)
    number = port()
    with serving(application(sources, desk), number, HERE):
        yield number


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
