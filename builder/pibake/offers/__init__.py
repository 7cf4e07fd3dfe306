"""The add-ons that have a name: the catalogue `addons/*.yaml`, one entry a file, as values."""

from __future__ import annotations

import difflib
import functools
import json
from typing import TYPE_CHECKING, Any

from pibake import kubeyaml, resources
from pibake.errors import PibakeError
from pibake.offers.model import GROUPS, Chart, Entry, K3s, Needs, Option, Remote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "FOLDER",
    "GROUPS",
    "Chart",
    "Entry",
    "K3s",
    "Needs",
    "Option",
    "Remote",
    "catalogue",
    "entry",
    "names",
    "parse",
]

FOLDER = "addons"


@functools.cache
def catalogue() -> Mapping[str, Entry]:
    """Return all entries by their names, group by group."""
    found = read(resources.path(FOLDER))
    return dict(sorted(found.items(), key=lambda item: (GROUPS.index(item[1].group), item[0])))


def names() -> tuple[str, ...]:
    """Return the names of all add-ons, in the catalogue's order."""
    return tuple(catalogue())


def entry(name: str) -> Entry:
    """Return one entry by its name; an unknown one is an error that suggests what was meant."""
    if found := catalogue().get(name):
        return found
    close = difflib.get_close_matches(name, names(), n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise PibakeError(
        f"there is no add-on called {name!r}", f"{meant}the catalogue has: {', '.join(names())}"
    )


def read(folder: Path) -> dict[str, Entry]:
    """Return the entries of a folder; `crds/` in it holds none."""
    return {path.stem: parse(path.read_text("utf-8"), path.name) for path in sorted(folder.glob("*.yaml"))}


def parse(text: str, name: str) -> Entry:
    """Return the entry in a text; `name` is that of its file, for errors.

    Raises:
        ValueError: it is no YAML, or not in the form of `Entry`.
    """
    try:
        # read as JSON, a list may be a tuple, and nothing else may be anything else
        return Entry.model_validate_json(json.dumps(_one(text)))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _one(text: str) -> Any:
    documents = kubeyaml.load_all(text)
    if len(documents) != 1:
        raise ValueError("one document is expected")
    return documents[0][0]
