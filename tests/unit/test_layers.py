"""Imports only go down the layers of docs/design.md, and a module uses one third-party library at most."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from pibake import resources

PACKAGE = Path(resources.__file__).parent
LAYERS = (
    ("errors", "secret"),
    ("log", "run", "resources", "template", "kubeyaml", "tree", "progress", "fsys"),
    ("config", "catalog", "offers", "proof", "space", "lock", "system", "boards"),
    ("plan",),
    ("seed", "health", "identity", "kube", "network", "fit", "imported", "netboot"),
    ("accel", "share", "keys", "sparse", "decoders", "decompress", "signature", "web", "webindex", "fetch", "firstuse", "cache", "image", "vendor", "ingest",
     "bases", "inventory", "vm", "doctor", "arch", "release", "bundle", "apt", "payload", "hooks", "pins", "charts", "containers", "delivery", "recipe", "uses", "age", "vault", "live", "checkup", "crew", "flash", "card", "probe", "rack"),
    ("ground", "nodes", "build", "unpack", "reseed", "serve"),
    ("cli", "__main__"),
)  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "pibake"
                else {node.module}
            )
    return names


def layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_its_own_layer_or_below(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("pibake.") and (other := layer(name)) in LEVEL:
            assert LEVEL[other] <= LEVEL[own], f"{own} imports {name}"


def test_every_module_has_a_layer() -> None:
    tops = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in MODULES} - {"__init__"}
    assert tops == set(LEVEL) & tops


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_uses_one_third_party_library_at_most(path: Path) -> None:
    outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"pibake"}
    if path.parent.name == "cli":
        outside -= {"click", "rich"}
    assert len(outside) <= 1


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if path.parent.name == "cli":
        return
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    assert not names & {"print", "exit", "quit"}
