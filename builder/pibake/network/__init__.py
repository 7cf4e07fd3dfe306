"""The network of a node, for whatever configures it on the system of its card.

`network_config` writes it for cloud-init, which hands it on. `files` writes it for the program itself, where there is no
cloud-init or where cloud-init cannot carry it (`unfit` says why). Values in, values out.

A Wi-Fi key stands in what both return, so the files that hold it are 0600.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.network import dhcpcd, gateway, ifcfg, ifupdown, manager, mdns, netplan, networkd
from pibake.network.cloud import network_config, unfit
from pibake.network.ports import ETHERNET
from pibake.network.wifi import commands, kernel_words, radio, wireless
from pibake.system import Network
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pibake.plan import NodePlan

__all__ = [
    "ETHERNET",
    "commands",
    "files",
    "gateway",
    "kernel_words",
    "mdns",
    "network_config",
    "radio",
    "unfit",
    "wireless",
]

RENDERERS = {
    Network.NETPLAN: netplan.files,
    Network.NETWORKD: networkd.files,
    Network.NETWORK_MANAGER: manager.files,
    Network.IFUPDOWN: ifupdown.files,
    Network.DHCPCD: dhcpcd.files,
    Network.IFCFG: ifcfg.files,
}

_HANDS_OFF = Tree(
    {
        "etc/cloud/cloud.cfg.d/99-pibake-network.cfg": File(
            b"# Made by pibake: the network is configured already.\nnetwork: {config: disabled}\n"
        )
    }
)
"""Keeps cloud-init from asking for an address by DHCP beside the fixed one (cloud-init, "Disabling network configuration")."""


def files(node: NodePlan, style: Network, port: str = ETHERNET) -> Tree:
    """Return the files that give a node its network, to be laid over the root file system of an image, and what makes the head one.

    They replace what an image has under the same names, and where they name a file that is a symbolic link in the
    image (`etc/resolv.conf` often is), the link itself has to go.

    Args:
        node: what the node is.
        style: the program that is in charge of the network there.
        port: what the image's kernel and udev call the Ethernet port; only ifupdown, dhcpcd and ifcfg need it, and
            only for a node whose MAC address is not known. The others find the port by its name's first letter.

    Raises:
        PibakeError: the program cannot do what the node needs.
    """
    return RENDERERS[style](node, port) | radio(node) | gateway.files(node) | _HANDS_OFF
