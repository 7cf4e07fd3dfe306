"""HTTP boot of the Pi 4 and 5: an image in place of a boot partition, signed for the boards of one cluster.

A board asks for `<path>/boot.sig`, then `<path>/boot.img`, and starts the image if the signature is by the key in its EEPROM.
boot.img is a FAT file system without a partition table, taken into memory whole: the boot partition as on a card.
boot.sig is text: the image's sha256, `ts:` and a Unix time, `rsa2048:` and the signature of the digest.

Raspberry Pi documentation, "HTTP boot" and "boot_ramdisk"; rpi-eeprom, `rpi-eeprom-digest` and firmware-2711's release notes
(HTTP_HOST, HTTP_PATH and 128 MB: 2022-02-28). All boards with one EEPROM configuration ask for the same path: the
server tells them apart by their address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.identity import bootkey

if TYPE_CHECKING:
    from pibake.secret import Secret

IMAGE, SIGNATURE = "boot.img", "boot.sig"
LIMIT = 128_000_000
"""Bytes of the largest image a bootloader takes: the smaller of what "128MB" may mean."""
_OLDER = re.compile(
    r"bootcode\.bin|(start|fixup)(_(cd|db|x))?\.(elf|dat)|bcm27(08|09|10)-.*\.dtb|bcm283[567]-.*\.dtb|kernel7?\.img"
)


def wanted(name: str) -> bool:
    """Return whether a Pi 4 or 5 reads a file of the boot partition's root: what only older boards read is left out."""
    return _OLDER.fullmatch(name) is None


def signature(sha256: str, time: int, *, key: Secret | None = None, chip: str = "") -> str:
    """Return the text of a .sig file.

    Args:
        sha256: of the file it is for, hex.
        time: Unix time; the bootloader updates itself to a newer one only.
        key: signs it; EEPROM updates need no signature.
        chip: "2711" or "2712", for an EEPROM image: a board with the other refuses it.
    """
    lines = [sha256, f"ts: {time}"]
    if chip:
        lines.append(f"target-soc: {chip}")
    if key is not None:
        lines.append(f"rsa2048: {bootkey.sign(key, sha256)}")
    return "".join(f"{line}\n" for line in lines)
