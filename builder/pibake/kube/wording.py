"""The words in which mistakes in Kubernetes objects are told; a value may be secret, and is never repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake.config.problems import listing, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
TYPES = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}


def sentence(rule: str, wanted: Any, schema: Any, value: Any) -> tuple[str, str]:
    """Return what is wrong with a value, and what is allowed.

    Args:
        rule: the keyword of JSON Schema that it breaks.
        wanted: what the keyword says.
        schema: the schema that the keyword stands in.
        value: what it is.
    """
    match rule:
        case "type":
            return f"is {kind(value)}, and has to be {_types([schema])}", ""
        case "anyOf" | "oneOf":
            return f"is {kind(value)}, and has to be {_types(wanted)}", ""
        case "enum" | "const":
            allowed = wanted if isinstance(wanted, list) else [wanted]
            return "is none of the words that are allowed", listing(str(word) for word in allowed)
        case "format":
            return "is not in base64", "plain text goes into `stringData`"
        case "pattern":
            return f"does not match {wanted}", ""
        case _:
            return f"breaks the rule `{rule}: {wanted}`", ""


def field(word: str, allowed: Iterable[str]) -> str:
    """Return what a field that is not there may have meant, and else the fields that are there."""
    words = sorted(allowed)
    if meant := close(word, words):
        return f"did you mean `{meant}`?"
    return f"there are {listing(words)}" if words else "there are none here"


def close(word: str, known: Iterable[str]) -> str:
    """Return the likeliest of the known words, or ""; capital letters make no difference."""
    small = {key.lower(): key for key in known}
    hint = nearest(word, small)
    return small[hint.split("`")[1]] if hint else ""


def kind(value: Any) -> str:
    """Return what a JSON value is, in a word or two."""
    return "empty" if value is None else WORDS.get(TYPES.get(type(value), ""), f"a {type(value).__name__}")


def _types(branches: Sequence[Mapping[str, Any]]) -> str:
    said: dict[str, None] = {}
    for branch in branches:
        types = branch.get("type", ())
        for name in [types] if isinstance(types, str) else types:
            if name != "null":
                said[WORDS[name]] = None
    return " or ".join(said) or "something else"
