"""Kustomizations, which kubectl builds (kubectl documentation, `kubectl kustomize`)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pibake import kubeyaml
from pibake.config.userfiles import fault_of
from pibake.errors import PibakeError
from pibake.run import run

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 300.0
"""Bases of a kustomization may be on the network."""


@functools.lru_cache(maxsize=64)
def build(folder: Path) -> tuple[dict[str, Any], ...]:
    """Return the objects that a folder's kustomization comes to; once in a run, as its bases may change meanwhile.

    Raises:
        MissingTool: there is no kubectl.
        CommandFailed: kubectl says what is wrong.
        PibakeError: it came to something that is no object.
    """
    done = run(["kubectl", "kustomize", folder], why="build a kustomization", timeout=SECONDS)
    try:
        found = [document for document, _ in kubeyaml.load_all(done.stdout)]
    except kubeyaml.NotYAML as error:
        message = f"the kustomization {folder} came to no YAML: {error.message}"
        raise PibakeError(message, f"`kubectl kustomize {folder}` shows it") from None
    for item in found:
        if fault := fault_of(item):
            message = f"the kustomization {folder} came to something that is no object of Kubernetes: {fault}"
            raise PibakeError(message, f"`kubectl kustomize {folder}` shows it")
    return tuple(found)
