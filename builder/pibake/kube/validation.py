"""Whether objects are what Kubernetes takes, before any API server is there to say so.

An API server checks more than schemas hold: `make test-cluster` asks a real one.
"""

from __future__ import annotations

import base64
import binascii
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema

from pibake.config.problems import listing, show
from pibake.config.userfiles import items
from pibake.kube import schemas, wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pibake.kube.schemas import Kind

Path = tuple[str | int, ...]

_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("byte", raises=(binascii.Error, ValueError))
def _base64(value: object) -> bool:
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an object, or in doubt.

    Attributes:
        index: which of the objects it is, from 0.
        subject: its kind and name, as `Deployment web/shop`.
        path: the field it is about, keys and positions in lists; () for the object as a whole.
        message: what is wrong, a sentence without its full stop, with no value of a field in it.
        hint: what is allowed.
        warning: it may be right; nobody here can tell.
    """

    index: int
    subject: str
    path: Path
    message: str
    hint: str = ""
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.subject}: {dotted(self.path)}" if self.path else self.subject
        return f"{where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


def validate(objects: Iterable[Any], version: str, *, strict: bool = False) -> tuple[Problem, ...]:
    """Return what is wrong with objects that are applied together, against the nearest release that is known.

    Args:
        objects: Kubernetes objects as JSON values; the items of a List are objects too.
        version: the cluster's release, as `v1.34.1+k3s1`.
        strict: the objects are the catalogue's. A custom kind that nothing defines is wrong, not in doubt, and so is a
            field that is not in pibake's own, reduced definition.
    """
    listed = [_One(index, *found) for index, thing in enumerate(objects) for found in items(thing)]
    brought = schemas.custom(one.thing for one in listed if isinstance(one.thing, dict))
    kinds = schemas.own() | brought
    check = _Check(version, kinds, frozenset(kinds if strict else brought), strict)
    return (*(problem for one in listed for problem in check.of(one)), *_twice(listed))


def dotted(path: Path) -> str:
    """Return a path as kubectl writes it: `spec.containers[0].image`; keys with dots stand in brackets."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "." in part or not part:
            text += f'["{part}"]'
        else:
            text += f".{part}" if text else part
    return text


def subject(thing: Any) -> str:
    """Return an object's kind and name."""
    if not isinstance(thing, dict):
        return "object"
    metadata = thing.get("metadata")
    known = metadata if isinstance(metadata, dict) else {}
    name = "/".join(str(known[key]) for key in ("namespace", "name") if known.get(key))
    return " ".join(filter(None, (str(thing.get("kind") or "object"), name)))


class _One(NamedTuple):
    """An object: the number of what it stands in, the path there, and itself."""

    number: int
    path: Path
    thing: Any

    def problem(self, path: Path, message: str, hint: str = "", warning: bool = False) -> Problem:
        return Problem(self.number, subject(self.thing), (*self.path, *path), message, hint, warning)


@dataclass(frozen=True)
class _Check:
    """Objects against one release and the custom kinds that there are; `sure` of those alone that are no doubt whole."""

    version: str
    custom: Mapping[Kind, dict[str, Any]]
    sure: frozenset[Kind]
    strict: bool

    def of(self, one: _One) -> Iterator[Problem]:
        """Return what is wrong with one object."""
        named, thing = one.problem, one.thing
        if not isinstance(thing, dict):
            yield named(
                (), f"is {wording.kind(thing)}, and no object of Kubernetes", "an object is a mapping"
            )
            return
        if lacking := [key for key in ("apiVersion", "kind") if not isinstance(thing.get(key), str)]:
            yield named((), f"does not say its {' and '.join(lacking)}")
            return
        metadata = thing.get("metadata")
        if not isinstance(metadata, dict) or not metadata.get("name"):
            yield named(("metadata",), "there is no name")
        kind = schemas.kind_of(thing)
        if schema := self._schema(kind):
            checker = jsonschema.Draft202012Validator(schema, format_checker=_FORMATS)
            for error in sorted(checker.iter_errors(thing), key=lambda error: [str(p) for p in error.path]):
                yield from self._problems(named, kind, error)
        else:
            yield self._unknown(named, kind)

    @functools.cached_property
    def release(self) -> str:
        return schemas.nearest(self.version)

    @property
    def known(self) -> bool:
        """Whether the schemas are those of the release itself."""
        return self.release == schemas.minor(self.version)

    def _schema(self, kind: Kind) -> dict[str, Any] | None:
        definitions = schemas.definitions(self.release)
        if name := schemas.built_in(self.release).get(kind):
            return {"$ref": f"#/$defs/{name}", "$defs": definitions}
        if found := self.custom.get(kind):
            return {**found, "$defs": definitions}
        return None

    def _unknown(self, named: Callable[..., Problem], kind: Kind) -> Problem:
        builtin = schemas.built_in(self.release)
        kinds = (*builtin, *self.custom)
        places = sorted({other.api for other in kinds if other.kind == kind.kind})
        path = ("kind",) if any(kind.api == other.api for other in kinds) else ("apiVersion",)
        if "." in kind.group and kind.group not in {other.group for other in builtin}:
            hint = (
                f"{kind.kind} is in {listing(places)}"
                if places
                else "its definition is not among the objects"
            )
            message = f"{show(kind.kind)} of {show(kind.api)} is no kind that pibake knows"
            return named(path, message, hint, warning=not self.strict)
        meant = wording.close(kind.kind, {other.kind for other in builtin})
        places = places or sorted({other.api for other in builtin if other.kind == meant})
        hint = f"{meant or kind.kind} is in {listing(places)}" if places else ""
        message = f"Kubernetes {self.release} has no {show(kind.kind)} in {show(kind.api)}"
        return named(path, message, hint, warning=not self.known)

    def _problems(
        self, named: Callable[..., Problem], kind: Kind, error: jsonschema.ValidationError
    ) -> Iterator[Problem]:
        path = tuple(error.absolute_path)
        schema: Any = error.schema
        value: Any = error.instance
        wanted: Any = error.validator_value
        if error.validator == "additionalProperties":
            allowed = schema.get("properties", {})
            doubt = kind not in self.sure if kind in self.custom else not self.known
            where = "in what pibake knows of it" if kind in self.custom else f"in Kubernetes {self.release}"
            for key in map(str, value.keys() - allowed.keys()):
                yield named(
                    (*path, key), f"there is no such field {where}", wording.field(key, allowed), doubt
                )
        elif error.validator == "required":
            for key in (key for key in wanted if key not in value):
                yield named((*path, key), "is missing")
        else:
            yield named(path, *wording.sentence(str(error.validator), wanted, schema, value))


def _twice(listed: Iterable[_One]) -> Iterator[Problem]:
    """Return a problem for each object that stands there a second time."""
    first: dict[tuple[str, ...], int] = {}
    for one in listed:
        metadata = one.thing.get("metadata") if isinstance(one.thing, dict) else None
        if not isinstance(metadata, dict) or not metadata.get("name"):
            continue
        kind = schemas.kind_of(one.thing)
        key = (kind.group, kind.kind, str(metadata.get("namespace") or "default"), str(metadata["name"]))
        if key in first:
            yield one.problem((), f"is there twice: document {first[key] + 1} is the same one")
        first.setdefault(key, one.number)
