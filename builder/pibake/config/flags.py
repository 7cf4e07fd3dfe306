"""A cluster of one node, from flags: `pibake build --hostname node3 --address ...` without a cluster.yaml.

The flags become the same values a file would hold, so the same models and rules judge them; only the place in a
message differs: a flag instead of a line.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from pibake.config import accounts, names, values
from pibake.config.model import DEFAULT_BASE, DEFAULT_DOMAIN
from pibake.config.problems import Bad, Loc, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ALONE = "without a cluster.yaml"
CLUSTER = "adhoc"
USER = "pi"
ANY = "0.0.0.0/0"
KEY_HINT = "give a key, a .pub file or an https URL: --ssh-key ~/.ssh/id_ed25519.pub"

FLAGS: tuple[tuple[Loc, str], ...] = (
    (("nodes", 0, "hostname"), "--hostname"),
    (("nodes", 0, "address"), "--address"),
    (("nodes", 0, "base"), "--base"),
    (("network", "gateway"), "--gateway"),
    (("network", "dns"), "--dns"),
    (("network",), "--address"),
    (("users", 0, "name"), "--user"),
    (("users",), "--ssh-key"),
    (("domain",), "--hostname"),
)
"""Place in the values -> the flag they came from; the first that fits."""


def values_of(
    *,
    hostname: str,
    base: str,
    address: str,
    gateway: str,
    dns: Sequence[str],
    ssh_keys: Sequence[str],
    user: str,
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values a file would hold, and which flags are missing."""
    network = {"subnet": _subnet(address), "gateway": gateway or None, "dns": list(dns) or None}
    data = {
        "cluster": CLUSTER,
        "domain": _domain(hostname),
        "network": {key: found for key, found in network.items() if found is not None},
        "users": [{"name": user or USER, "ssh_keys": [_key(text) for text in ssh_keys]}],
        "nodes": [{"hostname": hostname, "address": address, "base": _base(base or DEFAULT_BASE)}],
    }
    return data, list(_missing(address, ssh_keys))


def _domain(hostname: str) -> str:
    """Return the domain of a full name; of a faulty name any, since its fault is told already."""
    try:
        return names.hostname(hostname).partition(".")[2] or DEFAULT_DOMAIN
    except Bad:
        return DEFAULT_DOMAIN


def _missing(address: str, ssh_keys: Sequence[str]) -> Iterator[Problem]:
    if not address:
        yield Problem(("nodes", 0, "address"), f"{ALONE}, a node needs its address", values.ADDRESS_HINT)
    elif "/" not in address:
        hint = f"write {address}/24" if "." in address else f"write {address}/64"
        yield Problem(("nodes", 0, "address"), f"{ALONE}, the address needs its prefix", hint)
    if not ssh_keys:
        yield Problem(("users", 0, "ssh_keys"), f"{ALONE}, a node needs a key to log in with", KEY_HINT)


def _subnet(address: str) -> str:
    """Return the subnet an address implies; any subnet where it implies none, since that is told already."""
    try:
        values.address(address)
        return str(ipaddress.ip_interface(address).network) if "/" in address else ANY
    except (Bad, ValueError):
        return ANY


def _key(text: str) -> str | dict[str, str]:
    """Tell keys, URLs and files apart: a key starts with its type, a URL with its scheme."""
    if "PRIVATE KEY" in text or text.split(None, 1)[:1] == [] or text.split(None, 1)[0] in accounts.KEY_TYPES:
        return text
    return {"url": text} if "://" in text else {"file": text}


def _base(text: str) -> str | dict[str, str]:
    """Read `NAME`, or `FILE#sha256=...` or `URL#sha256=...`, the way pip writes a digest behind a link."""
    where, mark, digest = text.partition("#sha256=")
    if not mark and "/" not in text:
        return text
    image = {"url" if "://" in where else "file": where}
    return {**image, "sha256": digest} if mark else image


def render(problems: Iterable[Problem]) -> list[str]:
    """Return the problems as text, by flag; what only follows from a missing flag is left out."""
    order = [flag for _, flag in FLAGS]
    told = sorted(
        ((_flag(problem.loc), problem) for problem in problems), key=lambda item: order.index(item[0])
    )
    missing = {flag for flag, problem in told if problem.message.startswith(ALONE)}
    texts: dict[str, None] = {}
    for flag, problem in told:
        if flag not in missing or problem.message.startswith(ALONE):
            message, hint = _translated(problem)
            texts[f"{flag}: {message}" + (f"\n   hint: {hint}" if hint else "")] = None
    return list(texts)


def _translated(problem: Problem) -> tuple[str, str]:
    """Return message and hint, with a base's mapping written as the flag takes it."""
    if problem.message.startswith("`sha256` is missing"):
        return (
            "an image of your own needs its SHA-256 digest",
            "write FILE#sha256=<64 hex digits>; `sha256sum FILE` prints it",
        )
    return problem.message, problem.hint.replace(
        "{url: ..., sha256: ...}", "FILE#sha256=... or URL#sha256=..."
    )


def _flag(loc: Loc) -> str:
    return next((flag for place, flag in FLAGS if loc[: len(place)] == place), "--hostname")
