"""A draft -> `Imported`: one link, one address, one wireless network; every value is one that cluster.yaml takes."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from pibake.config import names, rules_network, values
from pibake.config.problems import Bad, show
from pibake.imported.values import Imported, Wifi
from pibake.imported.wireless import pairwise_key
from pibake.secret import Secret
from pibake.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.imported.values import Draft, Network, Port

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
MOST = {"gateway": 1, "dns": 3}
"""How many cluster.yaml takes; glibc's resolver uses the first three name servers (MAXNS in resolv.h)."""


def decide(draft: Draft) -> Imported:
    """Return what a draft comes to."""
    port = _port(draft)
    wifi = _wifi(draft)
    interface, bare = _address(draft, port) if port else (None, "")
    gateway = next(iter(_listed(draft, port, port.gateways if port else [], "gateway", values.ip)), "")
    if interface:
        interface, gateway = _fitting(draft, port, interface, gateway)
    bare = bare if interface is None else ""
    dns = _listed(draft, port, [*(port.dns if port else []), *draft.dns], "dns", values.ip)
    search = _listed(draft, port, [*(port.search if port else []), *draft.search], "search", names.domain)
    link = "wifi" if wifi and (port is None or port.wireless or not port.addresses) else ""
    found = Imported(
        hostname=draft.hostname,
        domain=draft.domain,
        address=str(interface) if interface else bare,
        subnet=str(interface.network) if interface else "",
        gateway=gateway,
        dns=tuple(dns),
        search=tuple(search),
        vlan=_leaf(draft, port, "vlan", port.vlan, values.vlan) if port and not link else "",
        mac=_leaf(draft, port, "mac", port.mac, values.mac) if port and not link else "",
        link=link,
        wifi=wifi,
        locale=draft.locale,
        timezone=draft.timezone,
        users=tuple(draft.accounts.values()),
        overlay=Tree(draft.files),
        missing=_missing(draft, wifi, interface is not None, bare),
        notes=(),
    )
    if wifi and not link:
        draft.carried("network", "wifi", "the node stays on its wire; `link: wifi` would move it")
    if port and found.address:
        draft.carried(port.place, f"{port.name} address", f"{found.address}, the node's fixed address")
    notes = tuple(dict.fromkeys(draft.notes))
    return Imported(**{**vars(found), "notes": notes})


def _port(draft: Draft) -> Port | None:
    """Return the interface that has the node's address: a wired one with a fixed address, else a wireless one."""
    fixed = [port for port in draft.ports if port.addresses]
    ranked = sorted(fixed, key=lambda port: port.wireless)
    for port in ranked[1:]:
        draft.left(
            port.place,
            port.name,
            f"a node has one link, and here it is {ranked[0].name} at {ranked[0].place}",
        )
    if ranked:
        return ranked[0]
    wired = [port for port in draft.ports if not port.wireless and port.name != "lo"]
    return wired[0] if wired else None


def _address(draft: Draft, port: Port) -> tuple[Interface | None, str]:
    """Return the address with its prefix, IPv4 before IPv6, or the bare address where no prefix is known."""
    found = []
    for text in port.addresses:
        try:
            found.append((ipaddress.ip_interface(text), "/" in text))
        except ValueError:
            draft.left(port.place, port.name, f"{show(text)} is not an address")
    found.sort(key=lambda pair: pair[0].version)
    for interface, _ in found[1:]:
        draft.left(port.place, port.name, f"a node has one address, so {interface} is left out")
    if not found:
        return None, ""
    interface, prefixed = found[0]
    return (interface, "") if prefixed else (None, str(interface.ip))


