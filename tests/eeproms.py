"""Boot EEPROM images in the documented layout, without a bootloader in them: what real ones hold is Raspberry Pi's."""

from __future__ import annotations

import struct

CONFIG = b"[all]\nBOOT_UART=0\nWAKE_ON_GPIO=1\nBOOT_ORDER=0xf41\n"
BUILT = 1779045198
SECTION, PACKED, FILE, PADDING = 0x55AAF00F, 0x55AAF44F, 0x55AAF11F, 0x55AAFEEF
LENGTHS = {"2711": 512 << 10, "2712": 2 << 20}


def section(magic: int, content: bytes) -> bytes:
    whole = struct.pack(">LL", magic, len(content)) + content
    return whole + b"\xff" * (-len(whole) % 8)


def file(name: str, content: bytes) -> bytes:
    return section(FILE, name.encode().ljust(12, b"\0") + bytes(4) + content)


def padding(made: bytes, until: int) -> bytes:
    """Fill up to a place with a section of padding."""
    return made + section(PADDING, b"\xff" * (until - len(made) - 8))


def image(
    chip: str = "2711", config: bytes = CONFIG, *, key: bool = True, built: int = BUILT, after: bytes = b""
) -> bytes:
    """Return an image: code, packed parts, a key's place, and bootconf.txt, last but for `after`."""
    made = section(SECTION, b"code" * 5000 + f"\0BUILD_TIMESTAMP={built}\0".encode())
    if chip == "2712":
        made = padding(made + file("updatetime", bytes(8)), 0x10000)
        made += file("bootsys", b"boot" * 1000)
    made += section(PACKED, b"packed" * 7001)
    made = padding(made, 0x20000)
    if key:
        made = padding(made + file("pubkey.bin", b"\xff" * 512), 0x20400)
    made = padding(made + file("bootconf.sig", b"\xff" * 1024), 0x21000)
    made += file("bootconf.txt", config)
    if after:
        made = padding(made, 0x22000) + after
    if chip == "2712":
        made = padding(padding(made, 0x107000), 0x1FE000)
    return made.ljust(LENGTHS[chip], b"\xff")
