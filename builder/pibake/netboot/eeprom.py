"""The image of a Pi 4's or 5's boot EEPROM: its sections, and files in it that may be replaced.

Layout (rpi-eeprom, `rpi-eeprom-config`): sections one after another, each at a multiple of 8: a magic number and the length of
what follows, both big-endian. A file's section has its name (12 bytes), 4 bytes and the content behind that. Padding is a
section, too. The end is a magic number of zeros or ones; the last 4 KiB are the bootloader's own.

    512 KiB  BCM2711 (Pi 4, 400, CM4)
      2 MiB  BCM2712 (Pi 5, 500, CM5); since 2026 in two halves, of which the second is the bootloader's to fill
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from pibake.errors import ImageError

CHIPS = {512 << 10: "2711", 2 << 20: "2712"}
"""Length of the image -> the chip it is for."""
CONFIG, KEY = "bootconf.txt", "pubkey.bin"
_MAGIC, _MASK = 0x55AAF00F, 0xFFFFF00F
_FILE, _PADDING = 0x55AAF11F, 0x55AAFEEF
_END = (0, 0xFFFFFFFF)
_HEADER, _FILE_HEADER = 8, 16
_SCRATCH = 4096
_LARGEST = 4076
"""Bytes of a file: it is erased together with its header, 4 KiB at a time."""
_HALF = range(64 << 10, (64 + 988) << 10)
"""Where the half with the files is, in an image of two."""


@dataclass(frozen=True)
class Section:
    """One section: where its header is, its magic number, the length of what follows, and a file's name."""

    offset: int
    magic: int
    length: int
    name: str

    @property
    def end(self) -> int:
        """Return where the next section begins."""
        return -(-(self.offset + _HEADER + self.length) // 8) * 8


@dataclass(frozen=True)
class Eeprom:
    """An image that has been found whole; `source` is what it is called in messages."""

    data: bytes
    sections: tuple[Section, ...]
    source: str

    @property
    def chip(self) -> str:
        """Return "2711" or "2712"."""
        return CHIPS[len(self.data)]

    @property
    def built(self) -> int:
        """Return when the bootloader was built (Unix time), 0 if it does not say."""
        found = re.search(rb"BUILD_TIMESTAMP=(\d{9,10})\0", self.data)
        return int(found[1]) if found else 0

    @property
    def config(self) -> str:
        """Return the text of bootconf.txt; what old images fill it up with is left out."""
        section = self._file(CONFIG)
        content = self.data[
            section.offset + _HEADER + _FILE_HEADER : section.offset + _HEADER + section.length
        ]
        return content.rstrip(b"\0\xff").decode("utf-8", "replace").rstrip() + "\n"

    def has(self, name: str) -> bool:
        """Return whether there is such a file."""
        return any(section.name == name for section in self._here())

    def replaced(self, name: str, content: bytes) -> Eeprom:
        """Return the image with another content of one file; nothing else moves.

        Raises:
            ImageError: there is no such file, or no room for the content.
        """
        section = self._file(name)
        behind = self.sections[self.sections.index(section) + 1 :]
        end = next((other.offset for other in behind if other.magic != _PADDING), self._limit)
        room = min(end - section.offset - _HEADER - _FILE_HEADER, _LARGEST)
        if len(content) > room:
            raise ImageError(
                f"{self.source}: {name} would have {len(content)} bytes, and there is room for {room}",
                "leave some settings out",
            )
        made = struct.pack(">LL", _FILE, len(content) + _FILE_HEADER)
        made += self.data[section.offset + _HEADER : section.offset + _HEADER + _FILE_HEADER] + content
        made += b"\xff" * (-len(made) % 8)
        rest = end - section.offset - len(made)
        if behind and rest >= _HEADER:
            made += struct.pack(">LL", _PADDING, rest - _HEADER)
        made += b"\xff" * (end - section.offset - len(made))
        return parse(self.data[: section.offset] + made + self.data[end:], self.source)

    @property
    def _limit(self) -> int:
        return min(len(self.data) - _SCRATCH, _HALF.stop)

    def _here(self) -> list[Section]:
        halves = any(section.name == "bootsys" for section in self.sections)
        return [section for section in self.sections if not halves or section.offset in _HALF]

    def _file(self, name: str) -> Section:
        for section in self._here():
            if section.name == name:
                return section
        names = ", ".join(section.name for section in self._here() if section.name) or "no files"
        raise ImageError(
            f"{self.source} has no {name}, but {names}",
            "take a newer bootloader: pieeprom-*.bin of the package rpi-eeprom",
        )


def parse(data: bytes, source: str) -> Eeprom:
    """Return an image, once its sections have been found to follow one another to its end.

    Args:
        data: the image.
        source: what to call it in messages.

    Raises:
        ImageError: it is no EEPROM image, or a damaged one.
    """
    if len(data) not in CHIPS:
        raise ImageError(
            f"{source} is no boot EEPROM of a Pi 4 or 5: it has {len(data)} bytes, not 524288 or 2097152",
            "name a pieeprom-*.bin; recovery.bin and vl805.bin are other things",
        )
    sections: list[Section] = []
    offset = 0
    while offset + _HEADER <= len(data):
        magic, length = struct.unpack_from(">LL", data, offset)
        if magic in _END:
            break
        if magic & _MASK != _MAGIC or offset + _HEADER + length > len(data):
            what = "is no EEPROM image" if not offset else "is damaged"
            raise ImageError(
                f"{source} {what}: at byte {offset} there is no section, but {data[offset : offset + 8].hex(' ')}",
                "get the file again, from the package rpi-eeprom",
            )
        name = ""
        if magic == _FILE:
            if length < _FILE_HEADER:
                raise ImageError(f"{source} is damaged: the file at byte {offset} has no name")
            name = data[offset + _HEADER : offset + _HEADER + 12].rstrip(b"\0").decode("ascii", "replace")
        sections.append(Section(offset, magic, length, name))
        offset = sections[-1].end
    found = Eeprom(data, tuple(sections), source)
    if not sections or not found.has(CONFIG):
        raise ImageError(
            f"{source} is no EEPROM image that can be configured: it has no {CONFIG}",
            "name a pieeprom-*.bin of the package rpi-eeprom",
        )
    return found
