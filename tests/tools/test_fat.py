"""Write with mtools, read with another implementation (the kernel has no vfat here: dosfstools and Python)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.conftest import tool

from pibake.errors import ImageError
from pibake.image import fat
from pibake.image.layout import boot_partition, boot_text
from pibake.tree import File, Tree

FSCK = shutil.which("fsck.vfat", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "fsck.vfat"


@pytest.fixture
def card(small_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(small_base, tmp_path / "card.img"))


def offset(image: Path) -> int:
    return boot_partition(image).start


def test_what_is_written_is_read_back_and_the_file_system_stays_sound(card: Path, tmp_path: Path) -> None:
    tree = Tree(
        {
            "user-data": File(b"#cloud-config\n"),
            "current/cmdline.txt": File(b"root=x\n"),
            "a": File(bytes(70000)),
        }
    )
    fat.write(card, offset(card), tree, epoch=1_700_000_000)
    (tmp_path / "out").mkdir()
    fat.read(card, offset(card), ["user-data", "current/cmdline.txt", "a"], tmp_path / "out")
    assert (tmp_path / "out/user-data").read_bytes() == b"#cloud-config\n"
    assert (tmp_path / "out/cmdline.txt").read_bytes() == b"root=x\n"
    part = tmp_path / "part.fat"
    first = boot_partition(card)
    part.write_bytes(card.read_bytes()[first.start : first.start + first.size])
    checked = subprocess.run([FSCK, "-n", part], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_a_file_that_is_there_is_replaced(card: Path) -> None:
    fat.write(card, offset(card), Tree({"cmdline.txt": File(b"one\n")}), epoch=0)
    fat.write(card, offset(card), Tree({"cmdline.txt": File(b"two\n")}), epoch=0)
    assert fat.read_text(card, offset(card), ["cmdline.txt"]) == {"cmdline.txt": "two\n"}


def test_many_files_come_at_once_from_all_folders(card: Path) -> None:
    tree = Tree({name: File(name.encode()) for name in ("a.txt", "current/a.txt", "new/b")})
    fat.write(card, offset(card), tree, epoch=0)
    listed = fat.listing(card, offset(card), deep=True)
    assert {"a.txt", "current/a.txt", "new/b"} <= set(listed)
    wanted = ["a.txt", "current/a.txt", "new/b", "absent", "absent/too", "current"]
    assert fat.contents(card, offset(card), wanted) == {
        name: name.encode() for name in ("a.txt", "current/a.txt", "new/b")
    }


def test_the_head_of_a_large_file_is_read_without_the_rest(card: Path) -> None:
    fat.write(card, offset(card), Tree({"large": File(b"head" + bytes(20 << 20))}), epoch=0)
    started = time.monotonic()
    assert fat.head(card, offset(card), "large", 6) == b"head\0\0"
    assert time.monotonic() - started < 2
    assert fat.head(card, offset(card), "absent", 6) == b""


@pytest.mark.parametrize(("kind", "label"), [("16", "bootfs"), ("32", "system-boot"), ("32", "A B")])
def test_labels_and_serial_are_those_blkid_finds(kind: str, label: str, tmp_path: Path) -> None:
    part = tmp_path / "part.fat"
    part.touch()
    os.truncate(part, 40 << 20)
    tool("mkfs.vfat", "-F", kind, "-s", "2", "-n", label, "-i", "98e47b02", part)
    found = {
        key: tool("blkid", "-p", "-s", key, "-o", "value", part).strip()
        for key in ("LABEL", "LABEL_FATBOOT", "UUID")
    }
    expected = fat.Identity(found["LABEL"], found["LABEL_FATBOOT"], found["UUID"])
    assert fat.identity(part, 0) == expected == fat.Identity(label, label, "98E4-7B02")


def test_a_file_system_without_a_label_has_none(tmp_path: Path) -> None:
    part = tmp_path / "part.fat"
    part.touch()
    os.truncate(part, 40 << 20)
    tool("mkfs.vfat", "-F", "32", "-s", "1", part)
    assert (fat.identity(part, 0).label, fat.identity(part, 0).block_label) == ("", "")


def test_the_same_tree_gives_the_same_bytes_at_another_time(small_base: Path, tmp_path: Path) -> None:
    tree = Tree({"user-data": File(b"x" * 5000), "current/cmdline.txt": File(b"y\n")})
    cards = [Path(shutil.copyfile(small_base, tmp_path / name)) for name in ("one", "two")]
    fat.write(cards[0], offset(cards[0]), tree, epoch=1_700_000_000)
    time.sleep(2.1)  # FAT counts in steps of two seconds
    fat.write(cards[1], offset(cards[1]), tree, epoch=1_700_000_000)
    assert cards[0].read_bytes() == cards[1].read_bytes()


def test_a_partition_with_no_room_is_an_error_that_says_how_much_was_needed(card: Path) -> None:
    with pytest.raises(ImageError, match=r"no room for the seed's 60\.0 MiB"):
        fat.write(card, offset(card), Tree({"huge": File(bytes(60 << 20))}), epoch=0)


def test_a_missing_file_is_named_with_what_is_there(card: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"cannot read kernel\.img .* holds .*cmdline\.txt, config\.txt, .*vmlinuz"
    ):
        fat.read(card, offset(card), ["kernel.img"], tmp_path)
    with pytest.raises(ImageError, match=r"no nothing\.txt in the boot partition"):
        boot_text(card, "digest", offset(card), "nothing.txt")


def test_a_partition_without_a_file_system_is_an_error(card: Path) -> None:
    with card.open("r+b") as file:
        file.seek(offset(card))
        file.write(bytes(1 << 20))
    with pytest.raises(ImageError, match="no FAT file system at byte 1048576"):
        fat.listing(card, offset(card))
