"""The network of every kind of node, for every program that configures one; `pytest --update-golden` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools.nodes import HEADS, NETWORKS

from pibake import network
from pibake.errors import PibakeError
from pibake.network import gateway
from pibake.system import Network
from pibake.tree import Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

HERE = Path(__file__).parent / "network"


def text(tree: Tree) -> str:
    return "".join(f"--- {path} {file.mode:04o}\n{file.data.decode()}" for path, file in tree)


def shown(node: NodePlan, style: Network) -> str:
    """What makes the head one is the same for all of them, and compared once."""
    try:
        tree = network.files(node, style)
    except PibakeError as error:
        return f"{error}\n   hint: {error.hint}\n"
    apart = gateway.files(node).files
    return text(Tree({path: file for path, file in tree if path not in apart}))


def compared(said: str, golden: Path, *, update: bool) -> None:
    if update:
        HERE.mkdir(exist_ok=True)
        golden.write_text(said, "utf-8")
    assert said == golden.read_text("utf-8")


@pytest.mark.parametrize("style", Network)
def test_the_files_are_as_they_were(style: Network, plain_node: NodePlan, *, update_golden: bool) -> None:
    made = {name: shown(make(plain_node), style) for name, make in {**NETWORKS, **HEADS}.items()}
    said = "".join(f"=== {name}\n{shows}\n" for name, shows in made.items())
    compared(said, HERE / f"{style}.txt", update=update_golden)


def test_what_makes_the_head_one_is_as_it_was(plain_node: NodePlan, *, update_golden: bool) -> None:
    said = "".join(f"=== {name}\n{text(gateway.files(make(plain_node)))}\n" for name, make in HEADS.items())
    compared(said, HERE / "gateway.txt", update=update_golden)
