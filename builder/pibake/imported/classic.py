"""Network configuration in the files of old images: interfaces(5), dhcpcd.conf(5), resolv.conf(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.imported.values import Network, Port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.imported.values import Draft

STANZAS = frozenset({"auto", "mapping", "source", "source-directory", "rename"})
"""Words that end an `iface` stanza, besides those that start with allow- or no- (interfaces(5))."""


def _lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every line that is not a comment, continued lines joined."""
    for raw in text.replace("\\\n", " ").splitlines():
        line = raw.strip()
        if line and not line.startswith("#"):
            yield line.split()


def interfaces(draft: Draft, text: str, place: str) -> None:
    """Read a file of /etc/network/interfaces(.d): static addresses, and Wi-Fi where it stands there."""
    port: Port | None = None
    wpa: dict[str, str] = {}
    for words in _lines(text):
        key, rest = words[0], words[1:]
        if key == "iface" and rest:
            name, _, tag = rest[0].partition(".")
            port = next((p for p in draft.ports if (p.name, p.place, p.vlan) == (name, place, tag)), None)
            if port is None:
                port = Port(name, place, vlan=tag)
                draft.ports.append(port)
        elif key in STANZAS or key.startswith(("allow-", "no-")):
            port = None
        elif key in {"wpa-ssid", "wpa-psk"}:
            wpa[key] = " ".join(rest).strip('"')
        elif port is not None and rest:
            _option(port, key, rest)
    if "wpa-ssid" in wpa:
        secret = wpa.get("wpa-psk", "")
        draft.networks.append(Network(place, wpa["wpa-ssid"], secret, kind="WPA-PSK" if secret else "NONE"))


def _option(port: Port, key: str, rest: list[str]) -> None:
    """Take one line of an `iface` stanza; a netmask stands on a line of its own, usually after the address."""
    match key:
        case "address":
            port.addresses.append(rest[0])
        case "netmask" if port.addresses and "/" not in port.addresses[-1]:
            port.addresses[-1] += f"/{rest[0]}"
        case "gateway":
            port.gateways.append(rest[0])
        case "dns-nameservers" | "dns-nameserver":
            port.dns.extend(rest)
        case "dns-search" | "dns-domain":
            port.search.extend(rest)


def dhcpcd(draft: Draft, text: str, place: str) -> None:
    """Read a dhcpcd.conf: `static` lines of an interface; a profile is what dhcpcd falls back to, and no address."""
    port = Port("", place)
    for words in _lines(text):
        key, rest = words[0], words[1:]
        if key in {"interface", "ssid", "profile"}:
            port = Port(rest[0] if rest else "", place)
            if key == "interface":
                draft.ports.append(port)
            elif key == "profile":
                draft.left(
                    place,
                    "profile",
                    "it is what dhcpcd falls back to without an answer, and pibake asks no DHCP server",
                )
        elif key in {"static", "inform"} and rest:
            name, _, first = " ".join(rest).partition("=")
            found = first.partition("#")[0].split()
            match name.strip():
                case "ip_address" | "ip6_address":
                    port.addresses.extend(found[:1])
                case "routers" | "ip6_routers":
                    port.gateways.extend(found)
                case "domain_name_servers":
                    (port.dns if port.name else draft.dns).extend(found)
                case "domain_name" | "domain_search":
                    (port.search if port.name else draft.search).extend(found)


def resolv_conf(draft: Draft, text: str) -> None:
    """Read a resolv.conf, or a head of one."""
    for words in _lines(text):
        if words[0] == "nameserver":
            draft.dns.extend(words[1:2])
        elif words[0] in {"search", "domain"}:
            draft.search.extend(words[1:])
