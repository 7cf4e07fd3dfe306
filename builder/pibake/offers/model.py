"""The shape of a catalogue entry, `addons/NAME.yaml`: every field there is; another one is an error.

`values`, `objects` and `secret_objects` are Jinja templates (`pibake.kube.addons` says what they see).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = ("file", "secret-file")
"""Formats that name a file beside cluster.yaml."""
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


class Remote(Strict):
    """Manifests that their makers publish as one file; without `sha256` the first download is pinned."""

    url: str = Field(pattern="^https://")
    version: str
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")


class Depends(Strict):
    """Options that others ask for: where each of `when` has its value, `need` must be there; `why` is a sentence.

    For an option that is not itself true or false, `true` stands for any value.
    """

    when: dict[str, Any]
    need: tuple[str, ...]
    why: str


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
    """What an add-on changes in k3s' own configuration.

    Attributes:
        disable: components that k3s leaves out.
        config: further keys of config.yaml on every server; texts are templates that see `options` and `addons`.
        bundled: k3s brings it, and nothing is installed.
        component: what `disable` calls what k3s brings; the add-on's own name unless given.
        chart: the HelmChart that k3s brings it as, which a HelmChartConfig gives its values; "" if it is none.
    """

    disable: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    bundled: bool = False
    component: str = ""
    chart: str = ""


class Entry(Strict):
    """One add-on of the catalogue, without its name."""

    summary: str
    group: Group
    homepage: str = Field(pattern="^https://")
    status: str = ""
    instead: str = ""
    chart: Chart | None = None
    manifest: Remote | None = None
    namespace: str = ""
    privileged: bool = False
    bootstrap: bool = False
    options: dict[str, Option] = {}
    required: tuple[str, ...] = ()
    depends: tuple[Depends, ...] = ()
    needs: Needs = Needs()
    conflicts: tuple[str, ...] = ()
    provides: Role | None = None
    k3s: K3s = K3s()
    images: tuple[str, ...] = ()
    generated: dict[str, int] = {}
    values: str = ""
    objects: str = ""
    secret_objects: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Entry:
        """Refuse an entry that names options it does not have, or files where nothing looks for them."""
        secrets = {name for name, option in self.options.items() if option.format == "secret-file"}
        if stray := set(self.required) - set(self.options):
            raise ValueError(f"required, but no option: {', '.join(sorted(stray))}")
        if stray := set(self.generated) - secrets:
            raise ValueError(f"generated, but no option of format secret-file: {', '.join(sorted(stray))}")
        for rule in self.depends:
            if stray := {*rule.when, *rule.need} - set(self.options):
                raise ValueError(f"in `depends`, but no option: {', '.join(sorted(stray))}")
        for name, option in self.options.items():
            if any(inner.format in FILES for inner in _inside(option)):
                raise ValueError(f"{name}: only an option itself may name a file")
        if "values" in self.options:
            raise ValueError("every chart has an option `values` already")
        if self.instead and not self.status:
            raise ValueError("`instead` goes with a `status`")
        return self


def _inside(option: Option) -> Iterator[Option]:
    for inner in (option.items, option.additional, *(option.properties or {}).values()):
        if inner is not None:
            yield inner
            yield from _inside(inner)
