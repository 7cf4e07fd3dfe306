"""docs/boards.md lists every board there is, as boards.py has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pibake import config
from pibake.boards import BOARDS, NETBOOT, Board, size
from pibake.config.model import Defaults

PAGE = Path(__file__).parents[2] / "docs/boards.md"


def code(words: tuple[str, ...], between: str = " ") -> str:
    return between.join(f"`{word}`" for word in words)


def boards() -> str:
    rows = [
        "| board | what it is | memory | Ethernet | Wi-Fi | boots from the wire |",
        "|---|---|---|---|---|---|",
    ]
    for board in BOARDS.values():
        memory = ", ".join(size(mib) for mib in board.memory) or "any"
        yes = {True: "yes", False: "no"}
        rows.append(
            f"| `{board.name}` | {board.title} | {memory} | {yes[board.ethernet]} | {yes[board.wifi]} | {NETBOOT[board.netboot]} |"
        )
    return "\n".join(rows)


def files() -> str:
    rows = ["| board | filters of config.txt | firmware | device tree, one of |", "|---|---|---|---|"]
    for board in BOARDS.values():
        if board.filters:
            filters = code(tuple(f"[{name}]" for name in (*board.filters, *kinds(board))))
            rows.append(
                f"| `{board.name}` | {filters} | {code(board.firmware) or 'in the EEPROM'} | {code(board.device_trees)} |"
            )
    return "\n".join(rows)


def kinds(board: Board) -> tuple[str, ...]:
    return tuple(f"board-type=0x{number:02x}" for number in board.types)


def filled(page: str, name: str, table: str) -> str:
    before, _, rest = page.partition(f"<!-- {name} -->\n")
    return f"{before}<!-- {name} -->\n{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"


def test_the_tables_are_those_of_the_boards(update_golden: bool) -> None:
    page = PAGE.read_text("utf-8")
    page = filled(filled(page, "boards", boards()), "files", files())
    if update_golden:
        PAGE.write_text(page, "utf-8")
    assert page == PAGE.read_text("utf-8")


def test_the_example_is_what_cluster_yaml_takes() -> None:
    found = re.search(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    example = yaml.safe_load(found[1])
    defaults = Defaults.model_validate(example["defaults"])
    assert (defaults.board, defaults.memory) == ("pi4", 4096)
    assert all(
        set(node) <= set(config.json_schema()["$defs"]["Node"]["properties"]) for node in example["nodes"]
    )


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_a_board_is_complete(board: Board) -> None:
    assert board.netboot in NETBOOT
    assert list(board.memory) == sorted(board.memory)
    assert board.arches[0] == "arm64"
    if board.name != "generic":
        assert board.family in board.filters
        assert board.memory
        assert all(
            re.fullmatch(r"bcm27\d\d?\S*-rpi-\S+\.dtb|bcm2837-rpi-\S+\.dtb", name)
            for name in board.device_trees
        )


def test_no_two_boards_share_a_device_tree_or_a_type() -> None:
    for what in ("device_trees", "types"):
        found = [value for board in BOARDS.values() for value in getattr(board, what)]
        assert len(found) == len(set(found))
