"""What a board's EEPROM is told about booting: the settings of bootconf.txt.

Lines `KEY=value` under filters such as `[all]` or `[cm4]`; the last one that holds wins. From `[config.txt]` on it is not the
bootloader's. Raspberry Pi documentation, "Raspberry Pi bootloader configuration".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pibake.errors import ImageError, PibakeError
from pibake.netboot.eeprom import CONFIG, KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pibake.netboot.eeprom import Eeprom

ORDER = "BOOT_ORDER"
NETWORK, HTTP = "0xf21", "0xf271"
"""Orders, read from the right: card, (HTTP,) network, and again from the start."""
MODES = {
    "0": "wait for a card", "1": "card", "2": "network", "3": "rpiboot", "4": "USB storage", "5": "USB-C storage",
    "6": "NVMe", "7": "HTTP", "e": "stop", "f": "again",
}  # fmt: skip
"""Digit of BOOT_ORDER -> what it tries."""
HTTP_SINCE = 1646870400
"""Unix time of the first release with HTTP boot for everyone, 2022-03-10 (rpi-eeprom, release notes)."""
_LINE = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=(.*)")


def configured(image: Eeprom, new: Mapping[str, str], public: bytes | None = None) -> Eeprom:
    """Return an EEPROM image with these settings and, for HTTP boot, the key that boot images are signed with.

    Args:
        image: as its maker published it, or as it was configured before.
        new: settings for every board.
        public: the key as the EEPROM holds it (`identity.bootkey.public`).

    Raises:
        ImageError: no such settings can be put into this image.
        PibakeError: a setting cannot stand in it.
    """
    if settings(image.config).get("SIGNED_BOOT", "0") != "0":
        raise ImageError(
            f"{image.source} is signed for secure boot (SIGNED_BOOT), and boards would refuse it with other settings",
            "take a pieeprom-*.bin as Raspberry Pi publishes it",
        )
    if public is not None:
        if image.built < HTTP_SINCE:
            raise ImageError(
                f"{image.source} cannot boot by HTTP: bootloaders can since 2022-03-10, and this one was built before",
                "take a newer pieeprom-*.bin, or leave --http out",
            )
        image = image.replaced(KEY, public)
    return image.replaced(CONFIG, changed(image.config, new).encode("ascii", "replace"))


def settings(config: str) -> dict[str, str]:
    """Return what is set for every board."""
    return {key: value for _, key, value, everywhere in _lines(config) if key and everywhere}


def changed(config: str, new: Mapping[str, str]) -> str:
    """Return a bootconf.txt in which these settings hold for every board; all others stay as they are.

    Raises:
        PibakeError: a name or value cannot stand in it.
    """
    for key, value in new.items():
        if not _LINE.fullmatch(f"{key}={value}") or not value.isascii() or not value.isprintable():
            raise PibakeError(
                f"{key}={value!r} is no setting of a boot EEPROM", "write it like TFTP_PREFIX=2, on one line"
            )
    kept: list[str] = []
    behind: list[str] = []
    for raw, key, _, everywhere in _lines(config):
        if behind or raw.strip().lower() == "[config.txt]":
            behind.append(raw)
        elif not (everywhere and key in new):
            kept.append(raw)
    filters = [line.strip().lower() for line in kept if line.strip().startswith("[")]
    head = [] if filters[-1:] == ["[all]"] else ["[all]"]
    while kept and not kept[-1].strip():
        kept.pop()
    return "".join(f"{line}\n" for line in [*kept, *head, *(f"{k}={v}" for k, v in new.items()), *behind])


def explained(order: str) -> str:
    """Return what a BOOT_ORDER tries, in words.

    Raises:
        PibakeError: it is none.
    """
    digits = order.lower().removeprefix("0x")
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,8}", order) or not set(digits) <= MODES.keys():
        known = ", ".join(f"{digit} {what}" for digit, what in MODES.items())
        raise PibakeError(
            f"{order!r} is no boot order: it is hexadecimal, up to eight digits, tried from the right",
            f"card, then network: {NETWORK}; the digits are {known}",
        )
    return ", ".join(MODES[digit] for digit in reversed(digits))


def http(url: str) -> dict[str, str]:
    """Return the settings for HTTP boot from a folder's address, such as `http://192.168.10.2:8069/pi`.

    Raises:
        PibakeError: a board could not ask there.
    """
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    path = parts.path.strip("/")
    fits = (
        parts.scheme == "http"
        and parts.hostname
        and port
        and not (parts.query or parts.fragment or parts.username)
    )
    if not fits or not re.fullmatch(r"[\w./~%-]+", path, re.ASCII):
        raise PibakeError(
            f"{url!r} is no address that a board can boot from by HTTP",
            "write it like http://192.168.10.2:8069/pi: boards ask for boot.sig and boot.img below it",
        )
    return {"HTTP_HOST": str(parts.hostname), "HTTP_PORT": str(port), "HTTP_PATH": path}


def _lines(config: str) -> Iterator[tuple[str, str, str, bool]]:
    """Yield each line with the key and value it sets, if any, and whether it holds for every board."""
    everywhere, ours = True, True
    for raw in config.splitlines():
        filtered = re.fullmatch(r"\s*\[(.+)\]\s*", raw)
        if filtered:
            everywhere = filtered[1].strip().lower() == "all"
            ours = ours and filtered[1].strip().lower() != "config.txt"
        found = _LINE.fullmatch(raw)
        key, value = (found[1], found[2].strip()) if found and ours else ("", "")
        yield raw, key, value, everywhere and ours
