"""cloud-init's network-config, versions 1 and 2, and netplan's files, which are version 2.

Formats: cloud-init documentation, "Networking config Version 1" and "Version 2"; netplan(5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.imported.values import Network, Port

if TYPE_CHECKING:
    from pibake.imported.document import Value
    from pibake.imported.values import Draft

DEFAULT = frozenset({"default", "0.0.0.0/0", "::/0", "0.0.0.0", "::"})  # noqa: S104 - a route, not an address to bind


def read(draft: Draft, top: Value) -> None:
    """Read a network-config; `network:` around it is optional."""
    inner = top.get("network")
    config = inner if inner and inner.kind == "mapping" else top
    version = config.get("version")
    listed = config.get("config")
    if listed and listed.kind == "text":
        draft.left(
            listed.place, "config", "it leaves the network to the image", "give the node a fixed address"
        )
    elif version and version.text == "1":
        _version_1(draft, listed.items if listed else [])
    else:
        _version_2(draft, config)


def _version_2(draft: Draft, config: Value) -> None:
    sections = {"ethernets", "wifis", "vlans", "version", "renderer"}
    for key, section in config.pairs.items():
        if key not in sections:
            draft.left(section.place, key, "a node has one link, wired or wireless")
            continue
        for name, port in section.pairs.items():
            found = Port(name, port.place)
            if key == "vlans":
                found.vlan = _text(port, "id")
                # a VLAN of a wireless link is a wireless link to `Port`
                found.name = _text(port, "link") or name
            elif key == "wifis":
                found.name = name if name.startswith("wl") else f"wl {name}"
                _access_points(draft, port)
            _settings(found, port)
            draft.ports.append(found)


def _settings(found: Port, port: Value) -> None:
    match = port.get("match")
    found.mac = (_text(match, "macaddress") if match else "") or _text(port, "macaddress")
    addresses = port.get("addresses")
    for item in addresses.items if addresses else ():
        found.addresses.extend([item.text] if item.text else item.pairs)
    found.gateways.extend(text for key in ("gateway4", "gateway6") if (text := _text(port, key)))
    routes = port.get("routes")
    for route in routes.items if routes else ():
        if _text(route, "to") in DEFAULT and (via := _text(route, "via")):
            found.gateways.append(via)
    if servers := port.get("nameservers"):
        found.dns.extend(_texts(servers, "addresses"))
        found.search.extend(_texts(servers, "search"))


def _access_points(draft: Draft, port: Value) -> None:
    country = _text(port, "regulatory_domain")
    draft.country = draft.country or country
    points = port.get("access_points")
    for ssid, point in points.pairs.items() if points else ():
        auth = point.get("auth")
        kind = _text(auth, "key_management") if auth else ""
        secret = _text(point, "password") or (_text(auth, "password") if auth else "")
        hidden = point.get("hidden")
        draft.networks.append(
            Network(
                point.place,
                octets(ssid),
                secret,
                kind={
                    "none": "NONE",
                    "psk": "WPA-PSK",
                    "sae": "SAE",
                    "eap": "WPA-EAP",
                    "802.1x": "IEEE8021X",
                }.get(kind, "WPA-PSK" if secret else "NONE"),
                hidden=bool(hidden and hidden.flag),
            )
        )


def octets(ssid: str) -> str:
    r"""Return the name of a network whose UTF-8 bytes were each written as `\xHH`, as Raspberry Pi Imager does."""
    try:
        return ssid.encode("latin-1").decode()
    except UnicodeError:
        return ssid


def _version_1(draft: Draft, items: list[Value]) -> None:
    for item in items:
        match _text(item, "type"):
            case "physical" | "vlan" as kind:
                found = Port(_text(item, "vlan_link") or _text(item, "name"), item.place)
                found.vlan = _text(item, "vlan_id") if kind == "vlan" else ""
                found.mac = _text(item, "mac_address")
                subnets = item.get("subnets")
                for subnet in subnets.items if subnets else ():
                    _subnet(found, subnet)
                draft.ports.append(found)
            case "nameserver":
                draft.dns.extend(_texts(item, "address"))
                draft.search.extend(_texts(item, "search"))
            case "route" if _text(item, "destination") in DEFAULT and draft.ports:
                draft.ports[-1].gateways.extend(_texts(item, "gateway"))
            case other:
                draft.left(item.place, other or "config", "a node has one wired link, with or without a VLAN")


def _subnet(found: Port, subnet: Value) -> None:
    address = _text(subnet, "address")
    if address:
        netmask = _text(subnet, "netmask")
        found.addresses.append(f"{address}/{netmask}" if netmask and "/" not in address else address)
    found.gateways.extend(_texts(subnet, "gateway"))
    found.dns.extend(_texts(subnet, "dns_nameservers"))
    found.search.extend(_texts(subnet, "dns_search"))
    routes = subnet.get("routes")
    for route in routes.items if routes else ():
        if (_text(route, "destination") or _text(route, "network")) in DEFAULT:
            found.gateways.extend(_texts(route, "gateway"))


def _text(value: Value, key: str) -> str:
    found = value.get(key)
    return found.text if found else ""


def _texts(value: Value, key: str) -> list[str]:
    found = value.get(key)
    return [text for item in found.items if (text := item.text)] if found else []
