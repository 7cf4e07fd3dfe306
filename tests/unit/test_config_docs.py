"""docs/cluster-yaml.md lists every key there is, in the words of the models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pibake import config
from pibake.boards import BOARDS
from pibake.config import check, model, problems

PAGE = Path(__file__).parents[2] / "docs/cluster-yaml.md"
EXAMPLE = re.compile(r"```yaml\n(.*?)```", re.DOTALL)
BASES = ("debian-12", "debian-13", "ubuntu-24.04")


MODELS = {kind.__name__: kind for _, kinds in check.OWNERS.values() for kind in kinds}


def table(names: str) -> str:
    rows = ["| key | | what it is | example |", "|---|---|---|---|"]
    for name in names.split():
        shared = model.Common.model_fields if name in {"Node", "NodeClass"} else {}
        fields = model.keys(MODELS[name]).items()
        for key, field in sorted(fields, key=lambda item: not item[1].is_required()):
            if key in shared:
                continue
            needed = "required" if field.is_required() else ""
            example = f"`{problems.flow(field.examples[0])}`" if field.examples else ""
            rows.append(f"| `{key}` | {needed} | {field.description} | {example} |")
    return "\n".join(rows)


def boards() -> str:
    rows = ["| board | what sets it apart |", "|---|---|"]
    return "\n".join(rows + [f"| `{name}` | {board.about} |" for name, board in BOARDS.items()])


def generated(page: str) -> str:
    page = re.sub(
        r"(<!-- keys: (.*?) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{table(found[2])}\n{found[3]}",
        page,
        flags=re.DOTALL,
    )
    return re.sub(
        r"(<!-- boards -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{boards()}\n{found[2]}",
        page,
        flags=re.DOTALL,
    )


def test_the_tables_are_those_of_the_models(update_golden: bool) -> None:
    page = PAGE.read_text("utf-8")
    if update_golden:
        PAGE.write_text(generated(page), "utf-8")
    assert generated(page) == PAGE.read_text("utf-8")


def test_the_page_has_a_table_for_every_mapping() -> None:
    shown = {
        name
        for names in re.findall(r"<!-- keys: (.*?) -->", PAGE.read_text("utf-8"))
        for name in names.split()
    }
    assert shown == set(config.json_schema()["$defs"]) | {"ClusterFile"}


def test_the_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    found = EXAMPLE.search(PAGE.read_text("utf-8"))
    assert found
    path.write_text(found[1], "utf-8")
    assert config.load(path, bases=BASES).file.nodes[1].serial == "abcd1234"


def test_the_example_of_classes_loads(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        next(text for text in EXAMPLE.findall(PAGE.read_text("utf-8")) if "class: storage" in text)
    )
    node = config.load(path, bases=BASES).nodes[2]
    assert node.labels == {"site": "attic", "disk": "ssd", "rack": "left"}
    assert node.packages == ("smartmontools",)


def test_the_complaint_shown_is_the_one_that_is_made() -> None:
    said = (PAGE.parents[1] / "tests/invalid/addresses.txt").read_text("utf-8").split("\n\n")[0]
    shown = PAGE.read_text("utf-8")
    for line in said.splitlines():
        assert line.partition(": ")[2] in shown


@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for _, kinds in check.OWNERS.values() for kind in kinds for key in model.keys(kind)],
)
def test_every_key_is_described(kind: Any, key: str) -> None:
    field = model.keys(kind)[key]
    assert field.description
    assert field.description.endswith(".")
    assert field.examples or key in {"defaults", "kubernetes", "network", "users", "nodes"}


def test_examples_in_the_schema_are_of_the_type_an_editor_expects() -> None:
    assert yaml.safe_load("vlan: 10")["vlan"] == model.Network.model_fields["vlan"].examples[0]  # type: ignore[index]
