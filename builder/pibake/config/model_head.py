"""The shape of `head:` in a cluster.yaml: the node that is the router."""

from __future__ import annotations

from pydantic import Field

from pibake.config import leaves  # noqa: TC001 - pydantic reads the annotations
from pibake.config.shapes import Strict, Wifi


class Upstream(Strict):
    """The head's way out: its second port, or Wi-Fi."""

    port: leaves.OuterPort | None = Field(
        default=None,
        description="The second Ethernet port, such as a USB adapter: its MAC address, or the kernel's name for it.",
        examples=["00:e0:4c:68:00:01", "eth1"],
    )
    wifi: Wifi | None = Field(
        default=None,
        description="In place of `port`: the wireless network that leads out.",
        examples=[{"ssid": "home", "psk": "44116ea8...2a0a15ec", "country": "DE"}],
    )
    address: leaves.OuterAddress | None = Field(
        default=None,
        description="Its address there, with the prefix; dhcp unless set.",
        examples=["203.0.113.5/24"],
    )
    gateway: leaves.IP4 | None = Field(
        default=None, description="With a fixed address: the router there.", examples=["203.0.113.1"]
    )
    dns: tuple[leaves.IP4, ...] | None = Field(
        default=None,
        max_length=3,
        description="Name servers out there, three at most; what DHCP says, or the gateway, unless set.",
        examples=[["203.0.113.1", "1.1.1.1"]],
    )


class Head(Strict):
    """The node that is the router between the nodes' network and another."""

    node: leaves.HostName = Field(description="Which node it is.", examples=["node1"])
    upstream: Upstream = Field(
        description="How it is connected to the other network.", examples=[{"port": "eth1"}]
    )
    dhcp: leaves.Pool | None = Field(
        default=None,
        description="Addresses of the subnet for guests; without it, only nodes whose `mac` is known get one, their own.",
        examples=["10.0.0.100-10.0.0.199"],
    )
    open: tuple[leaves.Opening, ...] | None = Field(
        default=None,
        description="Ports of the head's that can be reached from the other network; 22 (ssh) unless set.",
        examples=[["22", "6443", "51820/udp", "30000-32767"]],
    )
    forward: dict[leaves.Single, leaves.Target] = Field(
        default={},
        description="Ports that lead from the other network to an address of the subnet, and a port there if it is another.",
        examples=[{"80": "10.0.0.240", "8443": "10.0.0.240:443"}],
    )
