"""A cloud-init YAML file as values that know their line.

Nothing is constructed: `pibake.config.nodes` composes with limits, and values stay text until somebody asks for a
flag or for bytes. Excerpts in errors never show a line that may hold a secret.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.config import nodes, syntax
from pibake.config.marks import NOTHING
from pibake.config.problems import Span, render
from pibake.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.config.nodes import Node

LARGEST = 1 << 20
MAX_VALUES = 10_000
"""Values a file may stand for once its aliases are followed."""

TRUE = frozenset({"true", "yes", "on", "y", "1"})
"""How YAML 1.1, which cloud-init reads, and people write true."""

SECRET = re.compile(r"(?i)psk|pass|pas*wd|secret|token|private|\$\w+\$|://[^/\s]*@")
EXCERPT = re.compile(r"^( *\d+ \| )(.*)\n *\|.*$", re.MULTILINE)

OTHER_KINDS = (
    ("## template:", "a Jinja template, which cloud-init fills in at boot with what only the board knows",
     "write the values in place of {{ ... }}, and remove that line"),
    ("#include", "a list of addresses that cloud-init downloads its user-data from", "download them, and import what they hold"),
    ("#cloud-config-archive", "an archive of several parts", "import the part that starts with `#cloud-config`"),
    ("#cloud-config-jsonp", "a patch of other user-data", "import what it patches"),
    ("#cloud-boothook", "a script, and pibake runs none", "put it into an overlay, with a unit that starts it"),
    ("#part-handler", "a program for cloud-init, and pibake runs none", ""),
    ("#!", "a script, and pibake runs none", "put it into an overlay, with a unit that starts it"),
    ("content-type:", "a multipart message", "import the part that starts with `#cloud-config`"),
    ("mime-version:", "a multipart message", "import the part that starts with `#cloud-config`"),
)  # fmt: skip
"""How user-data of other kinds starts (cloud-init documentation, "User-data formats"): what it is, and what to do."""


@dataclass(frozen=True)
class Value:
    """A value of a file; `place` is `FILE:LINE`."""

    file: str
    node: Node
    key: Node | None = None

    @property
    def line(self) -> int:
        """Return the line of the key, or of the value where it has none; from 1."""
        return int((self.key or self.node).start.line) + 1

    @property
    def place(self) -> str:
        """Return where it stands."""
        return f"{self.file}:{self.line}"

    @property
    def nothing(self) -> bool:
        """Tell whether there is no value."""
        return self.node.kind == "text" and self.node.plain and self.node.text in NOTHING

    @property
    def text(self) -> str:
        """Return a single value as it was typed; empty if there is none, or a list or mapping."""
        return "" if self.nothing else self.node.text

    @property
    def kind(self) -> str:
        """Return text, list or mapping."""
        return self.node.kind

    @property
    def flag(self) -> bool:
        """Tell whether the value says yes."""
        return self.text.lower() in TRUE

    @property
    def data(self) -> bytes:
        """Return the bytes a text stands for; `ValueError` if it is no base64 where it claims to be."""
        if self.node.tag == "tag:yaml.org,2002:binary":
            return base64.b64decode(self.node.text)
        return self.text.encode()

    @property
    def items(self) -> list[Value]:
        """Return the items of a list; a single value is a list of one."""
        if self.node.kind == "list":
            return [Value(self.file, item) for item in self.node.items]
        return [] if self.nothing else [self]

    @property
    def pairs(self) -> dict[str, Value]:
        """Return what a mapping holds, merge keys (`<<`) followed, which never win over the mapping's own."""
        found: dict[str, Value] = {}
        queue, seen = [self.node], set()
        while queue:
            node = queue.pop(0)
            if node.kind == "list":
                queue.extend(node.items)
            if node.kind != "mapping" or id(node) in seen:
                continue
            seen.add(id(node))
            for key, item in node.pairs():
                if key.text == "<<" and key.plain:
                    queue.append(item)
                else:
                    found.setdefault(key.text, Value(self.file, item, key))
        return found if self.node.kind == "mapping" else {}

    def get(self, *names: str) -> Value | None:
        """Return the first of these keys that has a value; hyphens and underscores are one, as to cloud-init."""
        pairs = {key.replace("-", "_"): item for key, item in self.pairs.items()}
        return next((pairs[name] for name in names if name in pairs and not pairs[name].nothing), None)


