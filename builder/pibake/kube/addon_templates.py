"""The templates of catalogue entries: what they see, and what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake import kubeyaml, template
from pibake.config.userfiles import fault_of
from pibake.errors import PibakeError
from pibake.plan.addons import bundled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pibake.plan import Addon, Kubernetes, NodePlan, Plan


def names(plan: Plan, addon: Addon) -> dict[str, Any]:
    """Return what an add-on's templates see.

    `options` are typed, with their defaults, None where there is neither; `bundled` says that k3s brings the add-on.
    """
    kubernetes = plan.kubernetes
    assert kubernetes is not None  # noqa: S101 - there are no add-ons without it
    k3s = kubernetes.distribution == "k3s"
    return {
        "options": dict(addon.options),
        "cluster": {
            "name": plan.cluster,
            "domain": plan.domain,
            "distribution": kubernetes.distribution,
            "version": kubernetes.version,
            "minor": kubernetes.minor,
            "airgap": kubernetes.airgap,
            "pod_cidr": kubernetes.pod_cidr,
            "service_cidr": kubernetes.service_cidr,
            "cluster_dns": kubernetes.cluster_dns,
            "endpoint": kubernetes.endpoint,
            "url": kubernetes.url,
            "vip": kubernetes.vip,
            "subnet": str(plan.subnet or ""),
            "head": next((kubernetes.node_name(node) for node in plan.nodes if node.head), ""),
        },
        "nodes": [_node(node, kubernetes) for node in plan.nodes],
        "addons": [other.name for other in plan.addons],
        "k3s": k3s,
        "bundled": bundled(addon, kubernetes.distribution, kubernetes.disable),
    }


def _node(node: NodePlan, kubernetes: Kubernetes) -> dict[str, Any]:
    return {
        "name": kubernetes.node_name(node),
        "hostname": node.hostname,
        "fqdn": node.fqdn,
        "address": str(node.link.address.ip),
        "role": node.role,
        "labels": dict(node.labels),
        "server": node.role == "server",
    }


def text(what: str, source: str, seen: Mapping[str, Any]) -> str:
    """Return what a template comes to; `what` names it in errors.

    Raises:
        PibakeError: it cannot be rendered with these values.
    """
    try:
        return template.render(source, dict(seen))
    except template.Fault as fault:
        raise _error(what, f"line {fault.line + 1}: {fault.message}") from None


def values(source: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chart's values that a template comes to.

    Raises:
        PibakeError: it cannot be rendered, or is no mapping.
    """
    documents = _documents("values", text("values", source, seen))
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0], dict):
        raise _error("values", "they are not one mapping")
    return documents[0]


def objects(what: str, source: str, seen: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the Kubernetes objects that a template comes to.

    Raises:
        PibakeError: it cannot be rendered, or holds something that is no object. It does not repeat what stands there.
    """
    found = _documents(what, text(what, source, seen))
    for item in found:
        if fault := fault_of(item):
            raise _error(what, f"there is something that is no object: {fault}")
    return tuple(found)


def _documents(what: str, rendered: str) -> list[Any]:
    try:
        return [document for document, _ in kubeyaml.load_all(rendered)]
    except kubeyaml.NotYAML as error:
        raise _error(what, f"line {error.line + 1} of what it came to: {error.message}") from None


def _error(what: str, message: str) -> PibakeError:
    return PibakeError(
        f"its {what} cannot be rendered: {message}",
        "its file in pibake's addons/ has a fault; please report it, with your options",
    )
