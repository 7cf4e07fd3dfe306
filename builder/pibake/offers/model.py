"""The shape of a catalogue entry, `addons/NAME.yaml`: every field there is; another one is an error.

`values`, `objects`, `secret_objects` and the texts of `host_files` are Jinja templates (`pibake.kube.addons` says what
they see).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

GROUPS = ("cni", "network", "certificates", "monitoring", "storage", "management")
Group = Literal["cni", "network", "certificates", "monitoring", "storage", "management"]
Format = Literal[
    "ip", "cidr", "ip-range", "hostname", "email", "url", "quantity", "host-port", "duration", "file", "secret-file"
]  # fmt: skip
Role = Literal["cni", "loadbalancer", "ingress", "default-storage-class"]


class Strict(BaseModel):
    """A mapping with known keys only, of exactly the types it says, which does not change once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Option(Strict):
    """What one option may be: the part of JSON Schema (draft 2020-12) that the catalogue needs.

    `properties` closes an object: other keys are mistakes. An object without them takes any key, with values of
    `additional`, or free-form ones where that is not given either. Formats are pibake's own (`pibake.config.addons`).
    """

    type: Literal["string", "integer", "number", "boolean", "array", "object"]
    description: str = ""
    format: Format | None = None
    enum: tuple[Any, ...] | None = None
    pattern: str | None = None
    items: Option | None = None
    properties: dict[str, Option] | None = None
    additional: Option | None = Field(default=None, alias="additionalProperties")
    required: tuple[str, ...] = ()
    min_items: int = Field(default=0, alias="minItems")
    minimum: int | None = None
    maximum: int | None = None
    default: Any = None
    examples: tuple[Any, ...] = ()


class Chart(Strict):
    """A Helm chart: `repo` is a chart repository's URL, or `oci://...`, to which the name is added.

    Without `sha256` (of the .tgz) the first download is pinned in `addons.lock`.
    """

    repo: str = Field(pattern="^(https|oci)://")
    name: str
    version: str
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")


class Needs(Strict):
    """What an add-on does not work without.

    Attributes:
        addons: others that must stand in `addons:` too.
        packages: Debian packages on every member.
        memory: MiB that it asks of the cluster as a whole.
        root: "local" where an NFS root will not do.
        kubernetes: the lowest minor release, as "1.25".
    """

    addons: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    memory: int = Field(default=0, ge=0)
    root: Literal["", "local"] = ""
    kubernetes: str = Field(default="", pattern=r"^(1\.[0-9]+)?$")


class K3s(Strict):
    """What an add-on changes in k3s' own configuration; `bundled` ones k3s brings itself."""

    disable: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    bundled: bool = False


class Entry(Strict):
    """One add-on of the catalogue, without its name."""

    summary: str
    group: Group
    homepage: str = Field(pattern="^https://")
    status: str = ""
    instead: str = ""
    chart: Chart | None = None
    namespace: str = ""
    privileged: bool = False
    bootstrap: bool = False
    options: dict[str, Option] = {}
    required: tuple[str, ...] = ()
    needs: Needs = Needs()
    conflicts: tuple[str, ...] = ()
    provides: Role | None = None
    k3s: K3s = K3s()
    images: tuple[str, ...] = ()
    generated: dict[str, int] = {}
    values: str = ""
    objects: str = ""
    secret_objects: str = ""
    host_files: dict[str, str] = {}
