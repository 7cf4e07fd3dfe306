"""Tokens that nodes join with, and their shapes.

k3s: `K10<hash of the CA>::<user>:<password>` (pkg/clientaccess/token.go). kubeadm: `[a-z0-9]{6}.[a-z0-9]{16}`
(k8s.io/cluster-bootstrap/token/api), and 32 bytes in hex for the certificates it uploads.
"""

from __future__ import annotations

import re
import secrets
import string
from typing import TYPE_CHECKING

from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

K3S_USERS: Mapping[str, str] = {"server": "server", "agent": "node"}
"""Kind of k3s token -> the user it is for."""

K3S = re.compile(r"K10(?P<pin>[0-9a-f]{64})::(?P<user>server|node):(?P<password>[^\s:]{16,})")
SHAPES: Mapping[str, tuple[re.Pattern[str], str]] = {
    "server": (K3S, "K10<sha256 of the CA>::server:<password of 16 characters or more>"),
    "agent": (K3S, "K10<sha256 of the CA>::node:<password of 16 characters or more>"),
    "bootstrap": (
        re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}"),
        "6 and 16 small letters or digits, with a dot between",
    ),
    "certificate-key": (re.compile(r"[0-9a-f]{64}"), "64 hexadecimal digits"),
    "node-password": (re.compile(r"[0-9a-f]{32}"), "32 hexadecimal digits"),
}
"""Kind of token -> what it looks like, for programs and for people."""

ALPHABET = string.ascii_lowercase + string.digits
PASSWORD = string.ascii_letters + string.digits
"""What passwords are made of: nothing that a shell, a URL or YAML reads as anything else."""
SHORTEST = 8


def new(kind: str, pin: str = "") -> Secret:
    """Return a new token; one of k3s' is tied to the CA whose hash is `pin`."""
    if kind in K3S_USERS:
        return k3s(kind, pin, secrets.token_hex(16))
    if kind == "bootstrap":
        return Secret(f"{_letters(6)}.{_letters(16)}")
    return Secret(secrets.token_hex(32 if kind == "certificate-key" else 16))


def password(length: int) -> Secret:
    """Return a new password for people and programs."""
    return Secret("".join(secrets.choice(PASSWORD) for _ in range(length)))


def k3s(kind: str, pin: str, password: str) -> Secret:
    """Return the k3s token of a password."""
    return Secret(f"K10{pin}::{K3S_USERS[kind]}:{password}")


def repinned(kind: str, token: Secret, pin: str) -> Secret:
    """Return the same k3s token for another CA."""
    return k3s(kind, pin, token.reveal().rpartition(":")[2])


def problem(kind: str, token: Secret, pin: str) -> str:
    """Return what is wrong with a token, as it reads after its name, or ""; `pin` is the CA's hash."""
    pattern, described = SHAPES[kind]
    match = pattern.fullmatch(token.reveal())
    if not match or (kind in K3S_USERS and match["user"] != K3S_USERS[kind]):
        return f"has the wrong shape; it should be {described}"
    if kind in K3S_USERS and match["pin"] != pin:
        return "is for another certificate authority than this cluster's"
    return ""


def _letters(count: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(count))
