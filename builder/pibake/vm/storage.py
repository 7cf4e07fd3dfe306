"""Empty disks of a test boot, which stand for the data disks of a node and have their names there.

/dev/sdX is a disk on SCSI and /dev/nvmeXn1 one on NVMe, so that the kernel gives these names itself, in the order of the
controllers; what comes before them without being a data disk is a disk too small for one. Every other path, as below
/dev/disk/by-id, is a link that a udev rule makes to a virtio disk with a serial number of ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

BYTES = 4 << 30


@dataclass(frozen=True)
class Storage:
    """A disk that stands for a data disk: its label, the path it has on the node, and its qcow2 file."""

    label: str
    device: str
    file: Path


def prepare(disks: Iterable[Mapping[str, Any]], folder: Path, kept: Path | None) -> tuple[Storage, ...]:
    """Make an empty disk for each of a node's `disks` (as in a manifest): beside the disk that is kept, or thrown away in `folder`."""
    found = []
    for disk in disks:
        label = disk["label"]
        file = kept.with_name(f"{kept.stem}-{label}.qcow2") if kept else folder / f"disk-{label}.qcow2"
        if not file.exists():
            run(["qemu-img", "create", "-q", "-f", "qcow2", file, str(BYTES)], why="make a data disk")
        found.append(Storage(label, disk["device"], file))
    return tuple(found)


def arguments(disks: Sequence[Storage]) -> list[str]:
    """Return QEMU's options for the disks."""
    scsi = {_letters(disk.device): disk for disk in disks if _letters(disk.device) is not None}
    nvme = {_controller(disk.device): disk for disk in disks if _controller(disk.device) is not None}
    found = ["-device", "virtio-scsi-device,id=scsi"] if scsi else []
    for place in range(max((at for at in scsi if at is not None), default=-1) + 1):
        found += _attached(scsi.get(place), f"scsi-disk{place}", f"scsi-hd,bus=scsi.0,scsi-id={place}")
    for place in range(max((at for at in nvme if at is not None), default=-1) + 1):
        found += _attached(nvme.get(place), f"nvme-disk{place}", f"nvme,serial=nvme{place}")
    for number, disk in enumerate(_linked(disks)):
        found += _attached(disk, f"data-disk{number}", f"virtio-blk-device,serial=pibake-{disk.label}")
    return found


def rules(disks: Sequence[Storage]) -> str:
    """Return the udev rules by which disks have names that no kernel gives (udev(7))."""
    lines = ["# Made by pibake for a test boot: names of data disks.\n"]
    lines += [
        f'SUBSYSTEM=="block", ENV{{DEVTYPE}}=="disk", ATTR{{serial}}=="pibake-{disk.label}", SYMLINK+="{disk.device[5:]}"\n'
        for disk in _linked(disks)
    ]
    return "".join(lines)


def _attached(disk: Storage | None, name: str, device: str) -> list[str]:
    """Return the options for one disk, or for what fills its place."""
    if disk is None:
        backend = ["-blockdev", f"driver=null-co,read-zeroes=on,size=1048576,node-name={name}"]
    else:
        file = str(disk.file).replace(
            ",", ",,"
        )  # QEMU's option lists double a comma that belongs to the value
        backend = ["-drive", f"file={file},format=qcow2,if=none,id={name},cache=unsafe,discard=unmap"]
    return [*backend, "-device", f"{device},drive={name}"]


def _linked(disks: Sequence[Storage]) -> list[Storage]:
    return [disk for disk in disks if _letters(disk.device) is None and _controller(disk.device) is None]


def _letters(device: str) -> int | None:
    """Return which SCSI disk a path is, from 0: /dev/sda is 0, /dev/sdaa 26."""
    found = re.fullmatch(r"/dev/sd([a-z]{1,2})", device)
    if not found:
        return None
    place = 0
    for letter in found[1]:
        place = place * 26 + ord(letter) - ord("a") + 1
    return place - 1


def _controller(device: str) -> int | None:
    """Return which NVMe controller a path is the first disk of."""
    found = re.fullmatch(r"/dev/nvme([0-9])n1", device)
    return int(found[1]) if found else None
