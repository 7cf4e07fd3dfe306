"""Partition tables written by sfdisk, read by pibake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.tools import images

from pibake.image import table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_what_sfdisk_wrote_is_read_as_sfdisk_reads_it(label: str, tmp_path: Path) -> None:
    path = images.make(tmp_path / "card.img", label=label, noise=1)
    expected = json.loads(images.tool("sfdisk", "--json", path))["partitiontable"]
    found = table.read(path)
    assert found.label == expected["label"]
    assert found.id == expected["id"].lower().removeprefix("0x")
    assert [(p.start, p.size) for p in found.partitions] == [
        (p["start"] * 512, p["size"] * 512) for p in expected["partitions"]
    ]
    kinds = [p["type"].lower() for p in expected["partitions"]]
    assert [p.type.lstrip("0") for p in found.partitions] == [kind.lstrip("0") for kind in kinds]
    assert found.partitions[0].is_fat
    assert not found.partitions[1].is_fat
