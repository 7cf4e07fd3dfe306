"""The node graph of a YAML text: PyYAML parses, this composes.

PyYAML's own composer recurses in C, where a file of 100,000 brackets overflows the stack and ends Python without
an error. This one has a stack of its own and a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""libyaml where PyYAML was built with it: ten times as fast."""
MAX_DEPTH = 20
Kind = Literal["text", "list", "mapping"]
TAGS: dict[Kind, str] = {
    "text": "tag:yaml.org,2002:str",
    "list": "tag:yaml.org,2002:seq",
    "mapping": "tag:yaml.org,2002:map",
}


class NotYAML(ValueError):
    """What the parser stumbled over, where it noticed (`line`, `column`), and where that began (`opened`)."""

    def __init__(self, said: str, mark: Any, opened: Any = None) -> None:
        super().__init__(said)
        self.said = said
        self.place = (mark.line, mark.column) if mark else None
        self.opened = (opened.line, opened.column) if opened else None


@dataclass(slots=True, eq=False)
class Node:
    """A value and its marks; `items` of a mapping are its keys and values in turn."""

    kind: Kind
    start: Any
    end: Any
    text: str
    items: list[Node]
    tag: str = ""
    plain: bool = False

    def pairs(self) -> Iterator[tuple[Node, Node]]:
        """Yield the keys and values of a mapping."""
        return zip(self.items[::2], self.items[1::2], strict=True)


def compose(text: str, loader: Any = LOADER) -> Node | None:
    """Return the root of the one document in a text, or None where there is no document.

    Raises:
        NotYAML: the text is no YAML, holds two documents, or nests too deep.
    """
    anchors: dict[str, Node] = {}
    top = Node("list", None, None, "", [])
    stack = [top]
    try:
        for event in yaml.parse(text, loader):
            match event:
                case yaml.NodeEvent():
                    _add(event, stack, anchors)
                case yaml.CollectionEndEvent():
                    stack.pop().end = event.end_mark
                case yaml.DocumentStartEvent() if top.items:
                    raise NotYAML("another document", event.start_mark)
    except yaml.MarkedYAMLError as error:
        raise NotYAML(str(error.problem or error), error.problem_mark, error.context_mark) from None
    except yaml.YAMLError as error:
        raise NotYAML(str(error), None) from None
    return top.items[0] if top.items else None


def _add(event: yaml.NodeEvent, stack: list[Node], anchors: dict[str, Node]) -> None:
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in anchors:
            raise NotYAML("undefined alias", event.start_mark)
        stack[-1].items.append(anchors[event.anchor])
        return
    node = _node(event)
    stack[-1].items.append(node)
    if event.anchor:
        anchors[event.anchor] = node
    if node.kind != "text":
        stack.append(node)
        if len(stack) > MAX_DEPTH:
            raise NotYAML("too deep", event.start_mark)


def _node(event: Any) -> Node:
    if isinstance(event, yaml.ScalarEvent):
        plain = not event.style
        tag = event.tag if event.tag not in {None, "!"} else TAGS["text"]
        return Node("text", event.start_mark, event.end_mark, event.value, [], tag, plain)
    kind: Kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
    return Node(kind, event.start_mark, event.end_mark, "", [], event.tag or TAGS[kind])
