"""The network of every kind of node, for every program that configures one; `pytest --update-golden` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools.nodes import NETWORKS

from pibake import network
from pibake.errors import PibakeError
from pibake.system import Network

if TYPE_CHECKING:
    from pibake.plan import NodePlan

HERE = Path(__file__).parent / "network"


def shown(node: NodePlan, style: Network) -> str:
    try:
        tree = network.files(node, style)
    except PibakeError as error:
        return f"{error}\n   hint: {error.hint}\n"
    return "".join(f"--- {path} {file.mode:04o}\n{file.data.decode()}" for path, file in tree)


@pytest.mark.parametrize("style", Network)
def test_the_files_are_as_they_were(style: Network, plain_node: NodePlan, *, update_golden: bool) -> None:
    text = "".join(f"=== {name}\n{shown(make(plain_node), style)}\n" for name, make in NETWORKS.items())
    golden = HERE / f"{style}.txt"
    if update_golden:
        HERE.mkdir(exist_ok=True)
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")
