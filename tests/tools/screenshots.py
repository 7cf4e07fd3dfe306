"""Makes the pictures of the page that are in the docs: `python -m tests.tools.screenshots`."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from tests.tools.chromium import tab
from tests.tools.test_serve_web import port

from pibake.rack import status
from pibake.rack.states import Known, Rack
from pibake.rack.values import FAIL, OK, STAGES, WAIT, Moment, Seen, Timeline
from pibake.serve.access import Access
from pibake.serve.http import serving
from pibake.serve.page import Desk
from pibake.serve.reports import Reports
from pibake.serve.web import Sources, application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = IPv4Address("127.0.0.1")
FOLDER = Path(__file__).parents[2] / "docs/screenshots"
TOOK = (0.4, 21.0, 14.0, 9.0, 24.0, 2.0, 1.0, 3.0, 41.0, 22.0, 15.0, 4.0)
"""Seconds that each stage of a boot takes."""
ENGINES = ("ganesha.nfsd", "qemu-storage-daemon", "dnsmasq")
WORDS = (
    "serving 24 nodes of lab",
    "compute-09 is the pi4 dc:a6:32:5f:10:09 (serial 7c3f0a09): the next board that appeared",
    "the switch 64:d1:54:aa:02:11 at eth0 has spanning tree on: a port may pass nothing for 30 s after a board is switched on",
)


def known(number: int) -> Known:
    """Return a node of a rack: three servers, storage, and many that compute."""
    kind, board = (
        ("server", "pi5") if number < 3 else ("storage", "cm4") if number < 7 else ("compute", "pi4")
    )
    if number % 11 == 10:
        board = "pi3"
    name = f"{kind}-{number + 1:02}"
    mac, serial = f"dc:a6:32:5f:10:{number % 256:02x}", f"7c3f{number:04x}"
    return Known(
        name, f"10.20.{number // 250}.{number % 250 + 11}", board, mac, serial, "nfs", True, "cluster.yaml"
    )


def boot(subject: str, now: float, stages: int, ago: float, *last: Moment, number: int = 1) -> Timeline:
    """Return a boot that came to a stage some seconds ago."""
    names = STAGES[:stages]
    at = now - ago - sum(TOOK[:stages])
    moments = []
    for name, took in zip(names, TOOK, strict=False):
        moment = Moment(name, at, at, count=2 if name == "dhcp" else 1)
        if name == "tftp":
            moment = replace(moment, last=at + took, files=31, size=68_400_000, seconds=19.6)
        moments.append(moment)
        at += took
    return Timeline(subject, number, (*moments, *last))


def rack(count: int, now: float) -> Rack:
    """Return a rack in which most nodes are members, and some are not."""
    nodes, boots = [], {}
    for number in range(count):
        node = known(number)
        odd = {
            8: boot(node.hostname, now, 2, 3.0),
            9: boot(node.hostname, now, 5, 6.0, Moment("network", now - 6, now - 1, OK)),
            11: boot(
                node.hostname, now, 9, 20.0, Moment("join", now - 18, now - 2, WAIT, "kubelet is starting", 4)
            ),
            12: boot(node.hostname, now, 2, 190.0, number=7),
            13: boot(
                node.hostname,
                now,
                6,
                400.0,
                Moment(
                    "clock",
                    now - 395,
                    now - 5,
                    FAIL,
                    "no time server has answered for 6 minutes; the clock says 2026-01-01",
                    41,
                ),
            ),
            14: Timeline(node.hostname, 1, (Moment("dhcp", now - 100, now - 4, count=19),)),
        }
        if number in {17, 18}:
            node = Known(node.hostname, node.address, node.board, "", "", "nfs", True, "")
        elif number in odd:
            boots[node.hostname] = odd[number]
        elif number == 22:
            node = Known(
                node.hostname,
                node.address,
                "pi02",
                "",
                "",
                "nfs",
                True,
                "",
                "the Raspberry Pi Zero 2 W has no Ethernet port to boot from",
            )
        elif number % 97 != 19:
            boots[node.hostname] = boot(
                node.hostname, now, 12, 3600.0 * (1 + number % 30), number=1 + number % 4
            )
        nodes.append(node)
    heard = [
        Seen(node.mac, now - 9000, now - 60, 4, node.serial, (node.board,), 4096)
        for node in nodes
        if node.mac
    ]
    heard += [
        Seen("2c:cf:67:0b:31:c2", now - 95, now - 3, 22, "9f0e31c2", ("pi5",), 8192, "PXEClient:Arch:00000:UNDI:002001"),
        Seen("b8:27:eb:7a:10:5d", now - 40, now - 11, 6, "", ("pi3", "pi2"), 0, "PXEClient:Arch:00000:UNDI:002001"),
    ]  # fmt: skip
    engines = [
        {"name": name, "state": "ready", "restarts": 0, "since": now - 86400, "pid": 1, "problem": ""}
        for name in ENGINES
    ]
    said = [[now - 900 + 300 * number, words] for number, words in enumerate(WORDS)]
    return status.rack("lab", nodes, heard, boots, {"engines": engines, "said": said}, now)


@contextmanager
def served(shown: Callable[[], Rack], changes: Callable[[], int] = lambda: 0) -> Iterator[str]:
    """Serve the page of a rack at loopback; yield its URL."""
    desk = Desk(shown, changes, Access("t" * 32))
    sources = Sources(lambda: (), dict, Reports(Path), lambda _, __: None)
    number = port()
    with serving(application(sources, desk), number, HERE):
        yield f"http://localhost:{number}"


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(exist_ok=True)
    now = time.time()
    with ExitStack() as stack:
        small = stack.enter_context(served(lambda: rack(24, now)))
        large = stack.enter_context(served(lambda: rack(500, now)))
        page = stack.enter_context(tab())
        for name, url, width, dark in (
            ("light", small, 1180, False),
            ("dark", small, 1180, True),
            ("phone", small, 360, False),
            ("phone-dark", small, 360, True),
            ("500", large, 1180, True),
            ("node", f"{small}/node/compute-14", 1180, False),
        ):
            phone = width < 600
            page.screen(width, 1400 if phone else 1000, scale=1.5 if phone else 1, dark=dark)
            page.open(url)
            page.picture(FOLDER / f"{name}.png", whole=False)


if __name__ == "__main__":
    main()
