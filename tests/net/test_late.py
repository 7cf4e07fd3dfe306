"""Boot ROMs that may hang are answered late, each on its own, with what dnsmasq would say."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from tests.net import trees
from tests.net.lab import BRIDGE, lab
from tests.net.walks import SERVER_ADDRESS, Played, boards, served
from tests.tools.netns import inside, ip, needs_namespaces

from pibake.netboot import pxe
from pibake.netboot.dnsmasq import HOSTS, config, hosts
from pibake.netboot.values import PROXY, SERVER, Site
from pibake.probe import MODELS, packet
from pibake.probe.messages import Board, discover
from pibake.probe.wire import Wire, powered
from pibake.serve.late import Late, offer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.net.lab import Lab

    from pibake.probe.models import Asking
    from pibake.probe.packet import Message

pytestmark = needs_namespaces
PI3, STRANGER = boards(["pi3"] * 2)
ROM, BOOTCODE = (stage.asking for stage in MODELS["pi3"].stages)
IGNORED = "dhcp-ignore=tag:boot-rom\n"
XID = 0x26F30339
TIMES = (58, 59)
"""When to renew, which dnsmasq makes up anew each time; a boot ROM never does."""


def site(dhcp: str) -> Site:
    return Site(BRIDGE, SERVER_ADDRESS, dhcp, IPv4Address("192.168.10.1"), ("192.168.10.1",), "lab")


def asked(board: Played, asking: Asking = ROM) -> Message:
    model = MODELS[board.model]
    return discover(Board(model, bytes.fromhex(board.mac.replace(":", "")), board.serial), asking, XID)


def heard(
    made: Lab, board: Played, asking: Asking = ROM, times: int = 1, limit: float = 3.0
) -> list[tuple[float, Message]]:
    """Plug a board in and let it ask; return every answer to it within some seconds, and when it came."""
    seat = made.seat(board.mac)
    found: list[tuple[float, Message]] = []
    message = asked(board, asking)

    def exchange() -> None:
        with powered("eth0"), Wire("eth0", message.mac) as wire:
            began = time.monotonic()
            for _ in range(times):
                wire.send(message)
            while answer := wire.hear(XID, began + limit):
                found.append((time.monotonic() - began, answer))

    inside(seat.namespace, exchange)
    return found


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_the_offer_is_the_one_dnsmasq_sends_to_the_same_board(dhcp: str, tmp_path: Path) -> None:
    tree = trees.root(tmp_path / "tftp")
    text = config(site(dhcp), [PI3.client()], tftp_root=str(tree), run=str(tmp_path / "run"))
    assert IGNORED in text
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / HOSTS).write_text(hosts(site(dhcp), [PI3.client()]))
    with lab(str(SERVER_ADDRESS)) as made:
        made.dnsmasq(made.server, text.replace(IGNORED, ""), tmp_path / "run")
        ((_, theirs),) = heard(made, PI3, limit=0.5)
    ours = offer(site(dhcp), PI3.client(), asked(PI3))
    for field in ("op", "xid", "mac", "yiaddr", "siaddr", "ciaddr", "file", "flags"):
        assert getattr(ours, field) == getattr(theirs, field), field
    options = {code: value.rstrip(b"\0") if code == 66 else value for code, value in theirs.options}
    assert dict(ours.options) == {code: value for code, value in options.items() if code not in TIMES}


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_a_boot_rom_is_answered_once_after_two_seconds_and_what_it_loads_at_once(
    dhcp: str, tmp_path: Path
) -> None:
    with (
        served(
            tmp_path, [PI3.client(), *(b.client(mac=False) for b in boards(["pi2"] * 9)[8:])], dhcp
        ) as made,
        ThreadPoolExecutor(3) as pool,
    ):
        rom = pool.submit(heard, made, PI3, times=3)
        by_serial = pool.submit(heard, made, boards(["pi2"] * 9)[8])
        stranger = pool.submit(heard, made, STRANGER)
        ours = [one for one in rom.result() if one[1].server == SERVER_ADDRESS.ip]
        assert len(ours) == 1
        assert pxe.HANGS <= ours[0][0] < pxe.HANGS + 0.7
        assert ours[0][1] == offer(site(dhcp), PI3.client(), asked(PI3))
        assert [m for _, m in by_serial.result() if m.server == SERVER_ADDRESS.ip]
        assert not [m for _, m in stranger.result() if m.server == SERVER_ADDRESS.ip]
        later = [one for one in heard(made, PI3, BOOTCODE, limit=1.0) if one[1].server == SERVER_ADDRESS.ip]
        assert later
        assert later[0][0] < 1.0


def test_nodes_that_come_later_are_answered_and_those_that_go_are_not() -> None:
    with lab(str(SERVER_ADDRESS)) as made:
        late = Late(site(SERVER), [PI3.client()], print)
        inside(made.server, late.__enter__)
        try:
            late.update([STRANGER.client()])
            with ThreadPoolExecutor(2) as pool:
                gone, come = pool.map(lambda board: heard(made, board), (PI3, STRANGER))
            assert not gone
            assert len(come) == 1
            assert sum(thread.name == "late" for thread in threading.enumerate()) == 1
        finally:
            late.__exit__()


def test_an_interface_that_goes_down_and_comes_back_is_said_once_and_heard_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pibake.serve.late.AGAIN", 0.2)
    said = list[str]()
    with lab(str(SERVER_ADDRESS)) as made:
        late = Late(site(SERVER), [PI3.client()], said.append)
        inside(made.server, late.__enter__)
        try:
            ip("-n", made.server, "link", "set", BRIDGE, "down")
            until = time.monotonic() + 5
            while not said and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.5)
            ip("-n", made.server, "link", "set", BRIDGE, "up")
            time.sleep(0.5)
            assert len(heard(made, PI3, limit=3.5)) == 1
        finally:
            late.__exit__()
    assert len(said) == 1
    assert f"boot ROMs of Pi 2 and 3 on {BRIDGE}: Network is down" in said[0]


def test_an_answer_goes_to_its_board_alone_if_that_has_an_address() -> None:
    server = bytes(6), SERVER_ADDRESS.ip
    alone = packet.answer(server, offer(site(SERVER), PI3.client(), asked(PI3)))
    everybody = packet.answer(server, offer(site(PROXY), PI3.client(), asked(PI3)))
    assert (alone[:6].hex(":"), alone[30:34]) == (PI3.mac, IPv4Address(PI3.address).packed)
    assert (everybody[:6], everybody[30:34]) == (b"\xff" * 6, b"\xff" * 4)
    for frame in (alone, everybody):
        assert packet.checksum(frame[14:34]) == 0
        assert packet.payload(frame)
