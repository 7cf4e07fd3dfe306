"""Which devices are cards, which may be written, and what an unfinished card says, from what lsblk and the kernel said of real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pibake.flash import faults, mark, stream, system
from pibake.flash.device import Device, parse, parse_one
from pibake.flash.mark import Mark
from pibake.flash.refusals import file_refusals, refusals
from pibake.image.pieces import Piece

MIB = 1 << 20


def node(name: str, number: str, kind: str, size: int, **more: Any) -> dict[str, Any]:
    """Return a device as `lsblk --json --bytes` (util-linux 2.38) gives it."""
    facts = {
        "kname": name, "path": f"/dev/{name}", "type": kind, "size": size, "ro": False, "rm": False, "hotplug": False,
        "tran": None, "vendor": None, "model": None, "serial": None, "maj:min": number, "fstype": None, "label": None,
        "partlabel": None, "mountpoints": [None],
    }  # fmt: skip
    return {**facts, **more}


READER = node(
    "sdb", "8:16", "disk", 31914983424, rm=True, hotplug=True, tran="usb", vendor="Generic ", model="STORAGE DEVICE  ",
    serial="000000000272",
    children=[
        node("sdb1", "8:17", "part", 536870912, rm=True, fstype="vfat", label="bootfs"),
        node("sdb2", "8:18", "part", 31369723904, rm=True, fstype="ext4", label="rootfs"),
    ],
)  # fmt: skip
SLOT = node("mmcblk0", "179:0", "disk", 62534975488, hotplug=True, serial="0xb1c2d3e4", model=None)
SOLDERED = node("mmcblk1", "179:32", "disk", 31268536320, hotplug=True, serial="0x01020304")
NVME = node(
    "nvme0n1", "259:0", "disk", 1024209543168, tran="nvme", model="Samsung SSD 980 PRO 1TB", serial="S5GXNF0R000000",
    children=[
        node("nvme0n1p1", "259:1", "part", 536870912, fstype="vfat", mountpoints=["/boot/efi"]),
        node("nvme0n1p2", "259:2", "part", 1023671009280, fstype="LVM2_member", children=[
            node("dm-0", "254:0", "lvm", 53687091200, path="/dev/mapper/vg-root", fstype="ext4", mountpoints=["/"]),
            node("dm-1", "254:1", "lvm", 8589934592, path="/dev/mapper/vg-swap", fstype="swap", mountpoints=["[SWAP]"]),
        ]),
    ],
)  # fmt: skip
LOOP = node("loop3", "7:3", "loop", 67108864)
ARRAY = node("sdc", "8:32", "disk", 4 << 40, tran="sata", children=[
    node("md0", "9:0", "raid1", 4 << 40, mountpoints=["/data"]),
])  # fmt: skip
LISTING = [READER, SLOT, SOLDERED, NVME, LOOP, ARRAY]
CARDS = {"mmcblk0": "SD", "mmcblk1": "MMC"}
STANDS_ON = {"254:0": ("/",), "259:1": ("/boot/efi",), "254:1": ("[SWAP]",)}


def devices() -> dict[str, Device]:
    return {device.name: device for device in parse(LISTING, CARDS, STANDS_ON)}


def reasons(name: str, length: int = 0, *allowed: str) -> list[str]:
    return [each.reason for each in refusals(devices()[name], length, allowed)]


def test_a_card_in_a_usb_reader_is_known_by_name_and_content() -> None:
    device = devices()["sdb"]
    assert (device.title, device.serial, device.bus) == ("Generic STORAGE DEVICE", "000000000272", "usb")
    assert [str(part) for part in device.parts] == ['/dev/sdb1 (vfat "bootfs")', '/dev/sdb2 (ext4 "rootfs")']
    assert reasons("sdb", 31914983424) == []


def test_a_card_in_a_slot_is_removable_and_soldered_memory_is_not() -> None:
    assert (devices()["mmcblk0"].bus, reasons("mmcblk0")) == ("mmc", [])
    assert reasons("mmcblk1") == ["it is not removable, so it may be a disk of this machine"]
    assert reasons("mmcblk1", 0, "mmcblk1") == []


def test_a_loop_device_is_nobodys_disk() -> None:
    assert reasons("loop3") == []


def test_the_disk_under_the_running_system_is_never_written() -> None:
    expected = ["it holds the running system (/boot/efi, /, [SWAP])"]
    assert reasons("nvme0n1") == reasons("nvme0n1", 0, "nvme0n1") == expected


def test_what_is_mounted_through_an_array_is_in_use_and_the_hint_says_how_to_end_that() -> None:
    found = refusals(devices()["sdc"])
    assert [each.reason for each in found] == [
        "it is in use: /data",
        "it is not removable, so it may be a disk of this machine",
        "it has 4096.0 GiB, which no card has",
    ]
    assert found[0].hint == "first: umount /data"
    assert reasons("sdc", 0, "sdc") == ["it is in use: /data"]


def test_only_the_exact_name_allows_a_disk_that_is_not_removable() -> None:
    assert reasons("mmcblk1", 0, "mmcblk") == reasons("mmcblk1", 0, "/dev/mmcblk1") == reasons("mmcblk1")


def test_a_partition_is_no_disk() -> None:
    device = parse_one(LISTING, "8:17", CARDS, STANDS_ON)
    assert device
    assert [each.reason for each in refusals(device)] == ["it is a partition, and an image is a whole disk"]
    logical = parse_one(LISTING, "254:1", CARDS, {})
    assert logical
    assert "a device of the kind lvm" in refusals(logical)[1].reason


def test_swap_on_a_card_is_named_with_its_command() -> None:
    swapping = {**READER, "children": [node("sdb1", "8:17", "part", 1 << 30, mountpoints=["[SWAP]"])]}
    (device,) = parse([swapping], {}, {})
    assert refusals(device)[0].hint == "first: swapoff /dev/sdb1"


def test_a_locked_or_short_card_is_refused() -> None:
    (device,) = parse([{**READER, "ro": True}], {}, {})
    assert [each.reason for each in refusals(device, 31914983425)] == [
        "it is read-only",
        "it has 31914983424 bytes; the image needs 31914983425",
    ]


def test_what_a_device_says_of_itself_cannot_disturb_a_terminal() -> None:
    (device,) = parse([{**READER, "model": "a\x1b[2Jb\x07"}], {}, {})
    assert device.title == "Generic a [2Jb"


def test_a_device_that_is_not_there_is_none() -> None:
    assert parse_one(LISTING, "1:1", CARDS, STANDS_ON) is None


MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/run/live/squash:/run/live/x\\040y,upperdir=/run/live/cow/up,workdir=/w
28 27 7:0 / /run/live/squash ro - squashfs /dev/loop0 ro
29 27 8:17 / /run/live/medium ro - iso9660 /dev/sdb1 ro
30 27 0:51 / /run/live/cow rw - tmpfs tmpfs rw
31 27 0:40 /@home /home rw - btrfs /dev/nvme0n1p2 rw,subvol=/@home
32 27 8:33 / /media/card rw - vfat /dev/sdc1 rw
"""
SWAPS = """Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/home/swapfile                          file\t\t1048572\t\t0\t\t-2
"""
NUMBERS = {"/dev/loop0": "7:0", "/dev/sdb1": "8:17", "/dev/nvme0n1p2": "259:2", "/dev/sdc1": "8:33"}


