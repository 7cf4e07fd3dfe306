"""Netplan: the network-config of cloud-init's version 2, which is netplan's own format, below one more key."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pibake import resources
from pibake.network.ports import WIFI, named, renaming
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan


def version_2(node: NodePlan, port: str = "") -> str:
    """Return the network as netplan's YAML, from `version:` on.

    Args:
        node: what the node is.
        port: name of the Ethernet port, for readers that know ports by their full names only.

    The keys are those that netplan 0.36 of Ubuntu 18.04 knows already; it refuses a file for any other. So the country
    of Wi-Fi is not told here (`regulatory-domain` came with 0.105), and the key of 64 hex digits stands where a
    passphrase could: netplan tells them apart.
    """
    return resources.render(
        "cloud-init/network-config.j2",
        node=node,
        link=node.link,
        wifi=node.wifi,
        port=port,
        radio=WIFI,
        outer=node.head.upstream if node.head else None,
    )


def files(node: NodePlan, _port: str) -> Tree:
    """Return the configuration, under the name that cloud-init gives to its own, so that one of those is replaced.

    The head's two ports have names that others rely on, which udev gives them by files of its own.
    """
    text = version_2(node, named(node, "") if node.head else "")
    head, _, rest = text.partition("\n")
    body = f"{head}\nnetwork:\n{textwrap.indent(rest, '  ')}"
    names = renaming(node) if node.head else Tree()
    return Tree({"etc/netplan/50-cloud-init.yaml": File(body.encode(), 0o600)}) | names
