"""What an overlay holds: the files, templates and links of its folder, with the modes and owners of its manifest.

    overlays/web/etc/web.conf            the same on every node
    overlays/web/etc/web-site.conf.j2    a Jinja template, rendered for each node
    overlays/web.yaml                    the manifest: `PATH: {mode: "0640", owner: root:www-data}`

docs/overlays.md is the reference.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from pibake import template
from pibake.config.problems import Bad, Problem, Span, display, listing, nearest, render, show
from pibake.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pibake.config.marks import Document

TEMPLATE = ".j2"
VARIABLES = {
    "hostname": "The node's short name.",
    "fqdn": "Its full name.",
    "address": "Its address, without the prefix.",
    "prefix": "The length of the prefix, a number.",
    "address6": "Its second address, without the prefix; empty if it has none.",
    "mac": "Its MAC address; empty if it is not known.",
    "role": "server or agent.",
    "board": "Which Raspberry Pi it is.",
    "labels": "Its labels, a mapping.",
    "locale": "Its locale.",
    "timezone": "Its time zone.",
    "gateway": "The router; empty if there is none.",
    "nameservers": "The name servers, a list.",
    "cluster": "The cluster's name.",
    "domain": "The cluster's domain.",
    "nodes": "All nodes of the cluster, in their order; each has `hostname`, `fqdn`, `address`, `address6`, `role`, `board` and `labels`.",
    "kubernetes": "`distribution`, `version` and `endpoint` (the API server's URL); all empty on a plain machine.",
}
"""What a template may name, and what it is."""
KEYS = ("mode", "owner")
NAME = r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}"


class Kind(Enum):
    """What an item of an overlay is."""

    FILE = "file"
    TEMPLATE = "template"
    LINK = "link"
    FOLDER = "folder"


@dataclass(frozen=True)
class Item:
    """One thing in an overlay.

    Attributes:
        path: where on the node, without leading slash; a template's without `.j2`.
        source: where it is on this host.
        kind: what it is.
        mode: permission bits; those of a link mean nothing.
        owner: user and group, by name or number.
        place: the line of the manifest that gives the owner, as `FILE:LINE:COLUMN`.
        claimed: the manifest names it; folders that it does not name are made as they are needed.
    """

    path: str
    source: Path
    kind: Kind
    mode: int
    owner: str = "root:root"
    place: str = ""
    claimed: bool = False

    def fault(self, message: str, line: int, hint: str = "") -> ConfigError:
        """Return the error for a line (from 0) of a template."""
        lines = self.source.read_text("utf-8").splitlines()
        text = lines[line] if line < len(lines) else ""
        span = Span(line, len(text) - len(text.lstrip()), line, len(text))
        return ConfigError([render(display(self.source), lines, span, message, hint=hint, secrets=())])


def read(folder: Path) -> tuple[Item, ...]:
    """Return what an overlay holds, in the order of paths.

    Raises:
        ConfigError: with everything that is wrong with its manifest, its templates and its files.
    """
    faults: list[str] = []
    items: dict[str, Item] = {}
    for path in sorted(folder.rglob("*")):
        item = _item(folder, path)
        if item is None:
            faults.append(
                f"{display(path)}: this is neither a file, a folder nor a symbolic link\n   hint: remove it"
            )
        elif item.path in items:
            faults.append(
                f"{display(path)}: {display(items[item.path].source)} makes the same file\n   hint: keep one of them"
            )
        else:
            items[item.path] = item
            faults += _template_faults(item)
    manifest = folder.with_name(f"{folder.name}.yaml")
    if manifest.is_file():
        faults += _apply(manifest, items)
    if faults:
        raise ConfigError(faults)
    return tuple(items.values())


def _item(folder: Path, path: Path) -> Item | None:
    where = path.relative_to(folder).as_posix()
    if path.is_symlink():
        return Item(where, path, Kind.LINK, 0o777)
    if path.is_dir():
        return Item(where, path, Kind.FOLDER, 0o755)
    if not path.is_file():
        return None
    # git keeps no other bit of a mode
    mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    if path.suffix == TEMPLATE and path.stem:
        return Item(where.removesuffix(TEMPLATE), path, Kind.TEMPLATE, mode)
    return Item(where, path, Kind.FILE, mode)


def _template_faults(item: Item) -> Iterator[str]:
    """Yield what is wrong with a template whatever the node is."""
    if item.kind is not Kind.TEMPLATE:
        return
    try:
        text = item.source.read_text("utf-8")
    except UnicodeDecodeError:
        yield f"{display(item.source)}: this template is not UTF-8 text\n   hint: a file without {TEMPLATE} is taken as it is"
        return
    try:
        for name, line in template.names(text):
            if name not in VARIABLES:
                hint = nearest(name, VARIABLES) or f"a template can name {listing(VARIABLES)}"
                yield from item.fault(f"`{name}` is nothing that a template can name", line, hint).problems
    except template.Fault as fault:
        yield from item.fault(fault.message, fault.line, "docs/overlays.md shows what a template is").problems


def _apply(manifest: Path, items: dict[str, Item]) -> list[str]:
    """Give the items what the manifest says of them; return what is wrong with it."""
    from pibake.config import marks  # noqa: PLC0415 - yaml is slow to import, and most overlays have no manifest

    try:
        document = marks.parse(manifest.read_bytes(), display(manifest))
    except ConfigError as error:
        return list(error.problems)
    if not isinstance(document.data, dict):
        hint = 'write each line as `etc/secret: {mode: "0600"}`'
        return document.render([Problem((), "a manifest is a mapping of paths to modes and owners", hint)])
    problems = [*document.problems]
    for pattern, settings in document.data.items():
        problems += _rule(document, pattern, settings, items)
    return document.render(problems)


def _rule(document: Document, pattern: str, settings: Any, items: dict[str, Item]) -> Iterator[Problem]:
    found = [path for path in items if fnmatch.fnmatchcase(path, pattern.strip("/"))]
    if not found:
        hint = (
            nearest(pattern.strip("/"), items)
            or "write a path as it is on the node, or a pattern such as etc/web/*"
        )
        yield Problem((pattern,), f"the overlay holds no {show(pattern)}", hint, on_key=True)
    if not isinstance(settings, dict) or not settings:
        yield Problem((pattern,), "this is no mode and no owner", 'write `{mode: "0600", owner: root:root}`')
        return
    changes: dict[str, Any] = {"claimed": True}
    for key, value in settings.items():
        if key not in KEYS:
            yield Problem(
                (pattern, key),
                f"`{key}` is not a key of a manifest",
                nearest(key, KEYS) or "the keys are mode and owner",
                on_key=True,
            )
            continue
        try:
            changes[key] = _mode(value) if key == "mode" else _owner(value, [items[path] for path in found])
        except Bad as bad:
            yield Problem((pattern, key), bad.message, bad.hint)
    if "owner" in changes:
        span = document.span((pattern, "owner"))
        changes["place"] = f"{document.where}:{span.line + 1}:{span.column + 1}"
    for path in found:
        items[path] = replace(items[path], **changes)


def _mode(text: Any) -> int:
    if not isinstance(text, str) or not re.fullmatch("0?[0-7]{3,4}", text) or int(text, 8) > 0o7777:
        raise Bad(f"{show(str(text))} is not a mode", 'write it like "0640"')
    return int(text, 8)


def _owner(text: Any, items: Sequence[Item]) -> str:
    if not isinstance(text, str) or not re.fullmatch(f"({NAME}):({NAME})", text):
        alone = isinstance(text, str) and re.fullmatch(NAME, text)
        hint = f"write {text}:{text}" if alone else "write user and group, like root:www-data or 0:33"
        raise Bad(f"{show(str(text))} is not an owner", hint)
    if any(part.isdigit() for part in text.split(":")) and any(item.kind is Kind.TEMPLATE for item in items):
        raise Bad("a template's owner is given by name", "cloud-init, which writes it, knows no numbers here")
    return text
