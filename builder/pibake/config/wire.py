"""What may be said of nodes that boot from the wire."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from pibake.config.problems import Bad, nearest, show

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOTS = ("nfs", "nbd")
STATES = ("server", "ram")
DHCP = ("proxy", "server")
ADOPT = ("hand", "auto")
_PLAIN = "containers cannot live on a plain NFS folder: overlayfs refuses it as its upper layer"
_STATE_HINT = "it is server, ram, a label such as LABEL=data, or a disk such as /dev/sda"


@functools.lru_cache(maxsize=64)
def root(text: str) -> str:
    """Return how a node gets its root file system."""
    return _word(text, ROOTS, "a kind of root file system", "it is nfs or nbd")


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
    return _word(
        text, DHCP, "a part in DHCP", "it is proxy, beside a router that gives the addresses, or server"
    )


@functools.lru_cache(maxsize=64)
def adopt(text: str) -> str:
    """Return who says which board a node is that has neither `mac` nor `serial`."""
    hint = "it is hand, by `pibake adopt`, or auto, in the order in which boards appear"
    return _word(text, ADOPT, "a way to adopt boards", hint)


@functools.lru_cache(maxsize=64)
def window(text: str) -> int:
    """Return a length of time in seconds: `1h`, `90m`, `1h30m`."""
    found = re.fullmatch(r"(?=.)(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?", text)
    if not found:
        raise Bad(f"{show(text)} is not a length of time", "write it like 1h or 90m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    if not hours + minutes + seconds:
        raise Bad("no board would be adopted within no time", "leave `adopt` out, or write it like 1h")
    return hours * 3600 + minutes * 60 + seconds


@functools.lru_cache(maxsize=64)
def interface(text: str) -> str:
    """Return the name of a network interface (Linux, include/uapi/linux/if.h: 15 bytes, no `/` and no space)."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", text) or text in {".", ".."}:
        raise Bad(f"{show(text)} is not the name of a network interface", "`ip link` lists them")
    return text


def _word(text: str, words: Sequence[str], what: str, hint: str) -> str:
    if text not in words:
        raise Bad(f"{show(text)} is not {what}", nearest(text, words) or hint)
    return text
