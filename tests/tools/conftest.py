"""What tests of tools share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tools.registryd import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """The real docker-registry, with nothing in it."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with Registry(folder) as running:
        yield running
