"""What dnsmasq really sends to boards, UEFI's PXE and UEFI's HTTP boot under pibake's configuration."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from tests.net.walks import UEFI, Played, boards, served
from tests.tools.netns import inside

from pibake.netboot.values import PROXY, SERVER
from pibake.probe import MODELS
from pibake.probe.messages import Board, discover
from pibake.probe.models import UEFI_ASKING, Asking
from pibake.probe.wire import Wire, powered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.net.lab import Lab

    from pibake.probe.packet import Message

HTTP_ASKING = replace(UEFI_ASKING, vendor="HTTPClient:Arch:00019:UNDI:003000", architecture=19)
PI4, PC, STRANGER = boards(["pi4", "uefi", "pi4"])
OURS, ROUTER = IPv4Address("192.168.10.2"), IPv4Address("192.168.10.1")


@pytest.fixture(scope="module", params=[PROXY, SERVER])
def network(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Lab]]:
    dhcp = str(request.param)
    with served(tmp_path_factory.mktemp(dhcp), [PI4.client(), PC.client()], dhcp) as made:
        yield dhcp, made


def offer(lab: Lab, board: Played, asking: Asking | None = None) -> Message | None:
    """Return what pibake's dnsmasq answers to a DISCOVER within a third of a second."""
    model = MODELS[board.model]
    player = Board(model, bytes.fromhex(board.mac.replace(":", "")), board.serial)
    seat = lab.seat(board.mac)

    def exchange() -> Message | None:
        with powered("eth0"), Wire("eth0", player.mac) as wire:
            wire.send(discover(player, asking or model.stages[0].asking, 7))
            until = time.monotonic() + 0.3
            while answer := wire.hear(7, until):
                if answer.server == OURS:
                    return answer
        return None

    return inside(seat.namespace, exchange)


def test_one_offer_has_everything_that_any_pi_looks_for(network: tuple[str, Lab]) -> None:
    dhcp, lab = network
    found = offer(lab, PI4)
    assert found
    menu = b"\x06\x01\x03\x0a\x04\x00PXE\x09\x17\x00\x00\x14Raspberry Pi Boot   \xff"
    assert found.option(43) == menu
    assert found.option(60) == b"PXEClient"
    assert found.option(97).startswith(b"\0RPi4")
    assert found.siaddr == OURS
    assert found.file == ""
    if dhcp == SERVER:
        assert found.option(66).rstrip(b"\0") == str(OURS).encode()
        assert found.address(3) == ROUTER
    assert str(found.yiaddr) == (PI4.address if dhcp == SERVER else "0.0.0.0")  # noqa: S104 - no address


def test_uefi_pxe_is_told_its_file_and_nothing_of_a_pi(network: tuple[str, Lab]) -> None:
    dhcp, lab = network
    found = offer(lab, PC)
    assert found
    assert (found.address(6), found.option(15)) == ((ROUTER, b"lab") if dhcp == SERVER else (None, b""))
    assert (found.option(67).rstrip(b"\0").decode() or found.file) == UEFI.file
    assert found.siaddr == OURS
    assert found.option(60) == b"PXEClient"
    assert b"Raspberry" not in found.option(43)


def test_uefi_http_boot_is_told_its_url_under_its_own_vendor_class(network: tuple[str, Lab]) -> None:
    found = offer(network[1], PC, HTTP_ASKING)
    assert found
    assert (found.option(67).rstrip(b"\0").decode() or found.file) == UEFI.url
    assert found.option(60) == b"HTTPClient"
    assert b"Raspberry" not in found.option(43)


@pytest.mark.parametrize("asking", [None, UEFI_ASKING, HTTP_ASKING])
def test_a_stranger_is_told_nothing_however_it_asks(network: tuple[str, Lab], asking: Asking | None) -> None:
    assert offer(network[1], STRANGER, asking) is None
