"""Add-ons as Kubernetes objects: values in, values out, but for kustomizations, which kubectl builds.

k3s' helm-controller installs charts from HelmChart objects, and HelmChartConfig objects change the values of those that
k3s brings (k3s documentation, "Helm"; k3s-io/helm-controller). On kubeadm the same controller is an add-on and comes first.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.config.addon import is_secret
from pibake.errors import about
from pibake.kube import addon_templates, document, kustomize
from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.plan import Addon, Plan

SECRETS = "secrets"
"""The name of the manifest that holds all Secret objects; no add-on is called so."""
SYSTEM = "kube-system"
GIVEN = ("", "default", "kube-node-lease", "kube-public", SYSTEM)
"""Namespaces that every cluster has."""
PRIVILEGED = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
"""Kubernetes documentation, "Pod Security Admission": pods there may use the node's network and devices."""


@dataclass(frozen=True)
class Manifest:
    """The objects of one add-on, in the order in which they are applied; `name` is the add-on's."""

    name: str
    objects: tuple[dict[str, Any], ...]

    def dump(self) -> str:
        """Return the objects as one YAML text."""
        return document.readable(*self.objects)


def render(
    plan: Plan,
    charts: Mapping[str, bytes] | None = None,
    remote: Mapping[str, tuple[dict[str, Any], ...]] | None = None,
) -> tuple[Manifest, ...]:
    """Return one manifest for each add-on that has objects, in the order in which they should be applied.

    Args:
        plan: what will happen.
        charts: add-on -> its chart as a .tgz, for those that carry it inline (`airgap`, `chart: {file: ...}`); one
            that lies beside cluster.yaml and is not given stands there by its path, which no node can read.
        remote: add-on -> the objects of its published manifest (`Addon.remote`).

    Raises:
        PibakeError: about the add-on: its template or its kustomization gives no objects.
    """
    namespaces = _namespaces(plan)
    found = []
    for addon in plan.addons:
        with about(f"the add-on {addon.name}"):
            seen = addon_templates.names(plan, addon)
            objects = [
                *namespaces.get(addon.name, ()),
                *_chart(addon, seen, (charts or {}).get(addon.name)),
                *((remote or {}).get(addon.name, ()) if addon.remote else ()),
                *_objects(addon, seen),
            ]
        if objects:
            found.append(Manifest(addon.name, tuple(objects)))
    return tuple(found)


def secret_manifest(plan: Plan, secrets: Mapping[str, Mapping[str, Secret]]) -> Manifest | None:
    """Return all Secret objects, or None where no add-on has any.

    Args:
        plan: what will happen.
        secrets: add-on -> option -> text: what is in the files of `Addon.secrets`, and what the vault made up for
            `Addon.generated`. The newline that ends a file is no part of the secret.
    """
    found: list[dict[str, Any]] = []
    for addon in plan.addons:
        with about(f"the add-on {addon.name}"):
            found += map(_encoded, _secrets(plan, addon, secrets.get(addon.name, {})))
    return Manifest(SECRETS, tuple(found)) if found else None


def _secrets(plan: Plan, addon: Addon, own: Mapping[str, Secret]) -> Iterator[dict[str, Any]]:
    entry = addon.entry
    if entry and entry.secret_objects:
        wanted = [key for key, option in entry.options.items() if option.format == "secret-file"]
        shown = {key: own[key].reveal().rstrip("\n") if key in own else None for key in wanted}
        seen = {**addon_templates.names(plan, addon), "secrets": shown}
        yield from addon_templates.objects("secret_objects", entry.secret_objects, seen)
    if addon.own_secrets:
        yield from json.loads(addon.own_secrets.reveal())
    if addon.kustomization:
        yield from filter(is_secret, kustomize.build(addon.kustomization))


def _encoded(secret: dict[str, Any]) -> dict[str, Any]:
    """Return a Secret with all values in `data`: an API server rewrites one that has `stringData` at every apply."""
    if "stringData" not in secret:
        return secret
    plain = secret["stringData"] or {}
    coded = {key: base64.b64encode(str(value).encode()).decode() for key, value in plain.items()}
    kept = {key: value for key, value in secret.items() if key != "stringData"}
    return {**kept, "data": {**(secret.get("data") or {}), **coded}}


def masked(manifest: Manifest) -> Manifest:
    """Return a manifest of Secrets that shows which keys they have, and none of their values."""
    hidden = [
        {
            key: dict.fromkeys(item, "***") if key in {"data", "stringData"} else item
            for key, item in one.items()
        }
        for one in manifest.objects
    ]
    return Manifest(manifest.name, tuple(hidden))


def unread(plan: Plan) -> dict[str, dict[str, Secret]]:
    """Return a mask for every secret there will be: add-on -> option -> `***`, for `secret_manifest`."""
    return {
        addon.name: {key: Secret("***") for key in (*addon.secrets, *addon.generated)}
        for addon in plan.addons
    }


def _namespaces(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return add-on -> the Namespace objects that come with it: each once, with the first that lives there."""
    homes: dict[str, tuple[str, dict[str, str]]] = {}
    for addon in plan.addons:
        if addon.namespace in GIVEN:
            continue
        _, labels = homes.setdefault(addon.namespace, (addon.name, {}))
        if addon.entry and addon.entry.privileged:
            labels |= PRIVILEGED
    found: dict[str, list[dict[str, Any]]] = {}
    for namespace, (first, labels) in homes.items():
        metadata = {"name": namespace, **({"labels": labels} if labels else {})}
        found.setdefault(first, []).append({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return found


def _chart(addon: Addon, seen: Mapping[str, Any], inline: bytes | None) -> Iterator[dict[str, Any]]:
    """Yield the object that makes helm-controller install a chart, or change what k3s installs."""
    entry, chart = addon.entry, addon.chart
    if chart is None and not (entry and entry.k3s.chart):
        return
    chosen = addon_templates.values(entry.values, seen) if entry else {}
    values = merged(chosen, addon.overrides)
    content = {"valuesContent": document.readable(values)} if values else {}
    if seen["bundled"]:
        if entry and entry.k3s.chart and content:
            yield _helm("HelmChartConfig", entry.k3s.chart, content)
        return
    if chart is None:
        return
    if inline is not None:
        source = {"chartContent": base64.b64encode(inline).decode()}
    elif chart.repo.startswith("oci://"):
        source = {"chart": f"{chart.repo.rstrip('/')}/{chart.name}", "version": chart.version}
    elif chart.repo:
        source = {"repo": chart.repo, "chart": chart.name, "version": chart.version}
    else:
        source = {"chart": str(chart.file)}
    spec: dict[str, Any] = {
        **source,
        "targetNamespace": addon.namespace or "default",
        "createNamespace": False,
        **({"bootstrap": True} if entry and entry.bootstrap else {}),
        **content,
    }
    yield _helm("HelmChart", addon.name, spec)


def _helm(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": SYSTEM}
    return {"apiVersion": "helm.cattle.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as Helm lays one file over another: mappings key by key, all else replaced; null takes a key away."""
    found = dict(below)
    for key, item in above.items():
        own = found.get(key)
        found[key] = merged(own, item) if isinstance(own, dict) and isinstance(item, dict) else item
    return found


def _objects(addon: Addon, seen: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an add-on's own objects, without Secrets."""
    if addon.entry and addon.entry.objects:
        yield from addon_templates.objects("objects", addon.entry.objects, seen)
    yield from map(dict, addon.objects)
    if addon.kustomization:
        yield from (item for item in kustomize.build(addon.kustomization) if not is_secret(item))
