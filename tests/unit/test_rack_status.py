"""How nodes and boards stand, from the plan, from who was adopted, and from what was heard."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from tests.tools.nodes import linked, on_wifi
from tests.unit.racks import MAC, NOW, boot, moment
from tests.unit.racks import known as node

from pibake.plan.values import Plan
from pibake.rack import states
from pibake.rack.adopted import AUTO, SERIAL, Adopted
from pibake.rack.status import PLANNED, as_json, known, rack
from pibake.rack.values import FAIL, WAIT, Seen, Timeline

if TYPE_CHECKING:
    from pibake.plan import NodePlan
    from pibake.rack.states import Known, Node

OTHER = "d8:3a:dd:0a:0b:0c"
ONE = Adopted(OTHER, "12345678", "pi5", AUTO, NOW)


def planned(one: NodePlan, adopted: Adopted | None = None) -> Known:
    plan = Plan("lab", "lab.example", (one,), ())
    return known(plan, {one.hostname: adopted} if adopted else {})[0]


def shown(one: Known, timeline: Timeline | None = None, *boards: Seen) -> Node:
    return rack("lab", [one], boards, {one.hostname: timeline} if timeline else {}, {}, NOW).nodes[0]


def test_what_cluster_yaml_says_of_a_board_counts(plain_node: NodePlan) -> None:
    by_mac = planned(linked(plain_node, mac=MAC), ONE)
    assert (by_mac.mac, by_mac.serial, by_mac.by) == (MAC, "", PLANNED)
    by_serial = planned(dataclasses.replace(plain_node, serial="abcd1234"), ONE)
    assert (by_serial.mac, by_serial.serial, by_serial.by) == ("", "abcd1234", PLANNED)
    rom = planned(dataclasses.replace(plain_node, serial="00abcdef", board="pi3"))
    assert rom.mac == "b8:27:eb:ab:cd:ef"


def test_adoption_fills_in_what_cluster_yaml_leaves_out(plain_node: NodePlan) -> None:
    adopted = planned(plain_node, ONE)
    assert (adopted.mac, adopted.serial, adopted.by, adopted.board) == (OTHER, "12345678", AUTO, "pi4")
    pinned = dataclasses.replace(ONE, by=SERIAL, serial="abcd1234")
    first = planned(dataclasses.replace(plain_node, serial="abcd1234"), pinned)
    assert (first.mac, first.serial, first.by) == (OTHER, "abcd1234", SERIAL)


def test_a_node_of_any_board_is_the_board_that_was_adopted(plain_node: NodePlan) -> None:
    assert planned(dataclasses.replace(plain_node, board="generic"), ONE).board == "pi5"


def test_a_node_that_lacks_nothing_but_a_board_is_free_and_one_that_cannot_boot_so_has_a_card(
    plain_node: NodePlan,
) -> None:
    assert shown(planned(plain_node)).state == states.FREE
    card = shown(planned(on_wifi(plain_node)))
    assert card.state == states.CARD
    assert "Wi-Fi" in card.detail
    assert shown(planned(linked(plain_node, mac=MAC))).state == states.OFF


def test_a_member_has_joined_once_it_is_ready_and_a_plain_machine_is_up_once_it_is_through() -> None:
    ready = boot(moment("kernel", 90), moment("ready", 9), moment("scrubbed", 8, status=WAIT, detail="waits"))
    joined = shown(node(), ready)
    assert (joined.state, joined.stage, joined.since, joined.detail) == (
        states.JOINED,
        "scrubbed",
        NOW - 9,
        "waits",
    )
    assert shown(node(member=False), ready).state == states.BOOTING
    through = boot(moment("kernel", 90), moment("ready", 9), moment("scrubbed", 8))
    assert shown(node(member=False), through).state == states.UP


def test_a_node_that_boots_is_at_the_stage_it_has_come_to() -> None:
    found = shown(node(), boot(moment("tftp", 3, files=2), moment("dhcp", 1, count=2)))
    assert (found.state, found.stage, found.since, found.stuck) == (states.BOOTING, "tftp", NOW - 3, None)


def test_a_node_that_is_stuck_says_why() -> None:
    found = shown(node(), boot(moment("join", 3, status=FAIL, detail="no etcd")))
    assert found.state == states.STUCK
    assert found.stuck
    assert found.stuck.cause == "no etcd"


def test_the_kind_of_board_that_is_asking_decides_about_a_node_of_any_board() -> None:
    asks = boot(moment("dhcp", 3, count=5))
    seen = Seen(MAC, NOW, NOW, 5, boards=("pi3", "pi2"))
    found = shown(node(board="generic"), asks, seen).stuck
    assert found
    assert "boot ROM" in found.cause


def test_boards_are_bound_by_mac_address_and_else_by_serial() -> None:
    nodes = [node("node1"), node("node2", mac="", serial="11112222")]
    boards = [
        Seen(MAC, NOW, NOW, 1, serial="99999999"),
        Seen(OTHER, NOW, NOW, 1, serial="11112222"),
        Seen("dc:a6:32:00:00:01", NOW, NOW, 1, serial="33334444"),
        Seen("dc:a6:32:00:00:02", NOW, NOW, 1),
    ]
    found = rack("lab", nodes, boards, {}, {}, NOW).boards
    assert [board.node for board in found] == ["node1", "node2", "", ""]
    assert not any(board.note for board in found)


def test_another_board_with_the_serial_of_a_node_that_has_a_mac_address_is_not_that_node() -> None:
    boards = [Seen(MAC, NOW, NOW, 1, serial="abcd1234"), Seen(OTHER, NOW, NOW, 1, serial="abcd1234")]
    first, second = rack("lab", [node()], boards, {}, {}, NOW).boards
    assert (first.node, second.node) == ("node3", "")
    assert first.note == f"{OTHER} has the serial abcd1234, too"
    assert second.note == f"{MAC} has the serial abcd1234, too"


def test_a_board_of_another_kind_than_its_node_has_a_note() -> None:
    (board,) = rack("lab", [node()], [Seen(MAC, NOW, NOW, 1, boards=("pi5", "cm5"))], {}, {}, NOW).boards
    assert (
        board.note
        == "it asks as a Raspberry Pi 5 does, and node3 is a Raspberry Pi 4 Model B in cluster.yaml"
    )
    (same,) = rack("lab", [node()], [Seen(MAC, NOW, NOW, 1, boards=("pi400", "pi4"))], {}, {}, NOW).boards
    assert not same.note


def test_the_json_has_what_is_documented() -> None:
    server = {"engines": [{"name": "dnsmasq", "state": "ready"}], "said": [[NOW, "the disk is full"]]}
    timelines = {"node3": boot(moment("join", 3, status=FAIL, detail="no"))}
    seen = Seen(MAC, NOW, NOW, 2, "abcd1234", ("pi4",), 4096, "PXEClient", "192.168.10.13")
    value = json.loads(json.dumps(as_json(rack("lab", [node()], [seen], timelines, server, NOW))))
    assert list(value) == ["cluster", "time", "engines", "nodes", "boards", "said"]
    assert value["engines"] == server["engines"]
    assert value["said"] == [{"time": NOW, "text": "the disk is full"}]
    (board,) = value["boards"]
    assert board["node"] == "node3"
    assert board["boards"] == ["pi4"]
    (one,) = value["nodes"]
    assert one["boot"] == 1
    assert one["stuck"].keys() == {"at", "cause", "remedy"}
    assert one["stages"][0]["stage"] == "join"
