"""The key that signs what boards load by HTTP: their EEPROM starts nothing that it has not signed.

RSA with 2048 bits, PKCS #1 v1.5, SHA-256: the only kind the bootloader knows (rpi-eeprom, `rpi-eeprom-digest`). In the
EEPROM its public part is modulus and exponent, 256 and 8 bytes, both little-endian (`pubkey.bin`; rpi-eeprom-config).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from pibake.identity import pki

if TYPE_CHECKING:
    from pibake.secret import Secret

BITS = 2048


def new() -> Secret:
    """Return a new key, as PEM."""
    return pki.rsa_key()


def sign(key: Secret, digest: str) -> str:
    """Return the signature (hex) of what has this sha256 (hex)."""
    return _rsa(key).sign(bytes.fromhex(digest), padding.PKCS1v15(), Prehashed(hashes.SHA256())).hex()


def public(key: Secret) -> bytes:
    """Return the public part as the EEPROM holds it, 264 bytes."""
    numbers = _rsa(key).public_key().public_numbers()
    return numbers.n.to_bytes(BITS // 8, "little") + numbers.e.to_bytes(8, "little")


def fingerprint(key: Secret) -> str:
    """Return the sha256 (hex) of the public part as the EEPROM holds it."""
    return hashlib.sha256(public(key)).hexdigest()


def problem(key: Secret) -> str:
    """Return what is wrong with a key, or "" if nothing is."""
    try:
        _rsa(key)
    except ValueError as error:
        return f"is unusable: {error}"
    return ""


def _rsa(key: Secret) -> rsa.RSAPrivateKey:
    loaded = pki.private_key(key)
    if not isinstance(loaded, rsa.RSAPrivateKey) or loaded.key_size != BITS:
        raise ValueError(f"it is no RSA key of {BITS} bits")
    return loaded
