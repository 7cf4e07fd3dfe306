"""Wireless networks: the key of one, and the configuration of wpa_supplicant."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from pibake.imported.values import Network

if TYPE_CHECKING:
    from pibake.imported.values import Draft

HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")
QUOTED = re.compile(r'"(.*)"\s*(#.*)?')


def pairwise_key(ssid: str, secret: str) -> str:
    """Return the 256-bit key of a WPA2 network as 64 hex digits, from its passphrase or those digits.

    IEEE 802.11-2020 annex J.4: PBKDF2 with HMAC-SHA1, the SSID as salt, 4096 rounds. A passphrase has 8 to 63
    printable ASCII characters.

    Raises:
        ValueError: it is neither; the message does not repeat it.
    """
    if HEX_KEY.fullmatch(secret):
        return secret.lower()
    if not 8 <= len(secret) <= 63:
        raise ValueError(f"a passphrase has 8 to 63 characters, and this one has {len(secret)}")
    if not all(" " <= character <= "~" for character in secret):
        raise ValueError("a passphrase is plain ASCII")
    return hashlib.pbkdf2_hmac("sha1", secret.encode(), ssid.encode(), 4096, 32).hex()


def wpa_supplicant(draft: Draft, text: str, place: str) -> None:
    """Read a wpa_supplicant.conf(5): `country=`, and the `network={...}` that wpa_supplicant would prefer, first."""
    blocks: list[dict[str, str]] = []
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        key, equals, value = line.partition("=")
        if line.startswith("network={"):
            blocks.append({})
            inside = True
        elif line == "}":
            inside = False
        elif equals and not line.startswith("#"):
            value = value.strip() if QUOTED.fullmatch(value.strip()) else value.partition("#")[0].strip()
            if inside:
                blocks[-1][key.strip()] = value
            elif key.strip() == "country":
                draft.country = draft.country or value.strip('"')
    usable = [block for block in blocks if block.get("disabled") != "1"]
    usable.sort(key=lambda block: -_number(block.get("priority", "")))
    if not usable:
        draft.left(place, "wpa_supplicant.conf", "it names no network")
    draft.networks.extend(_network(block, place) for block in usable)


def _network(block: dict[str, str], place: str) -> Network:
    name, secret = block.get("ssid", ""), block.get("psk", "")
    quoted = QUOTED.fullmatch(name)
    phrase = QUOTED.fullmatch(secret)
    kind = block.get("key_mgmt", "WPA-PSK" if secret else "WPA-PSK WPA-EAP")
    return Network(
        place,
        quoted[1] if quoted else _from_hex(name.removeprefix("hex:")),
        phrase[1] if phrase else secret,
        kind=kind,
        hidden=block.get("scan_ssid") == "1",
    )


def _from_hex(text: str) -> str:
    try:
        return bytes.fromhex(text).decode()
    except ValueError:
        return ""


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else 0
