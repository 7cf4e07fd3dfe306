"""What may be said of nodes that boot from the wire."""

from __future__ import annotations

import functools
import re

from pibake.config.problems import Bad, nearest, show

ROOTS = ("nfs", "nbd")
STATES = ("server", "ram")
DHCP = ("proxy", "server")
_PLAIN = "containers cannot live on a plain NFS folder: overlayfs refuses it as its upper layer"
_STATE_HINT = "it is server, ram, a label such as LABEL=data, or a disk such as /dev/sda"


@functools.lru_cache(maxsize=64)
def root(text: str) -> str:
    """Return how a node gets its root file system."""
    if text not in ROOTS:
        raise Bad(
            f"{show(text)} is not a kind of root file system", nearest(text, ROOTS) or "it is nfs or nbd"
        )
    return text


@functools.lru_cache(maxsize=64)
def state(text: str) -> str:
    """Return where a node's own files live: a word, `LABEL=` with a label of ext4 (16 bytes at most), or a device."""
    if text in STATES or re.fullmatch(r"LABEL=[A-Za-z0-9_.+-]{1,16}|/dev(/[A-Za-z0-9_.:+-]+)+", text):
        return text
    if text.lower() in {"nfs", "plain", "folder", "directory"}:
        raise Bad(_PLAIN, "`state: server` keeps them in an ext4 file on the server")
    raise Bad(f"{show(text)} is no place for a node's own files", nearest(text, STATES) or _STATE_HINT)


@functools.lru_cache(maxsize=64)
def dhcp(text: str) -> str:
    """Return what part `pibake serve` takes in DHCP."""
    if text not in DHCP:
        hint = "it is proxy, beside a router that gives the addresses, or server"
        raise Bad(f"{show(text)} is not a part in DHCP", nearest(text, DHCP) or hint)
    return text


@functools.lru_cache(maxsize=64)
def interface(text: str) -> str:
    """Return the name of a network interface (Linux, include/uapi/linux/if.h: 15 bytes, no `/` and no space)."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", text) or text in {".", ".."}:
        raise Bad(f"{show(text)} is not the name of a network interface", "`ip link` lists them")
    return text
