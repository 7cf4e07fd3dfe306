"""What vouches for the file that a vendor publishes, as values: the catalogue's `proof:`.

Where the list belongs to one image, `*` in its name and in that of the signature stands for the image's file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Key:
    """A vendor's signing key: the file that holds it in binary, and its primary fingerprint."""

    file: Path
    fingerprint: str


@dataclass(frozen=True)
class SignedSums:
    """A list of sha256 digests, and a detached signature of that list (Ubuntu's way)."""

    sums: str
    signature: str
    key: Key


@dataclass(frozen=True)
class ClearsignedSums:
    """A list of sha256 digests inside a cleartext signature (RFC 4880, section 7)."""

    sums: str
    key: Key


@dataclass(frozen=True)
class SignedImage:
    """A detached signature of the image's file itself, and its sha256 unsigned (Raspberry Pi's way)."""

    sums: str
    signature: str
    key: Key


@dataclass(frozen=True)
class Pinned:
    """The sha256 of the file, written in the catalogue."""

    sha256: str


@dataclass(frozen=True)
class Unsigned:
    """A list of sha256 digests that nobody signed: taken over https only, and trusted at the first use."""

    sums: str


Proof = SignedSums | ClearsignedSums | SignedImage | Pinned | Unsigned


def parse(fields: Mapping[str, str], vendor: Mapping[str, str], keys: Path) -> Proof:
    """Return what a catalogue's `proof:` says.

    Args:
        fields: the mapping as it is written.
        vendor: the vendor's, which names `key` and `fingerprint` if it signs.
        keys: the folder of key files.

    Raises:
        ValueError: no proof has these fields.
        KeyError: the vendor has no key, and a signature needs one.
    """

    def key() -> Key:
        return Key(keys / vendor["key"], vendor["fingerprint"])

    match dict(fields):
        case {"sums": sums, "signature": signature, **rest} if not rest:
            return SignedSums(sums, signature, key())
        case {"clearsigned": sums, **rest} if not rest:
            return ClearsignedSums(sums, key())
        case {"sums": sums, "image_signature": signature, **rest} if not rest:
            return SignedImage(sums, signature, key())
        case {"sha256": sha256, **rest} if not rest and re.fullmatch(r"[0-9a-f]{64}", sha256):
            return Pinned(sha256)
        case {"sums": sums, **rest} if not rest:
            return Unsigned(sums)
    raise ValueError(
        f"proof: {fields!r} is none of sums + signature, clearsigned, sums + image_signature, sha256, sums"
    )


def describe(proof: Proof) -> str:
    """Say in a few words what vouches for a file."""
    match proof:
        case SignedSums(key=key) | ClearsignedSums(key=key):
            return f"digest signed by {short(key.fingerprint)}"
        case SignedImage(key=key):
            return f"image signed by {short(key.fingerprint)}"
        case Pinned():
            return "digest pinned in the catalogue"
        case Unsigned():
            return "unsigned: trusted on first use"


def short(fingerprint: str) -> str:
    """Return the long key ID, the last 16 digits of a fingerprint: enough to tell keys apart in a table."""
    return fingerprint[-16:]


def key_of(proof: Proof) -> Key | None:
    """Return the key that a proof needs, if it needs one."""
    match proof:
        case SignedSums(key=key) | ClearsignedSums(key=key) | SignedImage(key=key):
            return key
        case Pinned() | Unsigned():
            return None


def named(pattern: str, file: str) -> str:
    """Return the name of the list or signature that belongs to an image's file."""
    return pattern.replace("*", file)
