"""What the texts of add-ons' options may be, by the `format` of the catalogue's schema."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import TYPE_CHECKING, Any

from pibake.config import names, values
from pibake.config.problems import Bad, show

if TYPE_CHECKING:
    from collections.abc import Callable

Range = tuple[values.IPAddress, values.IPAddress]
"""The first and the last address of a pool."""


POOL_HINT = "write it like 192.168.10.240-192.168.10.250 or 192.168.10.240/28"


@functools.lru_cache(maxsize=4096)
def ip_range(text: str) -> Range:
    """Return a pool of addresses: `A-B`, both included, or a subnet."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash:
        return _whole(text)
    try:
        low, high = values.ip(first), values.ip(last)
    except Bad as bad:
        raise Bad(bad.message, POOL_HINT) from None
    if low.version != high.version or int(low) > int(high):
        raise Bad(f"{show(text)} ends before it begins", "the lower address comes first")
    return low, high


def _whole(text: str) -> Range:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Bad(f"{show(text)} is not a range of addresses", POOL_HINT) from None
    if "/" not in text:
        raise Bad(f"{show(text)} is one address, and a range belongs here", f"write {network}")
    if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise Bad(f"{show(text)} is an address in a subnet, not a subnet", f"write {network}")
    return network[0], network[-1]


def email(text: str) -> str:
    """Return an address of electronic mail."""
    if not re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", text):
        raise Bad(f"{show(text)} is not an e-mail address", "write it like me@example.org")
    return text


def quantity(text: str) -> str:
    """Return an amount as Kubernetes writes it (apimachinery, `resource.Quantity`): 10Gi, 500m, 2."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?", text):
        unit = re.fullmatch(r"([0-9]+)\s*([KMGT])i?B?", text, re.IGNORECASE)
        hint = f"write {unit[1]}{unit[2].upper()}i" if unit else "write it like 10Gi"
        raise Bad(f"{show(text)} is not an amount", hint)
    return text


def host_port(text: str) -> str:
    """Return a host and a port: `name:9100`, `192.168.10.2:9100` or `[fd00::2]:9100`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Bad(f"{show(text)} is not a host with a port", "write it like nas.lab.example:9100")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare or re.fullmatch(r"[0-9.]+", bare):
        values.ip(bare)
    else:
        names.domain(bare)
    return text


def chart_repo(text: str) -> str:
    """Return where charts are: a chart repository's URL, or an OCI registry's."""
    return values.url(text, ("https", "oci", "http"), "Helm gets charts by https, http or oci")


def chart_name(text: str) -> str:
    """Return a chart's name (Helm, "Charts": letters, digits, dashes; some have dots and underscores)."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        hint = "its folder in an OCI registry belongs to `repo`" if "/" in text else "write it like my-app"
        raise Bad(f"{show(text)} is not the name of a chart", hint)
    return text


def chart_version(text: str) -> str:
    """Return a chart's version, whole (semver.org 2.0.0; some have a `v` before it)."""
    if not re.fullmatch(
        r"v?(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", text
    ):
        raise Bad(f"{show(text)} is not the version of a chart", "write all three numbers, as in 1.2.3")
    return text


def image(text: str) -> str:
    """Return the reference of a container image, with its tag or digest."""
    if not re.fullmatch(
        r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9._-]+)+(:[\w.-]+)?(@sha256:[0-9a-f]{64})?", text
    ):
        raise Bad(
            f"{show(text)} is not a whole name of an image", "write it like docker.io/library/nginx:1.29"
        )
    if not re.search(r":[\w.-]+$", text):
        raise Bad(f"{show(text)} has no tag", f"write it like {text}:1.2.3")
    return text


def _url(text: str) -> str:
    return values.url(text, ("https", "http"), "add-ons are told of http and https only")


def _duration(text: str) -> str:
    if not re.fullmatch(r"([0-9]+(ms|[smhdwy]))+", text):
        raise Bad(f"{show(text)} is not a length of time", "write it like 30s, 24h or 15d")
    return text


FORMATS: dict[str, Callable[[str], Any]] = {
    "ip": lambda text: str(values.ip(text)),
    "cidr": lambda text: str(values.subnet(text)),
    "ip-range": lambda text: _joined(ip_range(text), text),
    "hostname": names.domain,
    "email": email,
    "url": _url,
    "quantity": quantity,
    "host-port": host_port,
    "duration": _duration,
    "file": values.filename,
    "secret-file": values.filename,
}
"""Format -> what reads it."""


def _joined(pool: Range, text: str) -> str:
    return f"{pool[0]}-{pool[1]}" if "-" in text else text
