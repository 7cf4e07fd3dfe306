"""Partition tables, read without a process: `build` does this for every card. Changed they are by sfdisk.

MBR: 512 bytes; four 16-byte entries from offset 446, 0x55AA at 510 (UEFI 2.10, section 5.2.1).
GPT: a header in block 1 and a copy in the last block, both with CRC-32 (UEFI 2.10, section 5.3.2).
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pibake.errors import ImageError
from pibake.run import run

if TYPE_CHECKING:
    from pathlib import Path

SECTOR = 512
"""Bytes per sector: images for SD cards and USB disks never use another size."""

PROTECTIVE = 0xEE
FAT_TYPES = {"01", "04", "06", "0b", "0c", "0e", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7",
             "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"}  # fmt: skip
"""Types of partitions that hold FAT: MBR's, "Microsoft basic data" and "EFI system"."""
EXTENDED = {"05", "0f", "85"}
"""Types of MBR partitions that hold further ones."""

KNOWN = (
    (0, b"\xfd7zXZ\0", "an xz file: it is still compressed"),
    (0, b"\x1f\x8b", "a gzip file: it is still compressed"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file: it is still compressed"),
    (0, b"PK\x03\x04", "a zip file: it is still compressed"),
    (0, b"BZh", "a bzip2 file, which pibake does not unpack"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z file, which pibake does not unpack"),
    (0, b"QFI\xfb", "a qcow2 disk (`qemu-img convert -O raw` makes an image of it)"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"\x7fELF", "a program"),
    (0, b"<", "a web page or XML"),
    (82, b"FAT32", "a FAT file system that fills the whole image"),
    (54, b"FAT1", "a FAT file system that fills the whole image"),
    (1080, b"\x53\xef", "an ext4 file system that fills the whole image"),
    (0x8001, b"CD001", "an ISO 9660 image"),
    (257, b"ustar", "a tar file"),
)
"""What else a file may begin with: offset, bytes, and what that says."""


@dataclass(frozen=True)
class Partition:
    """One partition; `start` and `size` in bytes, `type` as `sfdisk` writes it but in lower case."""

    number: int
    start: int
    size: int
    type: str
    bootable: bool = False
    name: str = ""

    @property
    def is_fat(self) -> bool:
        """Return whether the type says that a FAT file system is inside."""
        return self.type in FAT_TYPES


@dataclass(frozen=True)
class Table:
    """A partition table: `label` is `dos` or `gpt`, `id` the disk's identifier as PARTUUIDs begin with it."""

    label: str
    id: str
    partitions: tuple[Partition, ...]


def read(image: Path) -> Table:
    """Return the partition table of an image; an image without a sound one is an `ImageError`."""
    with image.open("rb") as file:
        length = file.seek(0, 2)
        first = _at(file, 0, SECTOR)
        if len(first) < SECTOR or first[510:] != b"\x55\xaa":
            raise _none(image, file, length, "no MBR signature 55 aa at byte 510")
        if any(first[446 + 16 * i + 4] == PROTECTIVE for i in range(4)):
            table = _gpt(image, file, length)
        else:
            table = _mbr(image, file, first, length)
    for partition in table.partitions:
        _check(image, partition, length)
    return table


def enlarge_last(image: Path, end: int) -> Partition:
    """Let the last partition of an image end at byte `end`, which the file has room for; return the partition.

    Raises:
        ImageError: it is a logical partition, which cannot grow without the one around it.
    """
    last = max(read(image).partitions, key=lambda partition: partition.start)
    if last.type in EXTENDED:
        raise ImageError(f"{image}: the last partition is an extended one, which pibake cannot enlarge")
    if read(image).label == "gpt":
        move_copy(image)
    script = f"start={last.start // SECTOR}, size={(end - last.start) // SECTOR}\n"
    _sfdisk(image, "-N", str(last.number), script=script)
    return next(p for p in read(image).partitions if p.number == last.number)


def move_copy(image: Path) -> None:
    """Put the second copy of a GPT where it belongs: into the last blocks of the disk."""
    _sfdisk(image, "--relocate", "gpt-bak-std")


def _sfdisk(image: Path, *options: str, script: str = "") -> None:
    run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", *options, image],
        why="enlarge the root partition",
        stdin=script.encode(),
    )


def describe(file: BinaryIO) -> str:
    """Say what a file that is no disk image looks like, from its first bytes."""
    head = _at(file, 0, 0x8010)
    for offset, magic, meaning in KNOWN:
        if head[offset : offset + len(magic)] == magic:
            return meaning
    if not head:
        return "nothing: it is empty"
    if not head.strip(b"\0"):
        return "only zeros"
    return f"data that begins {head[:16].hex(' ')}"


def _mbr(image: Path, file: BinaryIO, sector: bytes, length: int) -> Table:
    partitions = []
    for index in range(4):
        status, kind, start, count = struct.unpack_from("<B3xB3xII", sector, 446 + 16 * index)
        if kind == 0:
            continue
        if status not in {0, 0x80}:  # the boot code of a bare FAT file system reads like a table of nonsense
            raise _none(image, file, length, f"MBR entry {index + 1} has status {status:#04x}")
        partitions.append(
            Partition(index + 1, start * SECTOR, count * SECTOR, f"{kind:02x}", bootable=status == 0x80)
        )
    if not partitions:
        raise _none(image, file, length, "all four MBR entries are empty")
    return Table("dos", f"{struct.unpack_from('<I', sector, 440)[0]:08x}", tuple(partitions))


def _gpt(image: Path, file: BinaryIO, length: int) -> Table:
    faults = []
    for block in (1, length // SECTOR - 1):
        found = _gpt_at(file, block)
        if isinstance(found, Table):
            return found
        faults.append(f"block {block}: {found}")
    raise _none(image, file, length, "a protective MBR, but no sound GPT (" + "; ".join(faults) + ")")


def _gpt_at(file: BinaryIO, block: int) -> Table | str:
    """Return the table whose header is in `block`, or what is wrong with it."""
    header = _at(file, block * SECTOR, SECTOR)
    if header[:8] != b"EFI PART":
        return "no signature EFI PART"
    size, crc = struct.unpack_from("<II", header, 12)
    blanked = header[:16] + bytes(4) + header[20:size]  # the checksum is made with its own field zero
    if not 92 <= size <= SECTOR or zlib.crc32(blanked) != crc:
        return "the header's checksum is wrong"
    disk, lba, count, width, entries_crc = struct.unpack_from("<16sQIII", header, 56)
    if count * width > 1 << 20:
        return f"it claims {count} entries of {width} bytes"
    entries = _at(file, lba * SECTOR, count * width)
    if zlib.crc32(entries) != entries_crc:
        return "the entries' checksum is wrong"
    if width < 128:
        return f"its entries are {width} bytes long"
    found = (_gpt_entry(n + 1, entries[n * width : (n + 1) * width]) for n in range(count))
    partitions = tuple(p for p in found if p)
    return Table("gpt", str(uuid.UUID(bytes_le=disk)), partitions) if partitions else "it lists no partition"


def _gpt_entry(number: int, raw: bytes) -> Partition | None:
    kind, first, last, flags, name = struct.unpack_from("<16s16xQQQ72s", raw)
    if not any(kind):
        return None
    return Partition(
        number,
        first * SECTOR,
        (last - first + 1) * SECTOR,
        str(uuid.UUID(bytes_le=kind)),
        bootable=bool(flags >> 2 & 1),
        name=name.decode("utf-16-le", "replace").partition("\0")[0],
    )


def _check(image: Path, partition: Partition, length: int) -> None:
    end = partition.start + partition.size
    if partition.size <= 0 or partition.start < SECTOR:
        raise ImageError(
            f"{image}: partition {partition.number} starts at byte {partition.start} and is "
            f"{partition.size} bytes long, which cannot be",
            "get the image again; its partition table is damaged",
        )
    if end > length:
        raise ImageError(
            f"{image}: partition {partition.number} ends at byte {end}, but the image is only {length} long",
            "the image was cut short; get it again",
        )


def _none(image: Path, file: BinaryIO, length: int, detail: str) -> ImageError:
    return ImageError(
        f"{image} has no partition table: {detail}; its {length} bytes hold {describe(file)}",
        "a base is the image of a whole disk, with a FAT boot partition first",
    )


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
