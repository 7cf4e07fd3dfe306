"""What the tests of a network share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.net.serving import ground

if TYPE_CHECKING:
    from tests.net.serving import Ground


@pytest.fixture(scope="module")
def on(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A base for every board, and what is downloaded for it."""
    return ground(tmp_path_factory.mktemp("ground"))
