"""Kubernetes' own rules for what a node may be called and labelled, and which boards it may be."""

from __future__ import annotations

import functools
import re

from pibake.boards import BOARDS
from pibake.config.problems import Bad, listing, nearest, show

NOT_BOARDS = {
    **dict.fromkeys(
        ("pi1", "zero", "zerow", "cm1"),
        "it has a processor older than ARMv7, for which there is no Kubernetes",
    ),
    **dict.fromkeys(("pico", "pico2"), "it is a microcontroller"),
}

ROLES = {
    "server": "runs the control plane",
    "agent": "runs the workload",
}
ROLE_WORDS = {
    "master": "server",
    "control-plane": "server",
    "controlplane": "server",
    "worker": "agent",
    "node": "agent",
}

KUBELET_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
KUBELET_LABELS = (
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch", "kubernetes.io/hostname", "kubernetes.io/os",
    "topology.kubernetes.io/region", "topology.kubernetes.io/zone",
)  # fmt: skip
"""What a kubelet may say of itself below `kubernetes.io` (NodeRestriction); given others, it does not start."""


@functools.lru_cache(maxsize=1024)
def board(text: str) -> str:
    """Return a board's id."""
    if text not in BOARDS:
        plain = re.sub(
            r"^(raspberry-?|rpi-?|r)?(?=pi|zero|cm|\d)", "", text.lower().replace("_", "-").replace(" ", "")
        )
        plain = f"pi{plain}" if plain[:1].isdigit() else plain
        if plain in NOT_BOARDS:
            raise Bad(
                f"{show(text)} cannot be a node: {NOT_BOARDS[plain]}", f"the boards are {listing(BOARDS)}"
            )
        known = {
            "pi2b": "pi2",
            "pi3b": "pi3",
            "pi4b": "pi4",
            "pi5b": "pi5",
            "pi3b-plus": "pi3b+",
            "any": "generic",
        }.get(plain)
        hint = f"did you mean `{known}`?" if known else nearest(plain, BOARDS)
        raise Bad(f"{show(text)} is not a board pibake knows", hint or f"the boards are {listing(BOARDS)}")
    return text


@functools.lru_cache(maxsize=1024)
def role(text: str) -> str:
    """Return a node's role."""
    if text not in ROLES:
        meant = ROLE_WORDS.get(text.lower())
        hint = f"did you mean `{meant}`?" if meant else nearest(text, ROLES)
        raise Bad(f"{show(text)} is not a role", hint or "a node is a server (control plane) or an agent")
    return text


@functools.lru_cache(maxsize=4096)
def label_key(text: str) -> str:
    """Return a label's key: `name` or `prefix/name` (Kubernetes: "Labels and Selectors", syntax and character set)."""
    prefix, slash, name = text.rpartition("/")
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", name):
        raise Bad(
            f"{show(text)} is not a label's key",
            "letters, digits, - _ and . inside, 63 at most, as in disk or example.com/disk",
        )
    part = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if slash and not (len(prefix) <= 253 and re.fullmatch(rf"{part}(\.{part})*", prefix)):
        raise Bad(f"{show(text)} has a prefix that is not a domain name", "write it like example.com/disk")
    reserved = prefix in {"kubernetes.io", "k8s.io"} or prefix.endswith((".kubernetes.io", ".k8s.io"))
    allowed = text in KUBELET_LABELS or any(prefix == p or prefix.endswith(f".{p}") for p in KUBELET_PREFIXES)
    if reserved and not allowed:
        raise Bad(
            f"{show(text)} is a label that no node may give itself: its kubelet would not start",
            "use a name of your own, or node.kubernetes.io/...; set this one later with `kubectl label node`",
        )
    return text


@functools.lru_cache(maxsize=4096)
def label_value(text: str) -> str:
    """Return a label's value, which may be empty."""
    if text and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", text):
        raise Bad(
            f"{show(text)} is not a label's value", "letters and digits, with - _ and . inside, 63 at most"
        )
    return text