def cloud_config(raw: bytes, file: str) -> Value | None:
    """Return the mapping of a user-data file, or None if it holds nothing but comments.

    Raises:
        ConfigError: it is user-data of another kind, or nothing that cloud-init would read, or no YAML.
    """
    start = raw[:4096].lstrip().decode("utf-8", "replace")
    for prefix, what, hint in OTHER_KINDS:
        if start.lower().startswith(prefix):
            raise _error(file, f"this is {what}", hint)
    if raw.startswith(b"\x1f\x8b"):
        raise _error(file, "this is compressed with gzip", f"`gunzip -c {file}` unpacks it")
    if start.startswith("\ufeff"):
        raise _error(file, "a byte order mark stands before the first line, so that cloud-init ignores the whole file",
                     "save it as UTF-8 without one")  # fmt: skip
    if not start.lower().startswith("#cloud-config"):
        raise _error(
            file,
            "the first line is not `#cloud-config`, and cloud-init silently ignores a file without it",
            _no_header(start),
        )
    return parse(raw, file)


def _no_header(start: str) -> str:
    if re.match(r"#\s+cloud-config", start):
        return "write it without the space"
    if re.search(r"^wifi:\s*$", start, re.MULTILINE):
        return "this looks like the device-init.yaml of HypriotOS before 1.7, which had no cloud-init"
    return "add it, above everything else, if this is the right file"


def parse(raw: bytes, file: str) -> Value | None:
    """Return the mapping of a YAML file, or None if it holds nothing.

    Raises:
        ConfigError: it is no YAML, no mapping, or a key stands twice in a mapping.
    """
    try:
        text = syntax.decode(raw, file, limit=LARGEST)
        root = nodes.compose(text)
    except nodes.NotYAML as error:
        raise ConfigError([masked(_explained(error, file, text.splitlines() or [""]))]) from None
    except ConfigError as error:
        raise ConfigError([masked(problem) for problem in error.problems]) from None
    if root is None or Value(file, root).nothing:
        return None
    problems = list(_faults(root, file, text.splitlines()))
    if problems:
        raise ConfigError(problems)
    return Value(file, root)


def _explained(error: nodes.NotYAML, file: str, lines: list[str]) -> str:
    line = (error.place or (0, 0))[0] + 1
    if error.said == "another document":
        return f"{file}:{line}: a second document starts here\n   hint: cloud-init reads one: remove the `---` between"
    if error.said == "too deep":
        return f"{file}:{line}: the values are nested too deep"
    return syntax.explain(error, file, lines)


def masked(problem: str) -> str:
    """Return a rendered problem without an excerpt that may show a secret."""
    return EXCERPT.sub(
        lambda found: f"{found[1]}*** (not shown: it may hold a secret)" if SECRET.search(found[2]) else found[0],
        problem,
    )  # fmt: skip


def _faults(root: Node, file: str, lines: list[str]) -> Iterator[str]:
    """Yield what YAML allows and nobody means; each node once, however many aliases point at it."""
    if root.kind != "mapping":
        yield f"{file}:{root.start.line + 1}: this is no mapping of keys to values"
        return
    queue, seen, count = [root], {id(root)}, 0
    while queue:
        node = queue.pop()
        if node.kind == "mapping":
            yield from _bad_keys(node, file, lines)
        count += len(node.items)
        fresh = {id(child): child for child in node.items if id(child) not in seen}
        seen.update(fresh)
        queue.extend(fresh.values())
    if count > MAX_VALUES:
        yield f"{file}: the file holds more than {MAX_VALUES:,} values"


def _bad_keys(node: Node, file: str, lines: list[str]) -> Iterator[str]:
    first: dict[str, int] = {}
    for key in node.items[::2]:
        span = Span(key.start.line, key.start.column, key.end.line, key.end.column)
        if key.kind != "text":
            said = "a key is plain text, not a mapping or a list"
            hint = "put quotes around text that starts with { or ["
            yield masked(render(file, lines, span, said, hint=hint, secrets=()))
        elif key.text in first:
            said = f"`{key.text}` stands here twice (first on line {first[key.text]}), and cloud-init drops the first"
            yield masked(render(file, lines, span, said, hint="make one of them", secrets=()))
        first.setdefault(key.text, key.start.line + 1)


def _error(file: str, what: str, hint: str) -> ConfigError:
    return ConfigError([f"{file}:1: {what}" + (f"\n   hint: {hint}" if hint else "")])
