"""What counts as pibake's own data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake import resources
from pibake.tree import Tree

if TYPE_CHECKING:
    from pathlib import Path


def test_what_python_leaves_beside_a_program_goes_onto_no_node(tmp_path: Path) -> None:
    for name in ("usr/lib/join", "usr/lib/__pycache__/join.cpython-311.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [found.name for found in resources.below(tmp_path) if found.is_file()] == ["join"]
    assert list(Tree.read(tmp_path).files) == ["usr/lib/join"]
