"""What the single values of a cluster.yaml may be.

Every parser takes the text as it was typed and returns the typed value, or raises `Bad` with a sentence and a hint.
The results are cached: the models and the rules between values ask for the same texts.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import zoneinfo
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pibake.config.problems import Bad, nearest, show

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

ADDRESS_HINT = "write it like 192.168.10.13/24"
ADDRESS6_HINT = "write it like fd00:10::13/64"


def _cached(parse: Callable[[str], T]) -> Callable[[str], T]:
    return functools.lru_cache(maxsize=4096)(parse)


@_cached
def subnet(text: str) -> IPNetwork:
    """Return the subnet, whose host bits must be zero."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Bad(f"{show(text)} is not an IPv4 or IPv6 subnet", "write it like 192.168.10.0/24") from None
    if "/" not in text:
        raise Bad(
            f"{show(text)} has no prefix length",
            f"write it like {text}/24" if network.version == 4 else f"write it like {text}/64",
        )
    if not text.rpartition("/")[2].isdecimal():
        raise Bad(f"{show(text)} gives a netmask, not a prefix length", f"write {network}")
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise Bad(f"{show(text)} is an address in a subnet, not a subnet", f"write {network}")
    if network.is_multicast or network.is_loopback or network.num_addresses < 2:
        raise Bad(f"{show(text)} cannot hold nodes", "write it like 192.168.10.0/24")
    return network


@_cached
def address(text: str) -> IPAddress:
    """Return an address; a prefix may follow it, and is compared with the subnet's by the rules."""
    bare, slash, prefix = text.partition("/")
    found = _ip(bare)
    if found is None or (slash and not (prefix.isdecimal() and int(prefix) <= found.max_prefixlen)):
        raise Bad(f"{show(text)} is not an IPv4 or IPv6 address with a prefix", _address_hint(text))
    return found


def _address_hint(text: str) -> str:
    """Return what was meant by octets with leading zeros, or by a netmask after the slash."""
    plain = re.sub(r"\b0+(?=[0-9])", "", text) if text.count(".") >= 3 else text
    try:
        meant = str(ipaddress.IPv4Interface(plain))
    except ValueError:
        return ADDRESS_HINT
    return f"write {meant}: a leading 0 can mean octal" if plain != text else f"write {meant}"


@_cached
def subnet6(text: str) -> ipaddress.IPv6Network:
    """Return an IPv6 subnet."""
    found = subnet(text)
    if not isinstance(found, ipaddress.IPv6Network):
        raise Bad(f"{found} is an IPv4 subnet, and an IPv6 subnet belongs here", "write it like fd00:10::/64")
    return found


@_cached
def address6(text: str) -> ipaddress.IPv6Address:
    """Return an IPv6 address; a prefix may follow it, as with `address`."""
    if _ip(text.partition("/")[0]) is None:
        raise Bad(f"{show(text)} is not an IPv6 address with a prefix", ADDRESS6_HINT)
    found = address(text)
    if not isinstance(found, ipaddress.IPv6Address):
        raise Bad(f"{found} is an IPv4 address, and an IPv6 address belongs here", ADDRESS6_HINT)
    return found


@_cached
def ip6(text: str) -> ipaddress.IPv6Address:
    """Return a bare IPv6 address, for a gateway."""
    found = ip(text)
    if not isinstance(found, ipaddress.IPv6Address):
        raise Bad(f"{found} is an IPv4 address, and an IPv6 address belongs here", "write it like fd00:10::1")
    return found


@_cached
def ip(text: str) -> IPAddress:
    """Return a bare address, for gateways and name servers."""
    found = _ip(text)
    if found is None:
        bare = text.partition("/")[0]
        hint = f"write {bare}, without the prefix" if _ip(bare) else "write it like 192.168.10.1"
        raise Bad(f"{show(text)} is not an IPv4 or IPv6 address", hint)
    return found


def _ip(text: str) -> IPAddress | None:
    try:
        # a zone (fe80::1%eth0) names an interface of this host, not of the node
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


@_cached
def vlan(text: str) -> int:
    """Return a VLAN id; 0 and 4095 are reserved by IEEE 802.1Q section 9.6."""
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text) or int(text) > 4094:
        octal = re.fullmatch(r"0+[0-9]+", text)
        raise Bad(
            f"{show(text)} is not a VLAN id",
            f"write {int(text)}: a leading 0 can mean octal"
            if octal and int(text)
            else "it is a number from 1 to 4094",
        )
    return int(text)


@_cached
def boolean(text: str) -> bool:
    """Return true or false; YAML 1.1's yes, no, on and off are refused because editors' YAML 1.2 calls them text."""
    if text not in {"true", "false"}:
        yes = text.lower() in {"yes", "y", "on", "1", "true"}
        no = text.lower() in {"no", "n", "off", "0", "false"}
        hint = "write true" if yes else "write false" if no else ""
        raise Bad(f"{show(text)} is neither true nor false", hint)
    return text == "true"


@_cached
def mac(text: str) -> str:
    """Return a MAC address as `dc:a6:32:01:02:03`; hyphens and capitals are understood."""
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text):
        raise Bad(f"{show(text)} is not a MAC address", "write it like dc:a6:32:01:02:03")
    plain = text.lower().replace("-", ":")
    # IEEE 802 section 8.2: the lowest bit of the first octet marks a group of stations
    if int(plain[:2], 16) & 1:
        raise Bad(
            f"{plain} is a multicast address, which no board has",
            "a Raspberry Pi's starts with dc:a6:32, d8:3a:dd or the like",
        )
    if plain == "00:00:00:00:00:00":
        raise Bad(f"{plain} is no board's address", "read the board's with `ip link show eth0`")
    return plain


