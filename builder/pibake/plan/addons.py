"""The add-ons of a plan: in which order they come, and what they change in Kubernetes and on its nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pibake import kubeyaml, offers, template
from pibake.config.addons import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.config import Cluster
    from pibake.config.addon import Addon

CONTROLLER = "helm-controller"
"""What installs charts where k3s, which has it built in, is not."""


def addons(cluster: Cluster) -> tuple[Addon, ...]:
    """Return a cluster's add-ons in the order in which they are applied.

    The controller that installs charts comes first, then the network plugin, then each after those it needs; otherwise
    the order is that of the file.
    """
    written = cluster.addons
    kubernetes = cluster.file.kubernetes
    if kubernetes is None:
        return ()
    if (
        kubernetes.distribution != "k3s"
        and any(addon.chart for addon in written)
        and CONTROLLER not in {addon.name for addon in written}
    ):
        written = (plain(CONTROLLER, offers.entry(CONTROLLER)), *written)
    disabled = left_out(cluster)
    written = tuple(
        _settings(addon)
        if bundled(addon, kubernetes.distribution, disabled)
        else replace(addon, warning=addon.warning or _second_class(cluster, addon, disabled))
        for addon in written
    )
    first = sorted(written, key=_rank)
    by_name = {addon.name: addon for addon in written}
    placed: dict[str, Addon] = {}
    for addon in first:
        _place(addon, by_name, placed, ())
    return tuple(placed.values())


def _settings(addon: Addon) -> Addon:
    """Return what is left of an add-on that k3s brings: its options, and nothing to install."""
    return replace(addon, chart=None, remote=None, namespace="", packages=(), images=())


def _second_class(cluster: Cluster, addon: Addon, disabled: Iterable[str]) -> str:
    """Return what to say of an add-on whose storage class is the default beside that of k3s; "" if there is nothing."""
    provides = addon.entry.provides if addon.entry else None
    if provides != "default-storage-class" or not addon.options.get("default") or not _is_k3s(cluster):
        return ""
    if "local-storage" in disabled:
        return ""
    return (
        f"{addon.name}: its storage class and local-path of k3s are both the default one, of which Kubernetes takes"
        " the newer since 1.26 and none before; `disable: [local-storage]` in `kubernetes` leaves local-path out"
    )


def _rank(addon: Addon) -> int:
    if addon.name == CONTROLLER:
        return 0
    return 1 if addon.entry and addon.entry.provides == "cni" else 2


def _place(addon: Addon, by_name: dict[str, Addon], placed: dict[str, Addon], above: tuple[str, ...]) -> None:
    """Put an add-on after what it needs; `above` are those that need it, in case they need each other."""
    for name in addon.entry.needs.addons if addon.entry else ():
        if name in by_name and name not in above:
            _place(by_name[name], by_name, placed, (*above, addon.name))
    placed.setdefault(addon.name, addon)


def left_out(cluster: Cluster) -> tuple[str, ...]:
    """Return the components that k3s leaves out: what the user says, and what add-ons take the place of."""
    kubernetes = cluster.file.kubernetes
    if kubernetes is None or kubernetes.distribution != "k3s":
        return ()
    others = [part for entry in _entries(cluster) for part in entry.k3s.disable]
    return tuple(dict.fromkeys([*kubernetes.disable, *others]))


def _is_k3s(cluster: Cluster) -> bool:
    return cluster.file.kubernetes is not None and cluster.file.kubernetes.distribution == "k3s"


def k3s_config(cluster: Cluster) -> dict[str, Any]:
    """Return what add-ons add to config.yaml of k3s' servers; of lists, one after the other.

    Texts are templates that see `options` and `addons`; what comes to nothing is left out.
    """
    found: dict[str, Any] = {}
    chosen = [addon.name for addon in cluster.addons]
    for addon in cluster.addons if _is_k3s(cluster) else ():
        for key, item in addon.entry.k3s.config.items() if addon.entry else ():
            decided = _decided(item, {"options": dict(addon.options), "addons": chosen})
            if isinstance(decided, list):
                found[key] = [*found.get(key, []), *decided]
            elif decided is not None:
                found[key] = decided
    return found


def _decided(item: Any, seen: dict[str, Any]) -> Any:
    if not isinstance(item, str):
        return item
    return next((value for value, _ in kubeyaml.load_all(template.render(item, seen))), None)


def has_plugin(cluster: Cluster) -> bool:
    """Tell whether an add-on is the network plugin."""
    return any(entry.provides == "cni" for entry in _entries(cluster))


def further_names(cluster: Cluster) -> tuple[str, ...]:
    """Return what else kubeadm's API server is called: a chart that brings the network is installed on its own host."""
    early = any(entry.bootstrap for entry in _entries(cluster))
    return ("127.0.0.1",) if early and not _is_k3s(cluster) else ()


def packages(chosen: Iterable[Addon]) -> tuple[str, ...]:
    """Return the Debian packages that add-ons want on every member."""
    return tuple(dict.fromkeys(name for addon in chosen for name in addon.packages))


def bundled(addon: Addon, distribution: str, disabled: Iterable[str]) -> bool:
    """Tell whether k3s brings an add-on, so that it is given its settings and not installed."""
    entry = addon.entry
    if distribution != "k3s" or entry is None or not entry.k3s.bundled:
        return False
    return (entry.k3s.component or addon.name) not in disabled


def _entries(cluster: Cluster) -> list[offers.Entry]:
    return [addon.entry for addon in cluster.addons if addon.entry]


def addon_json(addon: Addon) -> dict[str, Any]:
    """Return an add-on as JSON values, without what is empty; of files their paths, of secrets nothing else."""
    chart = addon.chart
    shown = {key: item for key, item in addon.options.items() if key not in {*addon.files, *_secret(addon)}}
    found = {
        "group": addon.entry.group if addon.entry else "",
        "chart": {key: str(item) for key, item in vars(chart).items() if item} if chart else None,
        "manifest": addon.remote.url if addon.remote else "",
        "manifests": [str(path) for path in addon.manifests],
        "kustomization": str(addon.kustomization or ""),
        "namespace": addon.namespace,
        "options": {key: item for key, item in shown.items() if item is not None},
        "values": str(addon.values or ""),
        "files": {key: str(path) for key, path in {**addon.files, **addon.secrets}.items()},
        "generated": list(addon.generated),
        "packages": list(addon.packages),
        "warning": addon.warning,
    }
    return {
        "name": addon.name,
        **{key: item for key, item in found.items() if item not in ("", [], {}, None)},
    }


def _secret(addon: Addon) -> set[str]:
    options = addon.entry.options if addon.entry else {}
    return {key for key, option in options.items() if option.format == "secret-file"}
