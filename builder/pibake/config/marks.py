"""A YAML file as plain text values that know where they stand.

Nothing is constructed: `no`, `010` and `12:34` stay as they were typed. What YAML allows and a cluster.yaml does
not (a key twice, a tag, a merge key, a loop) is a problem with a place, never dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pibake.config import nodes, syntax
from pibake.config.problems import Loc, Problem, Span, render, show
from pibake.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.config.nodes import Node

MAX_BYTES = 4 * 1024 * 1024
MAX_VALUES = 400_000
"""Values a file may stand for once its aliases are followed; 10,000 nodes stay below it."""

NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
"""How YAML's core schema writes a value that is not there."""
SECRET_KEY = re.compile(r"pas+w|pwd|passphrase|psk|shared|\bkey$|secret|token|private", re.IGNORECASE)
SECRET_VALUE = re.compile(r"PRIVATE KEY|://[^/\s]*@")


@dataclass
class Document:
    """A file's values: mappings, lists, text, and None where a key has no value."""

    where: str
    lines: list[str]
    root: Node
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    secrets: list[Span] = field(default_factory=list)

    def span(self, loc: Loc, *, on_key: bool = False) -> Span:
        """Return where the value at `loc` stands, or the nearest value around it."""
        node, key = self.root, self.root
        for part in loc:
            if node.kind == "mapping":
                key, node = next(((k, v) for k, v in node.pairs() if k.text == part), (key, node))
            elif node.kind == "list" and isinstance(part, int):
                node = key = node.items[part]
        return _span(key if on_key else node)

    def render(self, problems: Iterable[Problem]) -> list[str]:
        """Return the problems as text, in the order of their places.

        What an alias repeats is told once, and what YAML itself forbids at a place silences the rest there.
        """
        placed = [(p.span or self.span(p.loc, on_key=p.on_key), p) for p in problems]
        told = {problem.span for _, problem in placed if problem.span}
        unique = {(span, p.message): p for span, p in placed if p.span or span not in told}
        texts = []
        for (span, message), problem in sorted(unique.items(), key=lambda item: item[0]):
            text = message
            if problem.first is not None:
                text += f" (first on line {self.span(problem.first).line + 1})"
            texts.append(render(self.where, self.lines, span, text, hint=problem.hint, secrets=self.secrets))
        return texts


def parse(raw: bytes, where: str) -> Document:
    """Read the bytes of one YAML file; what is not even YAML raises at once."""
    text = syntax.decode(raw, where, limit=MAX_BYTES)
    lines = text.splitlines() or [""]
    try:
        root = nodes.compose(text)
    except nodes.NotYAML as error:
        raise ConfigError([syntax.explain(error, where, lines)]) from None
    if root is None:
        raise ConfigError([f"{where}: the file is empty\n   hint: `pibake init` writes one to start from"])
    document = Document(where, lines, root)
    document.data = _Walk(document).value(root).value
    return document


class _Seen(NamedTuple):
    """A node's value, how many values it stands for, and how deep it goes: aliases count every time."""

    value: Any
    size: int
    depth: int


class _Walk:
    """Turns nodes into values, once each, however many aliases point at them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.done: dict[int, _Seen] = {}
        self.open: set[int] = set()

    def value(self, node: Node) -> _Seen:
        if node.kind == "text":
            return self.text(node)
        known = self.done.get(id(node))
        if known is not None:
            return known
        if id(node) in self.open:
            raise self.fatal(node, "this value holds itself, by an alias")
        self.open.add(id(node))
        self.tag(node)
        value, inside = self.mapping(node) if node.kind == "mapping" else self.items(node)
        self.open.remove(id(node))
        seen = _Seen(value, 1 + sum(s.size for s in inside), 1 + max((s.depth for s in inside), default=0))
        if seen.size > MAX_VALUES:
            raise self.fatal(
                node, f"with its aliases followed, this stands for more than {MAX_VALUES:,} values"
            )
        if seen.depth > nodes.MAX_DEPTH:
            raise self.fatal(node, "with its aliases followed, this is nested too deep")
        return self.done.setdefault(id(node), seen)

    def text(self, node: Node) -> _Seen:
        self.tag(node)
        if SECRET_VALUE.search(node.text):
            self.document.secrets.append(_span(node))
        nothing = node.plain and node.text in NOTHING and node.tag == nodes.TAGS["text"]
        return _Seen(None if nothing else node.text, 1, 0)

    def items(self, node: Node) -> tuple[list[Any], list[_Seen]]:
        inside = [self.value(item) for item in node.items]
        return [seen.value for seen in inside], inside

    def mapping(self, node: Node) -> tuple[dict[str, Any], list[_Seen]]:
        first: dict[str, Node] = {}
        values: dict[str, Any] = {}
        inside: list[_Seen] = []
        for key, item in node.pairs():
            if key.kind != "text":
                hint = 'put quotes around text that starts with "{" or "["'
                self.problem(key, "a key is plain text, not a mapping or a list", hint)
                continue
            if SECRET_KEY.search(key.text):
                self.document.secrets.append(_span(item))
            inside.append(self.value(item))
            if key.text == "<<" and key.plain:
                self.problem(
                    key, "merge keys are not supported", "what all nodes share goes under `defaults`"
                )
            elif key.text in first:
                line = first[key.text].start.line + 1
                self.problem(
                    key, f"`{key.text}` stands here twice (first on line {line})", "remove one of them"
                )
            else:
                first[key.text] = key
                values[key.text] = inside[-1].value
        return values, inside

    def tag(self, node: Node) -> None:
        if node.tag != nodes.TAGS[node.kind]:
            hint = "remove it; every value is taken as it is typed"
            self.problem(node, f"the tag {show(node.tag)} has no meaning here", hint)

    def problem(self, node: Node, message: str, hint: str = "") -> None:
        self.document.problems.append(Problem((), message, hint, span=_span(node)))

    def fatal(self, node: Node, message: str) -> ConfigError:
        self.problem(node, message)
        return ConfigError(self.document.render(self.document.problems))


def _span(node: Node) -> Span:
    return Span(node.start.line, node.start.column, node.end.line, node.end.column)