@_cached
def serial(text: str) -> str:
    """Return the low 8 hex digits of a board's serial number, which is what its boot loader asks TFTP for."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}([0-9a-fA-F]{8})?", text) or not int(text[-8:], 16):
        raise Bad(
            f"{show(text)} is not a board's serial number",
            "give the 16 hex digits of /proc/cpuinfo, or the last 8 of them",
        )
    return text[-8:].lower()


@_cached
def memory(text: str) -> int:
    """Return the size of a board's memory in MiB."""
    mib = _mib(text)
    if not 256 <= mib <= 64 * 1024:
        raise Bad(f"{show(text)} is not the size of a board's memory", _size_hint(text, "4GiB or 512MiB"))
    return mib


@_cached
def disk(text: str) -> int:
    """Return the size of a node's disk in MiB: at least what a base and its packages fill, at most what ext4 holds."""
    mib = _mib(text)
    if 0 < mib < 4 << 10:
        raise Bad(f"{show(text)} is too small for a node's disk", "4GiB is the least")
    if not 0 < mib <= 16 << 20:
        raise Bad(f"{show(text)} is not the size of a node's disk", _size_hint(text, "16GiB"))
    return mib


def _mib(text: str) -> int:
    """Return a size in MiB, or 0 if it is none."""
    found = re.fullmatch(r"([1-9][0-9]{0,8})(MiB|GiB)", text)
    return int(found[1]) * (1024 if found[2] == "GiB" else 1) if found else 0


def _size_hint(text: str, like: str) -> str:
    plain = re.fullmatch(r"([1-9][0-9]?)\s*(?:g|gi|gb|gib)?", text.lower())
    return f"write {plain[1]}GiB" if plain and not _mib(text) else f"write it like {like}"


@_cached
def locale(text: str) -> str:
    """Return a locale name as setlocale(3) takes it."""
    if not re.fullmatch(r"(C|POSIX|[a-z]{2,3}_[A-Z]{2})(\.[A-Za-z0-9-]+)?(@[a-z]+)?", text):
        raise Bad(f"{show(text)} is not a locale", "write it like C.UTF-8 or en_GB.UTF-8")
    return text


@_cached
def timezone(text: str) -> str:
    """Return the name of a time zone of the tz database."""
    try:
        zoneinfo.ZoneInfo(text)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        known = zoneinfo.available_timezones()
        by_case = {name.lower(): name for name in known}
        # a host without tzdata knows no zone at all and cannot judge
        if known or not re.fullmatch(r"[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+){0,2}", text):
            meant = by_case.get(text.lower().replace(" ", "_"))
            hint = f"did you mean `{meant}`?" if meant else nearest(text, known) or nearest_city(text, known)
            raise Bad(
                f"{show(text)} is not a time zone", hint or "write it like Etc/UTC or Europe/Berlin"
            ) from None
    return text


def nearest_city(text: str, known: set[str]) -> str:
    """Return a hint for a zone named by its city alone."""
    city = text.rpartition("/")[2].replace(" ", "_").lower()
    found = sorted(name for name in known if name.lower().endswith(f"/{city}"))
    return f"did you mean `{found[0]}`?" if found else ""


def url(text: str, schemes: tuple[str, ...], why: str) -> str:
    """Return a URL with one of the schemes and a host."""
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or re.search(r"\s", text):
        raise Bad(f"{show(text)} is not a URL", f"write it like {schemes[0]}://files.lab.example/name")
    if parts.username or parts.password:
        raise Bad(
            "this URL carries a user name or password",
            "the plan and the manifest would repeat it; serve the file without",
        )
    if parts.scheme not in schemes:
        raise Bad(f"{parts.scheme}:// is not used here: {why}", f"write {schemes[0]}://...")
    return text


@_cached
def image_url(text: str) -> str:
    """Return the URL of a base image; plain http will do, because the digest is known."""
    return url(text, ("https", "http"), "images come by http or https")


@_cached
def key_url(text: str) -> str:
    """Return the URL of public keys, where only https keeps others from slipping theirs in."""
    return url(text, ("https",), "whoever can change the answer could log in to every node")


@_cached
def sha256(text: str) -> str:
    """Return a SHA-256 digest in lower case."""
    bare = text.lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", bare):
        raise Bad(f"{show(text)} is not a SHA-256 digest of 64 hex digits", "`sha256sum FILE` prints it")
    return bare


@_cached
def filename(text: str) -> str:
    """Return a path that a file can have."""
    if not text.strip() or "\0" in text:
        raise Bad(f"{show(text)} is not the path of a file")
    return text


@_cached
def overlay(text: str) -> str:
    """Return the name of an overlay folder, which is one path component."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise Bad(
            f"{show(text)} is not the name of an overlay", "name a folder in overlays/ beside cluster.yaml"
        )
    return text


@_cached
def hook(text: str) -> str:
    """Return the name of a hook, which is one path component."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise Bad(f"{show(text)} is not the name of a hook", "name a program in hooks/ beside cluster.yaml")
    return text


@_cached
def package(text: str) -> str:
    """Return a package: a name (Debian Policy 5.6.1), or a path of packages, which holds a slash."""
    if "/" in text:
        return filename(text)
    if text.endswith(".deb"):
        raise Bad(f"{show(text)} is not the name of a package", f"a file is named with a slash: ./{text}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", text):
        name = re.match(r"[a-z0-9][a-z0-9+.-]+(?=[=:/ ])", text)
        raise Bad(
            f"{show(text)} is not the name of a package",
            f"write {name[0]}: the version is that of the base's sources"
            if name
            else "write it like nftables",
        )
    return text
