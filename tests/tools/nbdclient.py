"""The node's NBD client as a module of the tests'."""

from __future__ import annotations

import importlib.util
from typing import Any

from pibake import resources


def load() -> Any:
    spec = importlib.util.spec_from_file_location("client", resources.path("netboot", "nbd", "client.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
