"""SSH host keys (Ed25519), and what clients know them by.

Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"; the fingerprint is ssh-keygen's, SHA-256 of the key in Base64.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pibake.identity.model import HostKey
from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pibake.identity.model import Secrets


def new(hostname: str) -> HostKey:
    """Return a new host key; its comment is the node's name."""
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return HostKey(Secret(private.decode()), f"{_public(key)} {hostname}")


def problem(key: HostKey) -> str:
    """Return what is wrong with a host key, as it reads after its name, or ""."""
    try:
        private = serialization.load_ssh_private_key(key.private.reveal().encode(), None)
    except (ValueError, TypeError):
        return "is not an OpenSSH private key without a passphrase"
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        return "is not an Ed25519 key"
    if key.public.split()[:2] != _public(private).split():
        return "does not match its public key"
    return ""


def fingerprint(key: HostKey) -> str:
    """Return a key's fingerprint as `ssh-keygen -l` shows it."""
    digest = hashlib.sha256(base64.b64decode(key.public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def known_hosts(secrets: Secrets, names: Mapping[str, Sequence[str]]) -> str:
    """Return the known_hosts lines of nodes; `names` holds what each is called by, addresses too."""
    lines = []
    for hostname, called in names.items():
        kind, key = secrets.node(hostname).host_key.public.split()[:2]
        lines.append(f"{','.join(dict.fromkeys(called))} {kind} {key}\n")
    return "".join(lines)


def _public(key: ed25519.Ed25519PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
