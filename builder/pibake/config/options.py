"""Options of add-ons: from text as it was typed to the values that a catalogue entry's schema says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pibake.config import values
from pibake.config.formats import FORMATS
from pibake.config.problems import Bad, Loc, Problem, flow, listing, nearest, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.offers import Option


class Reader:
    """Reads options; `problems` is what was wrong with them."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def mapping(
        self, options: dict[str, Option], required: tuple[str, ...], raw: dict[str, Any], loc: Loc, whose: str
    ) -> dict[str, Any]:
        """Return the values of some options, each typed; what is not written is its default, or None."""
        for key in raw:
            if key not in options:
                hint = nearest(key, options) or f"its options are {listing(options)}"
                message = f"`{key}` is not an option of {whose}"
                self.problems.append(Problem((*loc, key), message, hint, on_key=True))
        for key in required:
            if key not in raw:
                hint = f"add `{key}: {flow(_example(options[key]))}`"
                message = f"`{key}` is missing from {whose}"
                self.problems.append(Problem(loc, message, hint, on_key=True))
        return {
            key: default(option) if raw.get(key) is None else self.value(option, raw[key], (*loc, key))
            for key, option in options.items()
        }

    def value(self, option: Option, raw: Any, loc: Loc) -> Any:
        """Return one value, typed; None where it is none of its kind."""
        kind: type[Any] = {"array": list, "object": dict}.get(option.type, str)
        if not isinstance(raw, kind):
            self.problems.append(_shape(option, raw, loc))
            return None
        if isinstance(raw, list):
            return self._list(option, raw, loc)
        if isinstance(raw, dict):
            return self._object(option, raw, loc)
        try:
            return scalar(option, raw)
        except Bad as bad:
            self.problems.append(Problem(loc, bad.message, bad.hint))
            return None

    def _list(self, option: Option, raw: list[Any], loc: Loc) -> list[Any]:
        if len(raw) < option.min_items:
            message = f"`{loc[-1]}` is empty" if not raw else f"`{loc[-1]}` has too few items"
            hint = f"write `{loc[-1]}: {flow(_example(option))}`"
            self.problems.append(Problem(loc, message, hint, on_key=True))
        if option.items is None:
            return raw
        return [
            self.value(option.items, item, (*loc, index))
            for index, item in enumerate(raw)
            if item is not None
        ]

    def _object(self, option: Option, raw: dict[str, Any], loc: Loc) -> dict[str, Any]:
        if option.properties is not None:
            whose = f"`{loc[-1]}`" if isinstance(loc[-1], str) else f"an item of `{loc[-2]}`"
            return self.mapping(option.properties, option.required, raw, loc, whose)
        if option.additional is None:
            return raw
        inner = option.additional
        return {key: self.value(inner, item, (*loc, key)) for key, item in raw.items() if item is not None}


def scalar(option: Option, raw: str) -> Any:
    """Return a single value as its option types it.

    Raises:
        Bad: it is none of its kind.
    """
    if option.enum is not None and raw not in map(_typed_as, option.enum):
        words = [_typed_as(word) for word in option.enum]
        raise Bad(
            f"{show(raw)} is none of what may stand here",
            nearest(raw, words) or f"it is one of {listing(words)}",
        )
    match option.type:
        case "boolean":
            return values.boolean(raw)
        case "integer":
            return _bounded(option, _integer(raw))
        case "number":
            return _bounded(option, _number(raw))
    if option.pattern and not re.search(option.pattern, raw):
        like = (
            f"write it like {flow(option.examples[0])}"
            if option.examples
            else f"it must match {option.pattern}"
        )
        raise Bad(f"{show(raw)} cannot stand here", like)
    return FORMATS[option.format](raw) if option.format else raw


def default(option: Option) -> Any:
    """Return what an option is that nobody wrote: its default, that of its properties, or None."""
    if option.default is None and option.properties is not None and not option.required:
        return {key: default(inner) for key, inner in option.properties.items()}
    return option.default


def walk(option: Option, raw: Any, loc: Loc) -> Iterator[tuple[Option, str, Loc]]:
    """Yield every single value below an option as it was typed, with the schema it is of and its place."""
    if isinstance(raw, str):
        yield option, raw, loc
    elif isinstance(raw, list) and option.items is not None:
        for index, item in enumerate(raw):
            yield from walk(option.items, item, (*loc, index))
    elif isinstance(raw, dict):
        for key, item in raw.items():
            inner = (option.properties or {}).get(key) or option.additional
            if inner is not None:
                yield from walk(inner, item, (*loc, key))


def _example(option: Option) -> Any:
    return option.examples[0] if option.examples else option.default


def _typed_as(word: Any) -> str:
    return str(word).lower() if isinstance(word, bool) else str(word)


def _integer(raw: str) -> int:
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", raw):
        raise Bad(f"{show(raw)} is not a whole number", "write it like 3")
    return int(raw)


def _number(raw: str) -> float:
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?", raw):
        raise Bad(f"{show(raw)} is not a number", "write it like 0.5")
    return float(raw)


def _bounded(option: Option, found: float) -> float:
    if option.minimum is not None and found < option.minimum:
        raise Bad(f"{found:g} is too small", f"{option.minimum} is the least")
    if option.maximum is not None and found > option.maximum:
        raise Bad(f"{found:g} is too large", f"{option.maximum} is the most")
    return found


def _shape(option: Option, raw: Any, loc: Loc) -> Problem:
    kinds = {"array": "a list", "object": "a mapping of keys to values"}
    got = "a mapping" if isinstance(raw, dict) else "a list" if isinstance(raw, list) else "a single value"
    subject = f"`{loc[-1]}`" if isinstance(loc[-1], str) else f"an item of `{loc[-2]}`"
    example = _example(option)
    hint = f"write `{loc[-1]}: {flow(example)}`" if example is not None and isinstance(loc[-1], str) else ""
    return Problem(loc, f"{subject} is {kinds.get(option.type, 'a single value')}, not {got}", hint)
