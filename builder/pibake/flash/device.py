"""Block devices: what `lsblk` and the kernel say of each, as values.

`lsblk --json` gives the tree of disks, their partitions, and what is built on those (device mapper, LVM, md, crypt), with
what is mounted of each (lsblk(8)). What the running system stands on is in `pibake.flash.system`.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.flash import system
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COLUMNS = (
    "KNAME", "PATH", "TYPE", "SIZE", "RO", "RM", "HOTPLUG", "TRAN", "VENDOR", "MODEL", "SERIAL", "MAJ:MIN", "FSTYPE",
    "LABEL", "PARTLABEL", "MOUNTPOINTS",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What is on a device: a partition or what is built on one, with its type or label, and where it is mounted."""

    path: str
    kind: str
    size: int
    file_system: str
    label: str
    mounts: tuple[str, ...]

    def __str__(self) -> str:
        what = " ".join(
            word for word in (self.file_system or self.kind, self.label and f'"{self.label}"') if word
        )
        return f"{self.path} ({what})"


@dataclass(frozen=True)
class Device:
    """A block device.

    `size` is in bytes; `kind` is lsblk's TYPE (disk, part, loop, ...); `bus` is usb, mmc, sata, nvme, loop, or "".
    `removable`: it is made to be taken out, or a loop device. `parts` is everything on it, however deep; `mounts` where
    any of that, or the device itself, is mounted ("[SWAP]" for swap); `system` which of the running system's places
    (/, /boot, swap, ...) stand on it.
    """

    name: str
    path: str
    kind: str
    size: int
    bus: str
    vendor: str
    model: str
    serial: str
    read_only: bool
    removable: bool
    parts: tuple[Part, ...]
    mounts: tuple[str, ...]
    system: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return vendor and model as a person knows the device, or its path if it says nothing of itself."""
        return " ".join(word for word in (self.vendor, self.model) if word) or self.path


def devices() -> tuple[Device, ...]:
    """Return all disks and loop devices of this machine that hold any bytes, those that are removable first."""
    listing = json.loads(_lsblk())["blockdevices"]
    found = parse(listing, _cards(), system.read())
    disks = [device for device in found if device.size and device.kind in {"disk", "loop"}]
    return tuple(sorted(disks, key=lambda device: (not device.removable, device.kind == "loop", device.name)))


def device(path: Path) -> Device:
    """Return the block device at a path, which may be a link such as those in /dev/disk/by-id.

    Raises:
        PibakeError: it is no block device, or the kernel does not know it.
    """
    if not stat.S_ISBLK(path.stat().st_mode):
        raise PibakeError(f"{path} is not a block device", "`pibake flash --list` shows which there are")
    number = path.stat().st_rdev
    wanted = f"{os.major(number)}:{os.minor(number)}"
    listing = json.loads(_lsblk())["blockdevices"]
    if found := parse_one(listing, wanted, _cards(), system.read()):
        return found
    raise PibakeError(f"{path}: lsblk lists no such block device", "was it taken out just now?")


def parse(
    listing: Sequence[Mapping[str, Any]], cards: Mapping[str, str], stands_on: Mapping[str, tuple[str, ...]]
) -> tuple[Device, ...]:
    """Return the devices at the top of lsblk's tree.

    Args:
        listing: `blockdevices` of `lsblk --json --bytes` with COLUMNS.
        cards: kernel's name -> "SD", "MMC" (that is eMMC, soldered on), ... for what is on an MMC bus.
        stands_on: "major:minor" of a device -> places of the running system on it, from `pibake.flash.system`.
    """
    return tuple(_device(node, cards, stands_on) for node in listing)


def parse_one(
    listing: Sequence[Mapping[str, Any]],
    number: str,
    cards: Mapping[str, str],
    stands_on: Mapping[str, tuple[str, ...]],
) -> Device | None:
    """Return the device with a "major:minor", wherever in lsblk's tree it is; None if it is nowhere."""
    for top in listing:
        for node in _tree(top):
            if node["maj:min"] == number:
                return _device(node, cards, stands_on)
    return None


def _device(
    node: Mapping[str, Any], cards: Mapping[str, str], stands_on: Mapping[str, tuple[str, ...]]
) -> Device:
    name, kind, bus = node["kname"], node["type"], _text(node["tran"])
    whole = list(_tree(node))
    if name in cards:
        bus = "mmc"
    elif kind == "loop":
        bus = "loop"
    soldered = cards.get(name, "SD") not in {"SD", "SDcombo"}
    removable = kind == "loop" or (not soldered and (bus == "usb" or node["rm"] or node["hotplug"]))
    return Device(
        name=name,
        path=node["path"],
        kind=kind,
        size=int(node["size"] or 0),
        bus=bus,
        vendor=_text(node["vendor"]),
        model=_text(node["model"]),
        serial=_text(node["serial"]),
        read_only=bool(node["ro"]),
        removable=bool(removable),
        parts=tuple(dict.fromkeys(_part(each) for each in whole[1:])),
        mounts=tuple(dict.fromkeys(place for each in whole for place in _mounts(each))),
        system=tuple(dict.fromkeys(place for each in whole for place in stands_on.get(each["maj:min"], ()))),
    )


def _part(node: Mapping[str, Any]) -> Part:
    label = _text(node["label"]) or _text(node["partlabel"])
    return Part(
        node["path"], node["type"], int(node["size"] or 0), _text(node["fstype"]), label, tuple(_mounts(node))
    )


def _mounts(node: Mapping[str, Any]) -> list[str]:
    return [place for place in node["mountpoints"] if place]


def _tree(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a device and all that is on it."""
    yield node
    for child in node.get("children", ()):
        yield from _tree(child)


def _text(value: str | None) -> str:
    """Return what a device says of itself in one clean line: firmware pads with blanks, and may hold anything."""
    return " ".join("".join(c if c.isprintable() else " " for c in value or "").split())


def _lsblk() -> str:
    return run(
        ["lsblk", "--json", "--bytes", "--all", "--output", ",".join(COLUMNS)], why="look at block devices"
    ).stdout


def _cards() -> dict[str, str]:
    """Return what kind of card each MMC device is (/sys/block/*/device/type; kernel documentation, mmc-dev-attrs)."""
    paths = Path("/sys/block").glob("mmcblk*/device/type")
    return {path.parts[3]: path.read_text("ascii").strip() for path in paths}
