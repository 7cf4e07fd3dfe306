"""The wire's HTTP server: its state, nodes' reports, and files, over a real connection."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from pibake.errors import PibakeError
from pibake.rack.states import Rack
from pibake.serve.access import Access
from pibake.serve.http import serving
from pibake.serve.keeper import READY, State
from pibake.serve.page import Desk
from pibake.serve.reports import LIMIT, Reports
from pibake.serve.web import Sources, application

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = IPv4Address("127.0.0.1")
STATES = (State("dnsmasq", READY, 2, 1.5, 77, ""),)
REPORT = {
    "node": "node1", "stage": "join", "status": "wait", "detail": "no answer", "attempts": 3, "started": 4.5,
    "reached": {"network": 5.0, "clock": 5.25}, "uptime": 9.5, "time": 1790000000,
}  # fmt: skip
NODES = {"node1": {"address": "127.0.0.1"}, "node2": {"address": "127.0.0.2"}}
BIG = 48 << 20


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def at(tmp_path: Path) -> Iterator[int]:
    """Serve a folder's files, with a report folder per node; return the port."""
    big = tmp_path / "files/big"
    big.parent.mkdir()
    with big.open("wb") as file:
        file.write(bytes(range(256)))
        file.truncate(BIG)

    def files(peer: IPv4Address, path: str) -> Path | bytes | None:
        assert peer == HERE
        return b"said on the spot" if path == "a/b c" else tmp_path / "files" / path if path else None

    reports = Reports(lambda hostname: tmp_path / "nodes" / hostname)
    sources = Sources(lambda: STATES, lambda: NODES, reports, files)
    desk = Desk(lambda: Rack("lab", 0.0, (), (), ()), lambda: 0, Access("x" * 32))
    number = port()
    with serving(application(sources, desk), number, HERE):
        yield number


def ask(
    at: int,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    headers: dict[str, str] | None = None,
    source: str = "",
) -> tuple[int, bytes, dict[str, str]]:
    link = http.client.HTTPConnection("127.0.0.1", at, 10, (source, 0) if source else None)
    try:
        link.request(method, path, body, headers or {})
        answer = link.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        link.close()


def post(at: int, report: dict[str, Any], source: str = "127.0.0.1") -> int:
    return ask(at, "POST", "/report", json.dumps(report).encode(), source=source)[0]


@pytest.mark.parametrize("path", ["/big", "/a/b%20c"])
def test_the_length_is_spelled_as_grub_knows_it(at: int, path: str) -> None:
    with socket.create_connection(("127.0.0.1", at), 10) as link:
        link.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = b"".join(iter(lambda: link.recv(65536), b""))
    assert b"\r\nContent-Length: " in head


def test_the_status_names_engines_and_nodes_with_what_they_reported(at: int, tmp_path: Path) -> None:
    assert post(at, REPORT) == 204
    status = json.loads(ask(at, "GET", "/status")[1])
    assert status["engines"] == [
        {"name": "dnsmasq", "state": "ready", "restarts": 2, "since": 1.5, "pid": 77, "problem": ""}
    ]
    report = status["nodes"]["node1"].pop("report")
    assert report.pop("received") > 0
    assert report == {name: value for name, value in REPORT.items() if name != "node"}
    assert status["nodes"] == {"node1": NODES["node1"], "node2": {**NODES["node2"], "report": None}}
    kept = json.loads((tmp_path / "nodes/node1/report.json").read_text())
    assert kept["stage"] == "join"


def test_a_report_is_still_known_to_the_next_server(at: int, tmp_path: Path) -> None:
    assert post(at, REPORT) == 204
    again = Reports(lambda hostname: tmp_path / "nodes" / hostname)
    assert again.of(["node1", "node2"])["node1"]["detail"] == "no answer"
    assert list(again.of(["node1", "node2"])) == ["node1"]


def test_a_report_of_another_node_or_from_nowhere_is_refused(at: int, tmp_path: Path) -> None:
    assert post(at, REPORT, "127.0.0.2") == 400
    assert post(at, REPORT, "127.0.0.3") == 403
    assert not (tmp_path / "nodes").exists()


def test_what_is_no_report_is_refused(at: int) -> None:
    whole = json.dumps(REPORT)
    for body in (
        "", "{", "[]", "[" * 10000, "{}", '{"node": 1}', '{"node": "node1"}',
        json.dumps(REPORT | {"attempts": "x"}), json.dumps(REPORT | {"attempts": True}),
        json.dumps(REPORT | {"reached": {"a": "b"}}), json.dumps(REPORT | {"uptime": float("nan")}),
        whole.replace("9.5", "1e999"), whole.replace("9.5", "9" * 400),
    ):  # fmt: skip
        assert ask(at, "POST", "/report", body.encode())[0] == 400, body[:80]
    assert json.loads(ask(at, "GET", "/status")[1])["nodes"]["node1"]["report"] is None


def test_a_report_that_is_too_long_is_refused_and_a_long_text_is_cut(at: int) -> None:
    assert ask(at, "POST", "/report", b" " * (LIMIT + 1))[0] == 413
    assert (
        post(at, REPORT | {"detail": "x" * 2000, "other": "y", "stage": "\ud800", "status": "\x1b[2Jok"})
        == 204
    )
    many = {"reached": {str(number): 1.0 for number in range(33)}}
    assert post(at, REPORT | many) == 400
    report = json.loads(ask(at, "GET", "/status")[1])["nodes"]["node1"]["report"]
    assert report["detail"] == "x" * 1000
    assert (report["stage"], report["status"]) == (" ", " [2Jok")
    assert "other" not in report


def test_large_files_come_whole_in_parts_and_as_a_length_only(at: int) -> None:
    status, body, headers = ask(at, "GET", "/big")
    assert (status, len(body), body[:256]) == (200, BIG, bytes(range(256)))
    assert headers["accept-ranges"] == "bytes"
    status, body, headers = ask(at, "GET", "/big", headers={"Range": "bytes=2-5"})
    assert (status, body, headers["content-range"]) == (206, b"\2\3\4\5", f"bytes 2-5/{BIG}")
    status, body, headers = ask(at, "HEAD", "/big")
    assert (status, body, headers["content-length"]) == (200, b"", str(BIG))


def test_what_is_made_on_the_spot_is_served_and_what_is_not_there_is_not(at: int) -> None:
    assert ask(at, "GET", "/a/b%20c")[:2] == (200, b"said on the spot")
    assert ask(at, "GET", "/missing")[0] == 404
    assert ask(at, "POST", "/big")[0] == 405


def test_many_nodes_fetch_at_once(at: int) -> None:
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(len(ask(at, "GET", "/big")[1]))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [BIG] * 8


def test_a_port_that_is_taken_is_an_error_with_the_address(at: int) -> None:
    with (
        pytest.raises(PibakeError, match=rf"127\.0\.0\.1:{at}: Address already in use"),
        serving(None, at, HERE),
    ):
        pass
