"""Encryption at rest with age (age-encryption.org/v1), by recipients: age keys or SSH keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pibake.errors import MissingTool, PibakeError
from pibake.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAKE_ONE = (
    "`age-keygen -o key.txt` makes a key and prints its recipient; an SSH key (ed25519 or RSA) will do too"
)


def encrypt(text: Secret, recipients: Sequence[str]) -> bytes:
    """Return `text` encrypted so that each of `recipients` can read it."""
    return bytes(_age().encrypt(text.reveal().encode(), [_recipient(line) for line in recipients]))


def decrypt(data: bytes, identity_file: Path, source: str) -> Secret:
    """Return what `data` says to the owner of the keys in `identity_file`.

    Raises:
        PibakeError: the keys are unusable, or `source`, which the data came from, is not encrypted to them.
    """
    identities = list(_identities(identity_file))
    try:
        return Secret(_age().decrypt(data, identities).decode())
    except (_age().DecryptError, UnicodeDecodeError):
        raise PibakeError(
            f"{source} cannot be decrypted with {identity_file}: it is damaged, or for other keys",
            "recipients.txt beside it says for which; name the key with --age-identity or PIBAKE_AGE_IDENTITY",
        ) from None


def check(recipients: Sequence[str]) -> None:
    """Raise a PibakeError if one of `recipients` is none."""
    for line in recipients:
        _recipient(line)


def _recipient(line: str) -> Any:
    if "PRIVATE KEY" in line or line.upper().startswith("AGE-SECRET-KEY-"):
        raise PibakeError(
            "this recipient is a private key; give the public one", "age-keygen -y KEYFILE prints it"
        )
    make = _age().ssh.Recipient if line.startswith("ssh-") else _age().x25519.Recipient
    try:
        return make.from_str(line)
    except _age().RecipientError:
        raise PibakeError(
            f"{line} is no recipient; age1... and ssh-ed25519 or ssh-rsa keys are", MAKE_ONE
        ) from None


def _identities(path: Path) -> Iterator[Any]:
    """Yield the keys of an age identity file (one a line, # comments) or of an SSH private key."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise PibakeError(f"the age identity {path} is not there", MAKE_ONE) from None
    except UnicodeDecodeError:
        raise PibakeError(f"{path} is no age identity and no SSH private key", MAKE_ONE) from None
    try:
        if "PRIVATE KEY-----" in text:
            yield _age().ssh.Identity.from_buffer(text.encode())
            return
        lines = re.findall(r"^\s*([^#\s]\S*)\s*$", text, re.MULTILINE)
        if not lines:
            raise PibakeError(f"{path} holds no age identity", MAKE_ONE)
        for line in lines:
            yield _age().x25519.Identity.from_str(line)
    except _age().IdentityError:
        # `from None`: the cause may quote the key
        raise PibakeError(
            f"{path} is no age identity and no SSH private key, or it has a passphrase, which pibake cannot ask for",
            MAKE_ONE,
        ) from None


def _age() -> Any:
    try:
        import pyrage  # noqa: PLC0415 - only who encrypts needs it
    except ImportError:
        raise MissingTool("pyrage", "encrypt and decrypt the secrets folder", "pip install pyrage") from None
    return pyrage
