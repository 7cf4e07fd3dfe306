"""YAML as Kubernetes' own readers take it: values files of charts, and manifests.

They read with goyaml (sigs.k8s.io/yaml): of YAML 1.1 it knows `yes` and `0644`, but neither times of day nor dates,
and `1e3` is a number. A key that stands twice in a mapping is an error there, and here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 100
"""libyaml's composer recurses in C, and a file of 100,000 brackets would end Python without an error."""
_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotYAML(ValueError):
    """What is wrong with a text, and its line (from 0)."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message, self.line = message, line


class _Loader(_SAFE):  # type: ignore[misc]
    """Makes text, numbers, booleans, lists and mappings; every mapping's keys are text and stand once."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"),
    list("yYnNtTfFoO"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^(?:[-+]?0b[01]+|[-+]?0[0-7]+|[-+]?(?:0|[1-9][0-9]*)|[-+]?0x[0-9a-fA-F]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def _mapping(loader: Any, node: Any) -> dict[str, Any]:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise NotYAML("a key is plain text, not a mapping or a list", key.start_mark.line)
        if key.value in seen:
            raise NotYAML(f"`{key.value}` stands in one mapping twice", key.start_mark.line)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


def _float(loader: Any, node: Any) -> float:
    return float(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def load_all(text: str) -> list[tuple[Any, int]]:
    """Return the documents of a text that hold anything, each with the line (from 0) that it starts on.

    Raises:
        NotYAML: it is no YAML, or holds something that no reader of Kubernetes' takes.
    """
    try:
        _shallow(text)
        loader = _Loader(text)
        try:
            return list(_documents(loader))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise NotYAML(str(error.problem or error.context), mark.line if mark else 0) from None
    except NotYAML:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise NotYAML(str(error).partition("\n")[0], 0) from None


def _documents(loader: Any) -> Iterator[tuple[Any, int]]:
    while loader.check_node():
        node = loader.get_node()
        value = loader.construct_document(node)
        if value is not None:
            yield value, node.start_mark.line


def _shallow(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, _SAFE):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line if event.start_mark else 0
                raise NotYAML(f"values are nested deeper than {MAX_DEPTH} levels", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
