"""The templates of overlays, rendered for a node: its part of what overlays hold, which travels in the seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pibake import template
from pibake.config.overlays import Kind
from pibake.errors import ConfigError
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pibake.plan import NodePlan


def render(node: NodePlan) -> Tree:
    """Return what the templates of a node's overlays come to.

    Raises:
        ConfigError: one of them cannot be rendered with this node's values.
    """
    files: dict[str, File] = {}
    values = variables(node)
    for overlay in node.overlays:
        for item in overlay.items:
            if item.kind is not Kind.TEMPLATE:
                files.pop(item.path, None)  # it is in the golden image, and lies over what was there before
                continue
            try:
                text = template.render(item.source.read_text("utf-8"), values)
            except template.Fault as fault:
                raise item.fault(f"for {node.hostname}: {fault.message}", fault.line) from fault
            files[item.path] = File(text.encode(), item.mode, item.owner)
    return Tree(files)


def check(nodes: Iterable[NodePlan]) -> None:
    """Raise `ConfigError` with every template that cannot be rendered for one of the nodes."""
    faults: list[str] = []
    for node in nodes:
        try:
            render(node)
        except ConfigError as error:
            faults += error.problems
    if faults:
        raise ConfigError(faults)


def variables(node: NodePlan) -> dict[str, Any]:
    """Return what the templates of a node can name; `config.overlays.VARIABLES` says what each is."""
    link, fleet = node.link, node.fleet
    kubernetes = node.member.kubernetes if node.member else None
    return {
        "hostname": node.hostname,
        "fqdn": node.fqdn,
        "address": str(link.address.ip),
        "prefix": link.address.network.prefixlen,
        "address6": str(link.address6.ip) if link.address6 else "",
        "mac": link.mac,
        "role": node.role,
        "board": node.board,
        "labels": dict(node.labels),
        "locale": node.locale,
        "timezone": node.timezone,
        "gateway": str(link.gateway or ""),
        "nameservers": list(link.nameservers),
        "cluster": fleet.cluster if fleet else "",
        "domain": node.fqdn.partition(".")[2],
        "nodes": [vars(peer) for peer in fleet.nodes] if fleet else [],
        "kubernetes": {
            "distribution": kubernetes.distribution if kubernetes else "",
            "version": kubernetes.version if kubernetes else "",
            "endpoint": kubernetes.url if kubernetes else "",
        },
    }
