"""What a node is after its class and `defaults` have been laid under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.config.model import Common

if TYPE_CHECKING:
    from pibake.config.model import ClusterFile, Node


def resolved(file: ClusterFile) -> tuple[Node, ...]:
    """Return the nodes with every key that they, their class or `defaults` have.

    The nearest value counts, lists as a whole; labels are joined, and the nearest wins.
    """
    return tuple(_resolved(node, file) for node in file.nodes)


def _resolved(node: Node, file: ClusterFile) -> Node:
    of_class = [file.classes[node.class_]] if node.class_ else []
    layers: list[Common] = [file.defaults, *of_class, node]
    values: dict[str, Any] = {}
    for key in Common.model_fields:
        said = [found for layer in layers if (found := getattr(layer, key)) is not None]
        if key == "labels":
            values[key] = {name: text for labels in said for name, text in labels.items()}
        elif said:
            values[key] = said[-1]
    return node.model_copy(update=values)
