"""What boot ROMs of Raspberry Pis say and want to hear in PXE.

Sources: Raspberry Pi documentation, "Network booting" (captures of the Pi 3's boot ROM, its known problems);
raspberrypi/firmware#934 (an answer within two seconds), #1265 (option 97); PXE 2.1 section 2.4 (option 43).
"""

from __future__ import annotations

MASK_ROM = ("rom-3b", "rom-3b+")
"""Netboot generations whose serial number ends like their MAC address, and is not in option 97 from the start."""
HASTY = "rom-3b"
"""The generation that may hang if it is answered within `HANGS` seconds."""
LATE = (HASTY, "uefi")
"""Of boards that may have this boot ROM: one that is not named may be any."""
HANGS = 2.0
BOOT_ROM = b"\0" + b"\x44" * 16
"""Option 97 of that boot ROM; bootcode.bin, which it loads, has the serial there."""
MENU = b"Raspberry Pi Boot   "
"""What it looks for, with three spaces."""


def menu() -> bytes:
    """Return option 43 with that one entry: discovery control (6) 3, a prompt (10) of 0 s, a menu (9) of boot server type 0."""
    entry = b"\0\0" + bytes((len(MENU),)) + MENU
    options = ((6, b"\x03"), (10, b"\0PXE"), (9, entry))
    return b"".join(bytes((code, len(value))) + value for code, value in options) + b"\xff"
