"""What is said of a file that is not YAML at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.config.problems import Span, render
from pibake.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.config.nodes import NotYAML

UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything outside YAML 1.2's c-printable (section 5.1)."""
SECRET_LINE = re.compile(
    r"(?i)(?:(?:pas+w|pwd|passphrase|psk|shared|secret|token|private)[\w-]*|\bkey)[\"']?\s*:\s*()\S"
)

GLUED = re.compile(r"\s*(?:- +)*[\w-]+(:)[^\s/:]")
"""A key whose colon touches its value, which YAML takes for one long word."""
PUBLIC = "give the public half: the file ending in .pub"

MEANINGS = (
    (r"cannot start any token", "a value cannot start with this character", "put quotes around the value"),
    (r"mapping values are not allowed", "a second `:` on one line, or a line indented too deep", "put quotes around a value that holds `: `, or line the key up with its neighbours"),
    (r"block sequence entries are not allowed", "a list item cannot start here", "start the `-` on a line of its own, lined up with its neighbours"),
    (r"did not find expected '-' indicator", "this line is neither an item of the list above nor a key around it", "line it up with its neighbours"),
    (r"did not find expected key", "this line does not line up with the keys above it", "give it the same indentation, and close every quote before it"),
    (r"could not find expected ':'", "a key with no `:` after it", "write `key: value`, with a space after the colon"),
    (r"did not find expected ',' or '([]}])'", "this bracket is not closed", "add the closing `{0}`, or a `,` that is missing inside"),
    (r"unexpected end of stream", "this quote is never closed", "close it on the same line"),
    (r"undefined alias", "this alias has no anchor before it", "put quotes around text that starts with `*`"),
    (r"unknown escape character", "this is no escape YAML knows", "use 'single quotes' around text with backslashes"),
    (r"undefined tag handle", "text cannot start with `!`", "put quotes around it"),
    (r"another document", "a second document starts here", "a cluster.yaml is one document: keep one, without the `---` between"),
    (r"did not find expected <document start>", "this stands outside the mapping above", "line it up with the other keys, at the start of the line"),
    (r"too deep", "the values are nested too deep", "a cluster.yaml nests five deep at most"),
    (r"duplicate anchor", "this anchor is set twice", "give it another name"),
)  # fmt: skip
"""What libyaml says, what that means here, and what to do about it."""


def decode(raw: bytes, where: str, *, limit: int) -> str:
    """Return the text of a file, or say what keeps it from being text."""
    if len(raw) > limit:
        raise ConfigError([f"{where}: the file has {len(raw):,} bytes and {limit:,} is the most"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        raise ConfigError(
            [
                f"{where}:{line + 1}:{column + 1}: the file is not UTF-8 text\n   hint: save it as UTF-8 in your editor"
            ]
        ) from None
    stray = UNPRINTABLE.search(text)
    if stray:
        line, column = (
            text.count("\n", 0, stray.start()),
            stray.start() - text.rfind("\n", 0, stray.start()) - 1,
        )
        span = Span(line, column, line, column + 1)
        what = f"the character U+{ord(stray[0]):04X} cannot stand in YAML"
        raise ConfigError([_render(where, text.split("\n"), span, what, "remove it")])
    return text


def explain(error: NotYAML, where: str, lines: Sequence[str]) -> str:
    """Return one problem for what the YAML parser stumbled over."""
    said, place = error.said, error.place or (0, 0)
    # of a quote or bracket that is never closed, the parser notices the end; the cause is where it was opened
    if error.opened and ("end of stream" in said or "did not find expected ','" in said):
        place = error.opened
    line = min(place[0], len(lines) - 1)
    column = place[1] if place[0] == line else len(lines[line])
    if _in_private_key(lines, line):
        return _render(
            where, lines, Span(line, 0, line, 1), "this is a private key; it must stay where it is", PUBLIC
        )
    if tab := re.match(r" *(\t+)", lines[line]):
        span = Span(line, tab.start(1), line, tab.end(1))
        return _render(where, lines, span, "a tab cannot indent YAML", "use spaces")
    if "mapping values" in said and line and (glued := GLUED.match(lines[line - 1])):
        span = Span(line - 1, glued.start(1), line - 1, glued.end(1))
        return _render(where, lines, span, "a space is missing after the colon", "write `key: value`")
    message, hint = f"this is not YAML: {said}", ""
    for pattern, meaning, advice in MEANINGS:
        if found := re.search(pattern, said):
            message, hint = meaning, advice.format(*found.groups())
            break
    return _render(where, lines, Span(line, column, line, column + 1), message, hint)


def _render(where: str, lines: Sequence[str], span: Span, message: str, hint: str) -> str:
    return render(where, lines, span, message, hint=hint, secrets=_secrets(lines, span.line))


def _secrets(lines: Sequence[str], number: int) -> list[Span]:
    """Return the parts of one line that may be secret, going by the text: there are no nodes to ask."""
    line = lines[number]
    if _in_private_key(lines, number):
        return [Span(number, 0, number, len(line))]
    found = SECRET_LINE.search(line)
    return [Span(number, found.start(1), number, len(line))] if found else []


def _in_private_key(lines: Sequence[str], number: int) -> bool:
    inside = False
    for earlier in lines[:number]:
        inside = "-----BEGIN" in earlier or (inside and "-----END" not in earlier)
    return inside or "-----BEGIN" in lines[number] or "-----END" in lines[number]
