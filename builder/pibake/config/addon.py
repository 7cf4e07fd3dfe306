"""An add-on of the cluster: what it is made from, with every option decided and no secret."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pibake.offers import Entry, Remote


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class ChartRef:
    """A Helm chart: of a repository (`repo`, `name`, `version`), or in a file or folder (`file`, absolute).

    `repo` is a chart repository's URL or `oci://...`, to which the name is added; `sha256` is that of the .tgz, "" where
    nobody has said.
    """

    name: str
    repo: str = ""
    version: str = ""
    sha256: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class Addon:
    """One add-on that the cluster gets. Every one is of one kind: of the catalogue, or the user's own.

    Attributes:
        name: its key in `addons:`.
        entry: the catalogue's entry; None for the user's own.
        chart: the Helm chart, if it is one.
        remote: the manifests that its makers publish, if it is made from those.
        namespace: where it lives; "" where its objects say so themselves.
        options: option -> value, typed, with defaults; None for what is neither set nor has a default. Of a `file`
            option it is the file's text; of a `secret-file` option only whether there is one.
        files: option of format `file` -> its absolute path.
        secrets: option of format `secret-file` -> the absolute path of the file that the user named.
        generated: option -> length of the password that the vault makes up, as the user named no file.
        values: the user's values.yaml, which is merged last; None without.
        overrides: what is in `values`.
        manifests: the user's files of manifests, absolute, in order.
        objects: what is in `manifests`, without the Secrets.
        own_secrets: the Secret objects in `manifests`, as a JSON list; None where there are none.
        kustomization: the user's kustomization folder, absolute; `pibake.kube.addons.render` has kubectl build it.
        packages: Debian packages on every member.
        images: the container images it runs, for `airgap`.
        warning: what speaks against it, as a sentence; "" if nothing does.
    """

    name: str
    entry: Entry | None = field(default=None, hash=False)
    chart: ChartRef | None = None
    remote: Remote | None = field(default=None, hash=False)
    namespace: str = ""
    options: Mapping[str, Any] = field(default_factory=_nothing, hash=False)
    files: Mapping[str, Path] = field(default_factory=_nothing, hash=False)
    secrets: Mapping[str, Path] = field(default_factory=_nothing, hash=False)
    generated: Mapping[str, int] = field(default_factory=_nothing, hash=False)
    values: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=_nothing, hash=False)
    manifests: tuple[Path, ...] = ()
    objects: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    own_secrets: Secret | None = field(default=None, hash=False)
    kustomization: Path | None = None
    packages: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    warning: str = ""


def apart(objects: Iterable[Mapping[str, Any]]) -> tuple[tuple[Mapping[str, Any], ...], Secret | None]:
    """Tell Kubernetes' Secrets from other objects: return the others, and the Secrets as a JSON list."""
    every = tuple(objects)
    secret = [item for item in every if is_secret(item)]
    return tuple(item for item in every if not is_secret(item)), Secret(
        json.dumps(secret)
    ) if secret else None


def is_secret(item: Mapping[str, Any]) -> bool:
    """Tell whether an object is a Secret."""
    return item.get("kind") == "Secret" and item.get("apiVersion") == "v1"
