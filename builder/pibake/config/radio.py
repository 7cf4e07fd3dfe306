"""What the values of a Wi-Fi network may be.

A value here may be the passphrase put in the wrong place, so no message about the key repeats it.
"""

from __future__ import annotations

import functools
import re

from pibake.config.problems import Bad, nearest, show
from pibake.secret import Secret

LINKS = ("ethernet", "wifi")
PSK_HINT = (
    "`wpa_passphrase SSID` asks for the passphrase and prints the key: put its 64 hex digits under `psk`"
)
COUNTRY_HINT = "write two letters, such as DE, GB or US (ISO 3166-1)"


@functools.lru_cache(maxsize=64)
def link(text: str) -> str:
    """Return which port has the fixed address."""
    if text not in LINKS:
        also = {"wlan": "wifi", "wi-fi": "wifi", "wireless": "wifi", "wired": "ethernet", "eth": "ethernet"}
        meant = also.get(text.lower(), "")
        hint = f"did you mean `{meant}`?" if meant else nearest(text, LINKS)
        raise Bad(f"{show(text)} is not a kind of link", hint or "it is ethernet or wifi")
    return text


@functools.lru_cache(maxsize=64)
def ssid(text: str) -> str:
    """Return the name of a Wi-Fi network: 1 to 32 bytes (IEEE 802.11-2016 section 9.4.2.2), here of UTF-8.

    Any byte may be in a name on the air; control characters are refused, since the files of the programs that
    are to read it hold one value a line.
    """
    if not text or len(text.encode("utf-8", "surrogatepass")) > 32:
        raise Bad(f"{show(text)} cannot be the name of a Wi-Fi network", "it has 1 to 32 bytes")
    if not text.isprintable():
        raise Bad(f"{show(text)} holds a character that cannot be seen", "type the name as devices show it")
    return text


@functools.lru_cache(maxsize=64)
def psk(text: str) -> Secret:
    """Return the key of a Wi-Fi network, made from name and passphrase (IEEE 802.11-2016 section J.4)."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        return Secret(text.lower())
    if 8 <= len(text) <= 63:
        raise Bad("this looks like the passphrase itself, which belongs in no file", PSK_HINT)
    raise Bad("this is not the key of a Wi-Fi network, which has 64 hex digits", PSK_HINT)


@functools.lru_cache(maxsize=64)
def country(text: str) -> str:
    """Return a country as two letters, as the kernel's regulatory database names it."""
    if not re.fullmatch(r"[A-Z]{2}", text):
        hint = f"write {text.upper()}" if re.fullmatch(r"[a-z]{2}", text) else COUNTRY_HINT
        raise Bad(f"{show(text)} is not a country", hint)
    if text == "UK":
        raise Bad("UK is not a country of the regulatory database", "write GB")
    return text
