"""Which targets are not written, and why; docs/flash.md has the table."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pibake.flash.device import Device

LARGEST = 2 << 40
"""Bytes: no card is larger, an MBR reaches no further, and disks with a person's data often are."""


@dataclass(frozen=True)
class Refusal:
    """Why a target is not written, and what can be done about it."""

    reason: str
    hint: str


def refusals(device: Device, length: int = 0, allowed: Sequence[str] = ()) -> tuple[Refusal, ...]:
    """Return why a device is not written.

    Args:
        device: the device.
        length: bytes of the image; 0 if there is none yet.
        allowed: kernel's names of devices (`sdb`, `nvme0n1`) the person takes responsibility for.
    """
    found = []
    if device.system:
        places = ", ".join(device.system)
        hint = "nothing overrides this; choose another device"
        return (Refusal(f"it holds the running system ({places})", hint),)
    if device.mounts:
        places = ", ".join(device.mounts)
        found.append(Refusal(f"it is in use: {places}", _unmount(device)))
    if device.kind == "part":
        found.append(Refusal("it is a partition, and an image is a whole disk", "name the disk it is on"))
    elif device.kind not in {"disk", "loop"}:
        found.append(Refusal(f"it is no disk, but a device of the kind {device.kind}", "name a disk"))
    if device.read_only:
        found.append(Refusal("it is read-only", "look at the card's lock, and at the reader"))
    if device.size < length:
        found.append(
            Refusal(
                f"it has {device.size} bytes; the image needs {length}", f"take one of {size(length)} or more"
            )
        )
    if device.name not in allowed:
        confirm = f"if it is the right one, say so by its name: --allow {device.name}"
        if not device.removable:
            found.append(Refusal("it is not removable, so it may be a disk of this machine", confirm))
        if device.size > LARGEST:
            found.append(Refusal(f"it has {size(device.size)}, which no card has", confirm))
    return tuple(found)


def _unmount(device: Device) -> str:
    swaps = [part.path for part in device.parts if "[SWAP]" in part.mounts]
    places = [place for place in device.mounts if place != "[SWAP]"]
    commands = [f"umount {place}" for place in places] + [f"swapoff {path}" for path in swaps]
    return f"first: {'; '.join(commands)}" if commands else "stop using it first"


def file_refusals(path: Path, sources: Sequence[Path]) -> tuple[Refusal, ...]:
    """Return why a path that is no block device is not written as a regular file; `sources` are what is read."""
    if not path.exists():
        if path.parent.is_dir():
            return _missing(path)
        return (Refusal(f"there is no folder {path.parent}", "look at the spelling"),)
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        return (
            Refusal(
                "it is neither a block device nor a file",
                "`pibake flash --list` shows which devices there are",
            ),
        )
    if any(source.exists() and path.samefile(source) for source in sources):
        return (Refusal("it is what the image is made from", "choose another file"),)
    return ()


def _missing(path: Path) -> tuple[Refusal, ...]:
    """Refuse to make files in /dev: the name of a card that is not there would fill memory with its image."""
    if path.resolve().is_relative_to("/dev") and not path.resolve().is_relative_to("/dev/shm"):  # noqa: S108 - looked at, not written to
        return (
            Refusal("there is no such device", "put the card in; `pibake flash --list` shows what is there"),
        )
    return ()


def refuse(target: str, found: Sequence[Refusal]) -> None:
    """Raise what was found, all of it at once; do nothing if there is nothing."""
    if found:
        reasons = "; ".join(each.reason for each in found)
        raise PibakeError(
            f"{target} is not written: {reasons}", "\n".join(dict.fromkeys(each.hint for each in found))
        )
