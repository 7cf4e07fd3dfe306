"""Add-ons as Kubernetes objects: values in, values out, but for kustomizations, which kubectl builds.

k3s' helm-controller installs charts from HelmChart objects (k3s documentation, "Helm"); on kubeadm the same controller
is an add-on of its own and comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.kube import document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pibake.plan import Plan
    from pibake.secret import Secret

SECRETS = "secrets"
"""The name of the manifest that holds all Secret objects; no add-on is called so."""


@dataclass(frozen=True)
class Manifest:
    """The objects of one add-on, in the order in which they are applied; `name` is the add-on's."""

    name: str
    objects: tuple[dict[str, Any], ...]

    def dump(self) -> str:
        """Return the objects as one YAML text."""
        return document.dump(*self.objects)


def render(plan: Plan, charts: Mapping[str, bytes] | None = None) -> tuple[Manifest, ...]:
    """Return one manifest for each add-on, in the order in which they should be applied.

    Args:
        plan: what will happen.
        charts: add-on -> its chart as a .tgz, for those that carry it inline (`airgap`, `chart: {file: ...}`).

    Raises:
        PibakeError: about the add-on: its template or its kustomization gives no objects.
    """
    raise NotImplementedError


def secret_manifest(plan: Plan, secrets: Mapping[str, Mapping[str, Secret]]) -> Manifest | None:
    """Return all Secret objects, or None where no add-on has any.

    Args:
        plan: what will happen.
        secrets: add-on -> option -> text: what is in the files of `Addon.secrets`, and what the vault made up for
            `Addon.generated`.
    """
    raise NotImplementedError


def host_files(plan: Plan) -> dict[str, str]:
    """Return the files that add-ons want on every member: absolute path -> text."""
    raise NotImplementedError
