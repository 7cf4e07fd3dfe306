"""The disks that stand for data disks in a test boot, as QEMU itself and a real udev take them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from pibake.vm import storage

if TYPE_CHECKING:
    from pathlib import Path

DISKS = [
    {"label": "data", "device": "/dev/sda"},
    {"label": "more", "device": "/dev/sdc"},
    {"label": "fast", "device": "/dev/nvme0n1"},
    {"label": "usb", "device": "/dev/disk/by-id/usb-Samsung_T7_S5-0:0"},
]


def qemu(*arguments: str) -> str:
    """What QEMU says of its devices with these options; the machine is stopped before its first instruction."""
    argv = ["qemu-system-aarch64", "-M", "virt", "-S", "-display", "none", "-monitor", "stdio", *arguments]
    done = subprocess.run(argv, input="info qtree\nquit\n", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_qemu_has_each_disk_where_the_kernel_gives_it_its_name(tmp_path: Path) -> None:
    disks = storage.prepare(DISKS, tmp_path, None)
    tree = qemu(*storage.arguments(disks))
    assert len(re.findall(r"dev: scsi-hd,", tree)) == 3
    assert len(re.findall(r"dev: nvme,", tree)) == 1
    assert re.search(r'serial = "pibake-usb"', tree)
    assert re.search(r'drive = "scsi-disk1"', tree)  # /dev/sdb: its place is filled


def test_disks_are_empty_and_made_once(tmp_path: Path) -> None:
    (first, *_) = storage.prepare(DISKS[:1], tmp_path, None)
    facts = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", first.file]))
    assert facts["virtual-size"] == storage.BYTES
    assert facts["actual-size"] < 1 << 20
    first.file.write_bytes(b"kept")
    storage.prepare(DISKS[:1], tmp_path, None)
    assert first.file.read_bytes() == b"kept"


def test_with_a_disk_that_is_kept_they_are_kept_beside_it(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (found,) = storage.prepare(DISKS[:1], tmp_path / "boot", tmp_path / "node3.qcow2")
    assert found.file == tmp_path / "node3-data.qcow2"


def test_udev_rules_name_what_no_kernel_names(tmp_path: Path) -> None:
    rules = storage.rules(storage.prepare(DISKS, tmp_path, None))
    assert rules.count("SYMLINK") == 1
    assert 'ATTR{serial}=="pibake-usb", SYMLINK+="disk/by-id/usb-Samsung_T7_S5-0:0"' in rules
    file = tmp_path / "70-pibake-boot.rules"
    file.write_text(rules)
    done = subprocess.run(["udevadm", "verify", file], capture_output=True, text=True, check=False)
    if "Unknown command verb" in done.stderr:
        pytest.skip("no udevadm with `verify` here (systemd 254)")
    assert done.returncode == 0, done.stderr


def test_a_node_without_data_disks_gets_none() -> None:
    assert storage.arguments(()) == []
    assert storage.rules(()).startswith("# ")
