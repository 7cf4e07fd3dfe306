"""Partition tables, byte by byte. That sfdisk writes what is read here is checked in tests/tools."""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import TYPE_CHECKING

import pytest

from pibake.errors import ImageError
from pibake.image import table
from pibake.image.table import Partition

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 4 << 20
FAT = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"


def mbr(*entries: tuple[int, int, int, int]) -> bytearray:
    """Return an image with an MBR of (status, type, first sector, sectors)."""
    image = bytearray(SIZE)
    struct.pack_into("<I", image, 440, 0xDEADBEEF)
    for index, (status, kind, start, count) in enumerate(entries):
        struct.pack_into("<B3xB3xII", image, 446 + 16 * index, status, kind, start, count)
    image[510:512] = b"\x55\xaa"
    return image


def gpt() -> bytearray:
    """Return an image with one FAT partition in a GPT, and the copy at the end."""
    image = mbr((0, 0xEE, 1, SIZE // 512 - 1))
    entries = bytearray(128 * 128)
    struct.pack_into("<16s16sQQQ72s", entries, 0, uuid.UUID(FAT).bytes_le, uuid.uuid4().bytes_le, 2048, 4095, 4,
                     "boot".encode("utf-16-le"))  # fmt: skip
    last = SIZE // 512 - 1
    for block, first in ((1, 2), (last, last - 32)):
        image[first * 512 : first * 512 + len(entries)] = entries
        header = bytearray(struct.pack("<8sIII4xQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, block, last + 1 - block, 34,
                                       last - 33, uuid.UUID(int=5).bytes_le, first, 128, 128, zlib.crc32(entries)))  # fmt: skip
        struct.pack_into("<I", header, 16, zlib.crc32(header))
        image[block * 512 : block * 512 + 92] = header
    return image


def read(tmp_path: Path, image: bytes | bytearray) -> table.Table:
    path = tmp_path / "card.img"
    path.write_bytes(image)
    return table.read(path)


def test_an_mbr_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, mbr((0x80, 0x0C, 2048, 1024), (0, 0x83, 3072, 1024)))
    assert found.label == "dos"
    assert found.id == "deadbeef"
    assert found.partitions == (
        Partition(1, 1 << 20, 512 << 10, "0c", bootable=True),
        Partition(2, 1536 << 10, 512 << 10, "83"),
    )
    assert [partition.is_fat for partition in found.partitions] == [True, False]


def test_an_empty_slot_leaves_the_numbers_as_they_are(tmp_path: Path) -> None:
    found = read(tmp_path, mbr((0, 0x0C, 2048, 8), (0, 0, 0, 0), (0, 0x83, 4096, 8)))
    assert [partition.number for partition in found.partitions] == [1, 3]


def test_a_gpt_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, gpt())
    assert (found.label, found.id) == ("gpt", str(uuid.UUID(int=5)))
    assert found.partitions == (Partition(1, 1 << 20, 1 << 20, FAT, bootable=True, name="boot"),)
    assert found.partitions[0].is_fat


@pytest.mark.parametrize("offset", [512, 512 + 40, 1024 + 10], ids=["signature", "header", "entries"])
def test_a_damaged_gpt_is_read_from_its_copy(tmp_path: Path, offset: int) -> None:
    image = gpt()
    image[offset] ^= 0xFF
    assert read(tmp_path, image).partitions[0].name == "boot"


def test_a_gpt_damaged_twice_is_refused(tmp_path: Path) -> None:
    image = gpt()
    image[512 + 40] ^= 0xFF
    image[-512 + 40] ^= 0xFF
    with pytest.raises(
        ImageError, match=r"no sound GPT \(block 1: the header's checksum is wrong; block 8191: .* wrong\)"
    ):
        read(tmp_path, image)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "nothing: it is empty"),
        (bytes(4096), "only zeros"),
        (b"\xfd7zXZ\0" + bytes(600), "an xz file"),
        (b"<!DOCTYPE html>" + bytes(600), "a web page"),
        (b"QFI\xfb" + bytes(600), "qemu-img convert"),
        (bytes(1080) + b"\x53\xef" + bytes(600), "an ext4 file system that fills the whole image"),
        (b"notes", "data that begins 6e 6f 74 65 73"),
    ],
)
def test_a_file_without_a_table_is_described(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ImageError, match="has no partition table: no MBR signature") as caught:
        read(tmp_path, content)
    assert said in str(caught.value)


def test_a_bare_fat_file_system_is_no_table(tmp_path: Path) -> None:
    image = bytearray(SIZE)
    image[82:90] = b"FAT32   "
    image[446:510] = b"Remove disks or other media. Press any key to restart".ljust(64, b"!")
    image[510:512] = b"\x55\xaa"
    with pytest.raises(ImageError, match="a FAT file system that fills the whole image"):
        read(tmp_path, image)


def test_an_mbr_without_partitions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="all four MBR entries are empty"):
        read(tmp_path, mbr())


def test_a_partition_beyond_the_end_means_that_the_image_was_cut_short(tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"partition 2 ends at byte \d+, but the image is only 4194304"
    ) as caught:
        read(tmp_path, mbr((0, 0x0C, 2048, 8), (0, 0x83, 4096, 1 << 20)))
    assert "cut short" in caught.value.hint


@pytest.mark.parametrize(("start", "count"), [(0, 8), (2048, 0)])
def test_a_partition_that_cannot_be_is_refused(tmp_path: Path, start: int, count: int) -> None:
    with pytest.raises(ImageError, match="which cannot be"):
        read(tmp_path, mbr((0, 0x0C, start, count)))
