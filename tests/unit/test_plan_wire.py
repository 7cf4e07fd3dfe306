"""Which nodes can boot from the wire, and by which MAC address they are known."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING

import pytest
from tests.tools.nodes import heading, linked, on_wifi

from pibake.boards import BOARDS
from pibake.plan.wire import mac, obstacle, unknown

if TYPE_CHECKING:
    from pibake.plan import NodePlan

MAC = "dc:a6:32:01:02:03"
ABLE = [name for name, board in BOARDS.items() if board.netboot != "none"]


@pytest.mark.parametrize("board", ABLE)
def test_a_board_that_is_known_by_its_mac_address_can(plain_node: NodePlan, board: str) -> None:
    assert obstacle(dataclasses.replace(linked(plain_node, mac=MAC), board=board)) == ""


@pytest.mark.parametrize("board", [name for name in BOARDS if name not in ABLE])
def test_a_board_without_ethernet_cannot(plain_node: NodePlan, board: str) -> None:
    reason = obstacle(dataclasses.replace(linked(plain_node, mac=MAC), board=board))
    assert reason == f"the {BOARDS[board].title} has no Ethernet port to boot from"


def test_each_obstacle_has_its_reason(plain_node: NodePlan) -> None:
    known = linked(plain_node, mac=MAC)
    assert "Wi-Fi" in obstacle(on_wifi(known))
    assert "the head" in obstacle(heading(known, mac=MAC))
    assert "VLAN" in obstacle(linked(known, vlan=10))
    assert "IPv6" in obstacle(linked(known, address=ipaddress.ip_interface("fd00::13/64")))
    assert "neither its `mac` nor its `serial`" in obstacle(plain_node)
    assert obstacle(dataclasses.replace(plain_node, serial="abcd1234")) == ""


def test_a_node_that_lacks_nothing_but_its_board_is_told_apart(plain_node: NodePlan) -> None:
    assert unknown(plain_node)
    assert not unknown(linked(plain_node, mac=MAC))
    assert not unknown(dataclasses.replace(plain_node, serial="abcd1234"))
    assert not unknown(on_wifi(plain_node))
    assert not unknown(dataclasses.replace(plain_node, board="zero2w"))


@pytest.mark.parametrize("board", ["pi2", "pi3", "pi3b+"])
def test_a_board_that_boots_by_its_rom_has_the_end_of_its_serial_in_its_mac_address(
    plain_node: NodePlan, board: str
) -> None:
    node = dataclasses.replace(plain_node, serial="00abcdef", board=board)
    assert mac(node) == "b8:27:eb:ab:cd:ef"
    assert mac(linked(node, mac=MAC)) == MAC


@pytest.mark.parametrize("board", ["pi4", "pi400", "cm4", "pi5", "generic"])
def test_of_other_boards_the_serial_tells_nothing(plain_node: NodePlan, board: str) -> None:
    assert mac(dataclasses.replace(plain_node, serial="00abcdef", board=board)) == ""
    assert mac(dataclasses.replace(plain_node, board="pi3")) == ""