def _fitting(
    draft: Draft, port: Port | None, interface: Interface, gateway: str
) -> tuple[Interface | None, str]:
    """Return address and gateway without what the rules between them refuse."""
    place, name = (port.place, port.name) if port else ("", "")
    try:
        values.subnet(str(interface.network))
    except Bad as bad:
        draft.left(place, name, bad.message)
        return None, gateway
    for _ in range(2):
        network = {"subnet": str(interface.network), **({"gateway": gateway} if gateway else {})}
        data = {"network": network, "nodes": [{"address": str(interface)}]}
        problems = {problem.loc: problem for problem in rules_network.check(data)}
        if problem := problems.get(("nodes", 0, "address")):
            draft.left(place, name, problem.message)
            return None, gateway
        if problem := problems.get(("network", "gateway")):
            draft.left(place, "gateway", problem.message)
            gateway = ""
    return interface, gateway


def _listed(
    draft: Draft, port: Port | None, texts: list[str], key: str, parse: Callable[[str], object]
) -> list[str]:
    """Return the good ones of a list, each once, and no more than cluster.yaml takes."""
    place = port.place if port else "network"
    good = [text for text in dict.fromkeys(texts) if draft.checked(place, key, text, parse)]
    most = MOST.get(key, len(good))
    if good[most:]:
        draft.left(place, key, f"{most} at most, so {', '.join(good[most:])} is left out")
    return good[:most]


def _leaf(draft: Draft, port: Port, key: str, text: str, parse: Callable[[str], object]) -> str:
    return draft.checked(port.place, f"{port.name} {key}", text, parse) if text else ""


def _wifi(draft: Draft) -> Wifi | None:
    """Return the first wireless network that a node can join: WPA2 or WPA3 with a pre-shared key."""
    chosen: Wifi | None = None
    for network in draft.networks:
        psk = None if chosen else _key(draft, network)
        if chosen:
            draft.left(network.place, "wifi", f"a cluster has one network, and it is {show(chosen.ssid)}")
        elif psk:
            chosen = Wifi(network.ssid, psk, _country(draft, network))
            draft.carried(
                network.place, "wifi", f"{show(network.ssid)}, its passphrase as a key of 64 hex digits"
            )
            if network.hidden:
                draft.left(network.place, "hidden", "pibake joins networks that announce themselves")
    return chosen


def _key(draft: Draft, network: Network) -> Secret | None:
    why = ""
    if not 1 <= len(network.ssid.encode()) <= 32 or not network.ssid.isprintable():
        why = "the name of the network is not understood"
    elif not {"WPA-PSK", "SAE", "WPA-PSK-SHA256"} & set(network.kind.upper().split()):
        why = "only networks with a pre-shared key (WPA2, WPA3) can be carried over"
    elif not network.secret:
        why = "it has no key"
    else:
        try:
            return Secret(pairwise_key(network.ssid, network.secret))
        except ValueError as error:
            why = str(error)
    draft.left(network.place, "wifi", why)
    return None


def _country(draft: Draft, network: Network) -> str:
    """Return the country as ISO 3166-1 writes it."""
    text = (network.country or draft.country).upper()
    text = "GB" if text == "UK" else text
    if text and not re.fullmatch("[A-Z]{2}", text):
        draft.left(network.place, "country", f"{show(text)} is not a country's two letters")
        return ""
    return text


def _missing(draft: Draft, wifi: Wifi | None, fixed: bool, bare: str) -> dict[str, str]:
    """Return what cluster.yaml needs and nobody said."""
    found = {}
    if not draft.hostname:
        found["hostname"] = "no hostname was given"
    if not fixed and not bare:
        found["address"] = "no fixed address was given, and nodes of a cluster need one"
    if not fixed:
        found["subnet"] = (
            "the prefix of the address was not given" if bare else "no address was given that tells"
        )
    accounts = draft.accounts.values()
    if not accounts:
        found["users"] = "no user was given"
    elif not any(account.keys or account.password_hash for account in accounts):
        found["ssh_keys"] = "no user had a key that can be used"
    if wifi and not wifi.country:
        found["country"] = "no country was given, and each has its own radio rules"
    return found
