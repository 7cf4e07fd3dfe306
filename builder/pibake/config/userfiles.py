"""The YAML files of the user's that add-ons name: values of charts, and manifests.

What is wrong inside them is told with their own lines, as text that is ready to be shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake import kubeyaml
from pibake.config.problems import Bad, Span, display, render

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
SUFFIXES = (".yaml", ".yml", ".json")


class Wrong(Exception):
    """What is wrong inside a file, with its place, ready to be shown."""


def text(path: Path) -> str:
    """Return a file's text.

    Raises:
        Bad: it cannot be read, or is no text.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Bad("it is too big", "16 MiB is the most")
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, Bad):
            raise
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Bad((reason or str(error)).lower(), "name a text file you can read") from None


def mapping(path: Path) -> dict[str, Any]:
    """Return the one mapping in a file, such as a chart's values.

    Raises:
        Bad: it cannot be read.
        Wrong: it is no YAML, or no mapping.
    """
    written = text(path)
    documents = _documents(path, written)
    if not documents:
        return {}
    if len(documents) > 1:
        raise _wrong(
            path, written, documents[1][1], "a second document begins here", "one mapping is expected"
        )
    found, line = documents[0]
    if not isinstance(found, dict):
        raise _wrong(path, written, line, "this is not a mapping", "values are written as `key: value`")
    return found


def manifests(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the Kubernetes objects in a file, with the items of lists one by one.

    Raises:
        Bad: it cannot be read.
        Wrong: it is no YAML, or holds something that is no object.
    """
    written = text(path)
    found: list[dict[str, Any]] = []
    for document, line in _documents(path, written):
        for _, item in items(document):
            if fault := fault_of(item):
                hint = "each needs apiVersion, kind and metadata.name"
                raise _wrong(path, written, line, f"this is no object of Kubernetes: {fault}", hint)
            found.append(item)
    return tuple(found)


def fault_of(item: Any) -> str:
    """Return why something is no Kubernetes object; "" if it is one."""
    if not isinstance(item, dict):
        return "it is not a mapping"
    for key in ("apiVersion", "kind"):
        if not isinstance(item.get(key), str) or not item[key]:
            return f"`{key}` is missing"
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return "`metadata.name` is missing"
    return ""


def items(document: Any) -> list[tuple[tuple[str | int, ...], Any]]:
    """Return what a document holds, each with its path in there: a List, or a ConfigMapList, is taken apart as kubectl does."""
    listed = isinstance(document, dict) and str(document.get("kind", "")).endswith("List")
    if listed and isinstance(document.get("items"), list):
        return [(("items", number), found) for number, found in enumerate(document["items"])]
    return [((), document)]


def _documents(path: Path, written: str) -> list[tuple[Any, int]]:
    try:
        return kubeyaml.load_all(written)
    except kubeyaml.NotYAML as error:
        raise _wrong(path, written, error.line, error.message, "") from None


def _wrong(path: Path, written: str, line: int, message: str, hint: str) -> Wrong:
    lines = written.splitlines()
    # only the place and the reason: what stands there may be a Secret
    return Wrong(
        render(
            display(path),
            [],
            Span(min(line, max(len(lines) - 1, 0)), 0, line, 0),
            message,
            hint=hint,
            secrets=(),
        )
    )
