"""What users of a cluster.yaml may be: names, password hashes and public keys.

A value here may be a secret put in the wrong place, so no message repeats one that is not understood.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
import struct

from pibake.config.problems import Bad, nearest, show

KEY_TYPES = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
)  # fmt: skip
"""The public keys OpenSSH 9 accepts (sshd(8), AUTHORIZED_KEYS FILE FORMAT); DSA was dropped."""

SYSTEM_USERS = frozenset(
    {
        "backup",
        "bin",
        "daemon",
        "games",
        "irc",
        "list",
        "lp",
        "mail",
        "man",
        "news",
        "nobody",
        "proxy",
        "sync",
        "sys",
        "uucp",
        "www-data",
    }
)
"""Accounts every Debian and Ubuntu image has from the start (base-passwd)."""

HASHES = (
    re.compile(r"\$6\$(rounds=[0-9]{4,9}\$)?[./0-9A-Za-z]{0,16}\$[./0-9A-Za-z]{86}"),
    re.compile(r"\$5\$(rounds=[0-9]{4,9}\$)?[./0-9A-Za-z]{0,16}\$[./0-9A-Za-z]{43}"),
    re.compile(r"\$g?y\$[./0-9A-Za-z]+\$[./0-9A-Za-z]{0,86}\$[./0-9A-Za-z]{43}"),
    re.compile(r"\$2[aby]\$[0-9]{2}\$[./0-9A-Za-z]{53}"),
)
"""SHA-512, SHA-256, yescrypt and bcrypt, as crypt(5) writes them; older methods are too weak to ship."""

HASH_HINT = "`openssl passwd -6` asks for a password and prints its hash; put that under `password_hash`"
KEY_HINT = 'write it like "ssh-ed25519 AAAA... me@laptop", or name the file: {file: ~/.ssh/id_ed25519.pub}'


@functools.lru_cache(maxsize=1024)
def username(text: str) -> str:
    """Return a login name by the rule of useradd(8): 32 characters, starting with a letter or underscore."""
    if text == "root":
        raise Bad(
            "root cannot be a user here: its login stays closed",
            "name a user of your own; it gets `sudo: true`",
        )
    if text in SYSTEM_USERS:
        raise Bad(f"{text} is an account of the system's own", "choose another name, such as ops")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", text):
        raise Bad(
            f"{show(text)} is not a user name", "use a-z, 0-9, hyphens and underscores, 32 characters at most"
        )
    return text


@functools.lru_cache(maxsize=1024)
def group(text: str) -> str:
    """Return a group name by the rule of groupadd(8)."""
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", text):
        raise Bad(
            f"{show(text)} is not a group name",
            "use a-z, 0-9, hyphens and underscores, 32 characters at most",
        )
    return text


@functools.lru_cache(maxsize=1024)
def shell(text: str) -> str:
    """Return the absolute path of a login shell."""
    if not re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", text):
        raise Bad(f"{show(text)} is not the full path of a shell", "write it like /bin/bash")
    return text


@functools.lru_cache(maxsize=1024)
def password_hash(text: str) -> str:
    """Return a password's hash as /etc/shadow holds it; anything else may be the password and is not repeated."""
    if not any(method.fullmatch(text) for method in HASHES):
        if text.startswith("$1$"):
            raise Bad("this is an MD5 hash, which is quick to break", HASH_HINT)
        raise Bad("this is not a password hash that crypt(5) knows", HASH_HINT)
    return text


@functools.lru_cache(maxsize=4096)
def public_key(text: str) -> str:
    """Return an SSH public key: `type base64 [comment]` on one line.

    The base64 holds length-prefixed fields, of which the first repeats the type (RFC 4253 section 6.6), so that
    a key that was cut short or put together from two is found here and not at the first login.
    """
    if "PRIVATE KEY" in text:
        raise Bad(
            "this is a private key; it must stay where it is", "give the public half: the file ending in .pub"
        )
    words = text.split(None, 2)
    if "\n" in text.strip() or any(not c.isprintable() for c in text.strip()):
        raise Bad("an SSH key stands on one line", KEY_HINT)
    if not words or words[0] not in KEY_TYPES:
        raise _unknown_type(words)
    if len(words) < 2 or not _holds(words[1], words[0]):
        raise Bad(f"this {words[0]} key is damaged: it was cut short or changed on the way", KEY_HINT)
    return " ".join(words)


def _unknown_type(words: list[str]) -> Bad:
    kind = words[0] if words else ""
    if kind in {"ssh-dss", "ssh-dsa"}:
        return Bad("DSA keys are not accepted by OpenSSH any more", "make one with `ssh-keygen -t ed25519`")
    if any(word in KEY_TYPES for word in words):
        return Bad(
            "options before an SSH key are not supported", "start with the key's type, as in its .pub file"
        )
    if "-cert-v01@openssh.com" in kind:
        return Bad("this is an SSH certificate, not a public key", "give the key that it certifies")
    guess = nearest(kind, KEY_TYPES) if re.fullmatch(r"[a-z0-9@.-]{3,40}", kind) else ""
    return Bad("this is not an SSH public key", guess or KEY_HINT)


def _holds(encoded: str, kind: str) -> bool:
    """Tell whether base64 text is a whole key of this type."""
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return False
    fields = []
    while blob:
        if len(blob) < 4 or len(blob) - 4 < (size := struct.unpack(">I", blob[:4])[0]):
            return False
        fields.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    ed25519 = len(fields) > 1 and "ed25519" in kind
    return len(fields) >= 2 and fields[0] == kind.encode() and not (ed25519 and len(fields[1]) != 32)


def key_file(text: str) -> tuple[str, ...]:
    """Return the keys of a .pub or authorized_keys file: one a line, between blank lines and comments."""
    if "PRIVATE KEY" in text:
        raise Bad("it holds a private key; that must stay where it is", "name the file ending in .pub")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    keys = []
    for number, line in lines:
        if line and not line.startswith("#"):
            try:
                keys.append(public_key(line))
            except Bad as bad:
                raise Bad(f"line {number}: {bad.message}", bad.hint) from None
    if not keys:
        raise Bad("it holds no key", KEY_HINT)
    return tuple(keys)
