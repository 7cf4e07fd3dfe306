"""Which of this host's interfaces the boards are behind, and what they are told of it."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.netboot.values import Ports, Site
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pibake.plan import Plan
    from pibake.plan.values import Address


def site(plan: Plan, interface: str = "", ports: Ports | None = None) -> Site:
    """Return this server as the nodes of a plan see it.

    Args:
        plan: whose subnet it is.
        interface: instead of the one in cluster.yaml, or of the one with an address in the subnet.
        ports: where the engines listen, if not where they usually do.

    Raises:
        PibakeError: no interface, or more than one, is in the nodes' subnet.
    """
    if not isinstance(plan.subnet, ipaddress.IPv4Network):
        raise PibakeError(
            f"boards boot over IPv4, and the subnet of {plan.cluster} is {plan.subnet}",
            "give the network an IPv4 `subnet`; IPv6 can stand beside it, in `network.ipv6`",
        )
    named = interface or plan.netboot.interface
    found = [(name, address) for name, address in _addresses() if not named or name == named]
    nodes = {node.link.address.ip: node.hostname for node in plan.nodes}
    inside = {
        name: address
        for name, address in reversed(found)
        if address.ip in plan.subnet and address.ip not in nodes
    }
    if len(inside) != 1:
        taken = [
            f"{address.ip}, which is {nodes[address.ip]}'s" for _, address in found if address.ip in nodes
        ]
        used = {*nodes, *(gateway for node in plan.nodes for gateway in node.link.gateways)}
        raise _none(plan.subnet, named, list(inside), {name for name, _ in found}, taken=taken, used=used)
    ((name, address),) = inside.items()
    link = plan.link
    gateway = link.gateway if isinstance(link.gateway, ipaddress.IPv4Address) else None
    return Site(
        name, ipaddress.IPv4Interface((address.ip, plan.subnet.prefixlen)), plan.netboot.dhcp, gateway,
        link.nameservers, plan.domain, ports or Ports(),
    )  # fmt: skip


def _addresses() -> list[tuple[str, ipaddress.IPv4Interface]]:
    said = run(
        ["ip", "-json", "-4", "address", "show"], why="find the interface that boards are behind"
    ).stdout
    links: list[dict[str, Any]] = json.loads(said or "[]")
    return [
        (link["ifname"], ipaddress.IPv4Interface(f"{one['local']}/{one['prefixlen']}"))
        for link in links
        for one in link.get("addr_info", ())
    ]


def _none(
    subnet: ipaddress.IPv4Network,
    named: str,
    inside: Sequence[str],
    found: Collection[str],
    *,
    taken: Sequence[str],
    used: Collection[Address],
) -> PibakeError:
    """Return what is wrong; `taken` says whose the addresses in the subnet are, and `used` are those of nodes and routers."""
    if inside:
        return PibakeError(
            f"several interfaces are in {subnet}: {', '.join(inside)}", "name one of them with --interface"
        )
    where = "none here has an address in it"
    if named:
        where = f"{named} has none in it" if named in found else f"no interface {named} here has an address"
    but = f" but {taken[0]}" if taken else ""
    free = next((host for host in subnet.hosts() if host not in used), subnet.network_address)
    return PibakeError(
        f"boards are to be behind an interface with an address in {subnet}, the nodes' subnet, and {where}{but}",
        f"`ip address add {free}/{subnet.prefixlen} dev {named or 'eth0'}` gives it one until the next boot, if nobody else"
        " has that; or change `subnet` in cluster.yaml",
    )