def test_a_live_system_stands_on_the_stick_it_was_started_from() -> None:
    mounts, swaps = system.parse(MOUNTS), system.swap_paths(SWAPS)
    backing = {"7:0": "/run/live/medium/live/filesystem.squashfs"}
    found = system.stands_on(mounts, swaps, NUMBERS, backing)
    assert found["8:17"] == ("/",)
    assert found["259:2"] == ("/home", "[SWAP]")
    assert "8:33" not in found


def test_this_machines_own_root_is_found() -> None:
    assert any("/" in places for places in system.read().values())


def test_a_file_that_would_be_made_in_dev_or_nowhere_is_refused(tmp_path: Path) -> None:
    assert file_refusals(Path("/dev/sdz9"), ())[0].reason == "there is no such device"
    assert "there is no folder" in file_refusals(tmp_path / "x" / "b.img", ())[0].reason
    assert file_refusals(tmp_path / "b.img", ()) == ()
    assert "neither" in file_refusals(tmp_path, ())[0].reason


def test_a_mark_is_read_back_and_fits_into_a_sector() -> None:
    block = Mark("ab" * 32, 1 << 40).encode()
    assert mark.decode(block) == Mark("ab" * 32, 1 << 40)
    assert len(block) == mark.SIZE
    assert not block[512:].strip(b"\0")


@pytest.mark.parametrize("at", [0, 70, 100, 200])
def test_half_a_mark_is_none(at: int) -> None:
    block = bytearray(Mark("ab" * 32, 4096).encode())
    block[at] ^= 1
    assert mark.decode(bytes(block)) is None
    assert mark.decode(bytes(mark.SIZE)) is None


def test_steps_join_pieces_up_to_a_chunk_and_keep_the_order_of_the_bytes() -> None:
    pieces = [Piece(MIB * i, MIB * (i + 1), "") for i in (0, 1, 2, 3, 4, 9)]
    found = stream.steps(pieces)
    assert [(step.start // MIB, step.end // MIB) for step in found] == [(0, 4), (4, 5), (9, 10)]


def test_bad_ranges_that_touch_are_one() -> None:
    assert faults.ranges([(4, 8), (0, 4), (10, 12)]) == "0 to 8, 10 to 12"
    assert faults.ranges([(i, i + 1) for i in range(0, 40, 2)]).endswith("and 12 more ranges")
