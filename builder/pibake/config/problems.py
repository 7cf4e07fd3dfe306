"""Problems of a cluster.yaml, and how a person sees them.

cluster.yaml:14:14: 10.0.0.300/24 is not an IPv4 or IPv6 address with a prefix
   14 |     address: 10.0.0.300/24
      |              ^^^^^^^^^^^^^
   hint: write it like 192.168.10.13/24
"""

from __future__ import annotations

import difflib
import json
import os
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Loc = tuple[str | int, ...]
"""The path of a value: keys and list positions from the top of the file."""

EXCERPT = 100
"""Columns of a line that are shown; an RSA key on one line is eight times as long."""
MASK = "***"


class Bad(ValueError):
    """A value that cannot be what it should be: a sentence, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Span(NamedTuple):
    """Where a value stands: lines and columns count from 0; the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        loc: the value (or, with `on_key`, the key) it is about.
        message: what is wrong, a sentence without its full stop.
        hint: what to write instead.
        on_key: point at the key, not at its value.
        first: the value that this one collides with.
        span: the place itself, where `loc` cannot say it (the second of two equal keys).
    """

    loc: Loc
    message: str
    hint: str = ""
    on_key: bool = False
    first: Loc | None = None
    span: Span | None = None


def display(path: Path) -> str:
    """Return a path as short as it can be from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def show(text: str) -> str:
    """Return a value as it is named in a sentence: bare where that is clear, else quoted and cut short."""
    if re.fullmatch(r"[\w.:/@+%-]{1,80}", text):
        return text
    return json.dumps(text if len(text) <= 60 else f"{text[:57]}...", ensure_ascii=False)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the hint `did you mean ...?` for the likeliest of the known words, or nothing."""
    found = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""


def listing(words: Iterable[str]) -> str:
    """Return words as a person lists them."""
    return ", ".join(words) or "none"


def flow(example: Any) -> str:
    """Return an example as one line of YAML."""
    match example:
        case None:
            return "..."
        case bool():
            return str(example).lower()
        case list() | tuple():
            return f"[{', '.join(flow(item) for item in example)}]"
        case dict():
            return f"{{{', '.join(f'{key}: {flow(item)}' for key, item in example.items())}}}"
        case _:
            return str(example)


def render(
    where: str, lines: Sequence[str], span: Span, problem: str, *, hint: str, secrets: Sequence[Span]
) -> str:
    """Return one problem with its place, its line and a caret below the value."""
    head = f"{where}:{span.line + 1}:{span.column + 1}: {problem}"
    parts = [head]
    if span.line < len(lines) and lines[span.line].strip():
        line = lines[span.line]
        end = span.end_column if span.end_line == span.line else len(line)
        text, start, stop = _cut(*_masked(line, span.line, span.column, end, secrets))
        parts.append(f"{span.line + 1:>5} | {text.rstrip()}")
        width = max(_width(text[start:stop].rstrip()), 1)
        parts.append(f"{'':>5} | {' ' * _width(text[:start])}{'^' * width}")
    if hint:
        parts.append(f"   hint: {hint}")
    return "\n".join(parts)


def _masked(line: str, number: int, start: int, end: int, secrets: Sequence[Span]) -> tuple[str, int, int]:
    """Replace the parts of a line that hold a secret, and move the caret along with the text."""
    for secret in sorted(secrets, reverse=True):
        if not secret.line <= number <= secret.end_line:
            continue
        left = secret.column if number == secret.line else 0
        right = min(secret.end_column, len(line)) if number == secret.end_line else len(line)
        if left >= right:
            continue
        line = line[:left] + MASK + line[right:]
        start, end = (_moved(column, left, right) for column in (start, end))
    return line, start, max(end, start)


def _moved(column: int, left: int, right: int) -> int:
    """Return where a column is after `left:right` became the mask."""
    if column >= right:
        return column - (right - left) + len(MASK)
    return min(column, left + len(MASK))


def _cut(line: str, start: int, end: int) -> tuple[str, int, int]:
    """Make a line printable and short, keeping the caret's start in view."""
    clean = "".join(c if c.isprintable() else " " if c == "\t" else "\ufffd" for c in line)
    if len(clean) <= EXCERPT:
        return clean, start, end
    left = max(0, min(start - EXCERPT // 3, len(clean) - EXCERPT))
    shown = clean[left : left + EXCERPT]
    if left:
        shown = "…" + shown[1:]
    if left + EXCERPT < len(clean):
        shown = shown[:-1] + "…"
    return shown, start - left, min(end - left, EXCERPT)


def _width(text: str) -> int:
    """Return the columns a text takes on a terminal: East Asian wide letters take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
