"""Which of the programs that can configure the network of a system does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.system import Network

if TYPE_CHECKING:
    from pibake.image.inspect.root import Root

SCRIPTS = "etc/sysconfig/network-scripts/network-functions"


def in_charge(root: Root) -> Network:
    """Return what configures the network.

    netplan goes first: it configures the others. ifcfg files are what NetworkManager reads where the old scripts are
    installed. dhcpcd, where it runs beside ifupdown, leaves alone what /etc/network/interfaces names.

    Raises:
        ImageError: nothing that pibake knows does.
    """
    dhcpcd = root.enabled("dhcpcd.service") or root.enabled("dhcpcd5.service")
    legacy = root.program("ifup") and root.has("etc/network/interfaces")
    signs = {
        Network.NETPLAN: root.program("netplan"),
        Network.IFCFG: root.has(SCRIPTS)
        and any(map(root.enabled, ("NetworkManager.service", "network", "network.service"))),
        Network.NETWORK_MANAGER: root.enabled("NetworkManager.service"),
        Network.NETWORKD: root.enabled("systemd-networkd.service"),
        Network.IFUPDOWN: legacy
        and (_names_ports(root) or not dhcpcd)
        and not root.masked("networking.service"),
        Network.DHCPCD: dhcpcd,
    }
    for network, found in signs.items():
        if found:
            return network
    raise ImageError(
        f"{root.image.name}: nothing configures the network of this system: looked for netplan, for NetworkManager, "
        "systemd-networkd and dhcpcd among the enabled units, and for ifup with /etc/network/interfaces",
        "pibake cannot give a node of this base an address",
    )


def _names_ports(root: Root) -> bool:
    """Return whether interfaces(5) names another port than the loopback."""
    folder = "etc/network/interfaces.d"
    texts = [
        root.text("etc/network/interfaces"),
        *(root.text(f"{folder}/{name}") for name in root.names(folder)),
    ]
    return any(
        port != "lo" for text in texts for port in re.findall(r"^\s*iface\s+(\S+)", text, re.MULTILINE)
    )
