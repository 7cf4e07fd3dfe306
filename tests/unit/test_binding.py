"""Which board a node is: cluster.yaml first, then what was adopted, then who comes next."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.tools.wired import KEY

from pibake import config, plan
from pibake.errors import PibakeError
from pibake.plan.wire import mac
from pibake.rack import adopted, binding, byhand
from pibake.rack.adopted import AUTO, HAND, SERIAL, Adopted
from pibake.rack.values import Seen

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.plan import Plan

MAC = "dc:a6:32:01:02:0"


def cluster(folder: Path, *nodes: str) -> Plan:
    """Return a plan of nodes with these further keys, called node0 and so on."""
    lines = [f"  - {{hostname: node{n}, address: 10.0.0.{n + 10}{more}}}" for n, more in enumerate(nodes)]
    (folder / "cluster.yaml").write_text(
        "cluster: lab\nnetwork: {subnet: 10.0.0.0/24}\n"
        f"users:\n  - {{name: ops, ssh_keys: ['{KEY}']}}\nnodes:\n" + "\n".join(lines) + "\n"
    )
    return plan.plan(config.load(folder / "cluster.yaml", bases=["debian-13"]))


def one(number: int, serial: str = "", by: str = HAND) -> Adopted:
    return Adopted(f"{MAC}{number}", serial, "pi4", by, 1.0)


def seen(number: int, *boards: str, serial: str = "") -> Seen:
    return Seen(f"{MAC}{number}", number, number, 1, serial, boards)


def test_a_node_without_mac_and_serial_is_the_board_that_was_adopted(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", board: pi4", ", board: pi4")
    counting, ignored = binding.counted(decided, {"node1": one(1, "0000abcd")})
    assert (counting, ignored) == ({"node1": one(1, "0000abcd")}, ())
    assert [node.hostname for node in binding.free(decided, counting)] == ["node0"]
    board = binding.identified(decided.nodes[1], counting["node1"])
    assert (mac(board), board.serial) == (f"{MAC}1", "0000abcd")
    assert decided.nodes[1].link.mac == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f', mac: "{MAC}7"', f"node0 was adopted as {MAC}1; cluster.yaml says it is {MAC}7, which counts"),
        (", serial: 0000abcd", f"node0 was adopted as {MAC}1; cluster.yaml says it is 0000abcd"),
        (", board: zero2w", f"node0 was adopted as {MAC}1, and boots from a card only"),
    ],
)
def test_cluster_yaml_comes_first_and_that_is_said(tmp_path: Path, more: str, said: str) -> None:
    counting, (sentence,) = binding.counted(cluster(tmp_path, more), {"node0": one(1)})
    assert counting == {}
    assert sentence.startswith(said)


def test_a_board_is_one_node_only(tmp_path: Path) -> None:
    decided = cluster(tmp_path, f', mac: "{MAC}1"', "", "", "")
    counting, ignored = binding.counted(
        decided, {"node1": one(1), "node2": one(2), "node3": one(2), "gone": one(4)}
    )
    assert counting == {"node2": one(2)}
    assert ignored == (
        f"node1 was adopted as {MAC}1, and that board is node0",
        f"node3 was adopted as {MAC}2, and that board is node2",
        f"gone was adopted as {MAC}4, and is no node of cluster.yaml any more",
    )


def test_what_was_adopted_and_then_written_into_cluster_yaml_is_no_contradiction(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", serial: 0000abcd", f', mac: "{MAC}2"')
    counting, ignored = binding.counted(decided, {"node0": one(1, "0000abcd"), "node1": one(2)})
    assert counting == {"node0": one(1, "0000abcd", SERIAL)}
    assert ignored == ()


def test_the_next_nodes_are_taken_in_the_order_of_cluster_yaml_and_of_boards_seen(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", board: pi5", ", board: pi4", ", board: pi4", "")
    boards = [
        seen(3, "pi4"),
        seen(4, "pi5", "cm5"),
        seen(5, "pi400"),
        seen(6, "pi4"),
        seen(7),
        seen(8, "pi3"),
    ]
    found = binding.appointed(decided.nodes, boards, 5.0)
    assert {name: board.mac[-1] for name, board in found.items()} == {
        "node1": "3",
        "node0": "4",
        "node2": "6",
        "node3": "8",
    }
    assert found["node3"] == Adopted(f"{MAC}8", "", "pi3", AUTO, 5.0)


def test_a_node_that_takes_any_board_waits_until_no_other_waits(tmp_path: Path) -> None:
    decided = cluster(tmp_path, "", ", board: pi4")
    assert binding.appointed(decided.nodes, [seen(1, "pi5")], 1.0) == {}
    assert list(binding.appointed(decided.nodes[:1], [seen(1, "pi5")], 1.0)) == ["node0"]
    assert binding.appointed(decided.nodes[:1], [seen(1)], 1.0) == {}


def test_a_serial_belongs_to_the_first_board_that_has_it(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", serial: 0000abcd, board: pi4", ", serial: 00abcdef, board: pi3")
    nodes = binding.all_identified(decided, {})
    first = binding.pinned(nodes, {}, seen(1, "pi4", serial="0000abcd"), 1.0)
    assert first == ("node0", one(1, "0000abcd", SERIAL))
    counting, _ = binding.counted(decided, dict([first]))
    nodes = binding.all_identified(decided, counting)
    clone = seen(2, "pi4", serial="0000abcd")
    assert binding.pinned(nodes, counting, clone, 1.0) is None
    assert binding.double(nodes, clone) == f"{MAC}1"
    assert binding.double(nodes, seen(1, serial="0000abcd")) == ""
    assert binding.pinned(nodes, counting, seen(3, "pi3", serial="00abcdef"), 1.0) is None
    assert binding.owner(nodes, f"{MAC}1", "0000abcd") == "node0"
    assert binding.owner(nodes, f"{MAC}2", "0000abcd") == ""
    assert binding.owner(nodes, "", "0000abcd") == "node0"


def test_a_board_that_was_adopted_by_its_serial_alone_gets_its_mac_address_later(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", board: pi4")
    board = byhand.sought("100000000000ABCD", [])
    new = byhand.adoption(decided, {}, decided.nodes[0], board, booted=False, time=1.0)
    assert new == Adopted("", "0000abcd", "pi4", HAND, 1.0)
    nodes = binding.all_identified(decided, {"node0": new})
    found = binding.pinned(nodes, {"node0": new}, seen(1, "pi4", serial="0000abcd"), 2.0)
    assert found == ("node0", replace(one(1, "0000abcd"), by=SERIAL))
    assert "has asked yet" in byhand.doubt(board, [])
    assert "did you mean 0000abce?" in byhand.doubt(board, [seen(1, serial="0000abce")])


def test_a_board_is_found_by_either_length_of_its_serial_and_by_its_mac_address() -> None:
    boards = [seen(1, serial="0000abcd"), seen(2, serial="00001111"), seen(3, serial="00001111")]
    for text in ("0000abcd", "0000ABCD", "100000000000abcd", f"{MAC}1", "DC-A6-32-01-02-01"):
        assert byhand.sought(text, boards) == boards[0]
    with pytest.raises(PibakeError, match=f"have the serial 00001111: {MAC}2 and {MAC}3"):
        byhand.sought("00001111", boards)
    for text in ("0000abc", "dc:a6:32", "node1", "", "0000abcd\n"):
        with pytest.raises(PibakeError, match="a board is named by its serial or its MAC address"):
            byhand.sought(text, boards)


def test_memory_is_no_reason_and_the_kind_of_board_is_one(tmp_path: Path) -> None:
    decided = cluster(tmp_path, ", board: pi4, memory: 8GiB", "")
    with pytest.raises(
        PibakeError, match="is a Raspberry Pi 3 Model B, and node0 is a Raspberry Pi 4 Model B"
    ):
        byhand.adoption(decided, {}, decided.nodes[0], seen(1, "pi3"), booted=False, time=1.0)
    for number, board in ((0, "pi4"), (1, "pi3")):
        found = byhand.adoption(decided, {}, decided.nodes[number], seen(1, board), booted=False, time=1.0)
        assert found.board == board


def test_the_file_is_read_as_it_was_written_and_not_believed_otherwise(tmp_path: Path) -> None:
    assert adopted.read(tmp_path) == {}
    adopted.write(tmp_path, {"node1": one(1, "0000abcd")})
    assert adopted.read(tmp_path) == {"node1": one(1, "0000abcd")}
    good = (tmp_path / adopted.NAME).read_text()
    for old, new in (
        (f"{MAC}1", f"{MAC}1\\nconf-file=/x"),
        ("0000abcd", "zzzz"),
        ('"pi4"', "4"),
        ("hand", "me"),
        ('"board"', '"bored"'),
        ("{", "["),
    ):
        (tmp_path / adopted.NAME).write_text(good.replace(old, new))
        with pytest.raises(PibakeError, match=r"adopted.json is damaged"):
            adopted.read(tmp_path)
