"""What Kubernetes lets each kind of object be, as JSON Schema.

Built-in kinds come from the package `kubernetes-validate` (Apache-2.0): the strict schemas of the .0 of each minor
release, made from Kubernetes' own OpenAPI definitions. Its data is used, not its function, which reads two files for
each object, stops at the first mistake, and drops the domain of an API group, so that `apps.example.com` were `apps`.

Custom kinds come from CustomResourceDefinitions (apiextensions.k8s.io/v1): pibake's own in `addons/crds`, which are
never put on a node, and those that stand among the objects themselves. Rules: Kubernetes' documentation, "Extend the
Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema".
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pibake import kubeyaml, resources
from pibake.errors import MissingTool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FOLDER = "kubernetes-json-schema"
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
EITHER = (
    "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
)
IMPLIED = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"$ref": f"#/$defs/{META}"},
}
"""What every object has, whatever its definition says."""
CRD = "CustomResourceDefinition"


class Kind(NamedTuple):
    """What an object is: its API group ("" for the core's), version and kind."""

    group: str
    version: str
    kind: str

    @property
    def api(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


def kind_of(thing: Mapping[str, Any]) -> Kind:
    """Return what an object says that it is; "" where it does not say."""
    group, _, version = str(thing.get("apiVersion") or "").rpartition("/")
    return Kind(group, version, str(thing.get("kind") or ""))


def nearest(version: str) -> str:
    """Return the minor release, as "1.34", whose schemas are nearest to those of a release (`v1.34.1+k3s1`)."""
    wanted = int(version.removeprefix("v").split(".")[1])
    return f"1.{min(_minors(), key=lambda minor: (abs(minor - wanted), minor))}"


def told(version: str) -> str:
    """Return a sentence where a release is not the one whose schemas are used, or ""."""
    known = nearest(version)
    if known == minor(version):
        return ""
    return f"Kubernetes {minor(version)} was not at hand: objects were compared with what {known} takes"


def minor(version: str) -> str:
    """Return the minor release of `v1.34.1+k3s1`, as "1.34"."""
    return ".".join(version.removeprefix("v").split(".")[:2])


@functools.cache
def definitions(release: str) -> dict[str, Any]:
    """Return the named schemas of a minor release's API; they refer to each other as `#/$defs/NAME`."""
    path = _folder() / f"v{release}.0-local-strict" / "_definitions.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))["$defs"]
    for name in EITHER:
        # null is both "text or null" and "a number or null", so that it never was one of them only
        found[name] = {"anyOf": found[name]["oneOf"]}
    return found


@functools.cache
def built_in(release: str) -> dict[Kind, str]:
    """Return the kinds of a minor release, each with the name of its schema in `definitions`."""
    return {
        Kind(said["group"], said["version"], said["kind"]): name
        for name, schema in definitions(release).items()
        for said in schema.get("x-kubernetes-group-version-kind", ())
        if "metadata" in schema.get("properties", {})
    }


@functools.cache
def own() -> dict[Kind, dict[str, Any]]:
    """Return the custom kinds that the catalogue's add-ons have, from `addons/crds`."""
    files = sorted(resources.path("addons", "crds").glob("*.yaml"))
    return custom(found for path in files for found, _ in kubeyaml.load_all(path.read_text("utf-8")))


def custom(objects: Iterable[Mapping[str, Any]]) -> dict[Kind, dict[str, Any]]:
    """Return the kinds that the CustomResourceDefinitions among objects define, each with its JSON Schema.

    What in a definition is not as it has to be is left out: the schema of definitions says so.
    """
    found = {}
    for thing in objects:
        if kind_of(thing) != Kind("apiextensions.k8s.io", "v1", CRD):
            continue
        try:
            spec = thing["spec"]
            for version in spec["versions"]:
                kind = Kind(spec["group"], version["name"], spec["names"]["kind"])
                found[kind] = _root(version["schema"]["openAPIV3Schema"])
        except (AttributeError, KeyError, TypeError):
            continue
    return found


def _root(schema: Mapping[str, Any]) -> dict[str, Any]:
    made = structural(schema)
    made["properties"] = {**made.get("properties", {}), **IMPLIED}
    made.setdefault("additionalProperties", False)
    return made


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a structural schema as JSON Schema, in which a field that it does not have is an error."""
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-")}
    made.pop("default", None)
    made.pop("format", None)
    if "properties" in schema:
        made["properties"] = {key: structural(value) for key, value in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = structural(schema["items"])
    if schema.get("x-kubernetes-embedded-resource"):
        made["properties"] = {**made.get("properties", {}), **IMPLIED}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if made.pop("nullable", False) and "type" in made:
        made["type"] = [*([made["type"]] if isinstance(made["type"], str) else made["type"]), "null"]
    return made


def _folder() -> Path:
    # its modules take a fifth of a second, and are not needed for its data
    found = importlib.util.find_spec("kubernetes_validate")
    if not found or not found.submodule_search_locations:
        raise MissingTool(
            "kubernetes-validate",
            "know what Kubernetes lets an object be",
            "install pibake with its dependencies, or `pip install kubernetes-validate`",
        )
    return Path(found.submodule_search_locations[0]) / FOLDER


@functools.cache
def _minors() -> tuple[int, ...]:
    matches = (re.fullmatch(r"v1\.(\d+)\.0-local-strict", path.name) for path in _folder().iterdir())
    return tuple(sorted(int(match[1]) for match in matches if match))
