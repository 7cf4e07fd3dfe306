"""What the running system stands on: the block devices behind /, /boot, /usr, swap and their like.

The kernel's list of mounts (/proc/self/mountinfo, proc(5)) names a device for most; for overlays (live systems, containers) it
names folders, for btrfs only the path of a device, and a loop device stands on a file. All of these are followed.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PLACES = (
    "/",
    "/boot",
    "/boot/efi",
    "/boot/firmware",
    "/efi",
    "/usr",
    "/var",
    "/home",
    "/etc",
    "/opt",
    "/srv",
)
"""Mount points without which the running system, or the person in front of it, loses something."""
SWAP = "[SWAP]"
FOLDERS = re.compile(r"(?:^|,)(?:lowerdir\+?|upperdir|datadir\+?)=([^,]*)")


@dataclass(frozen=True)
class Mount:
    """One mount: "major:minor" of its device, where it is, its kind, its source, and the options of its file system."""

    number: str
    place: str
    kind: str
    source: str
    options: str


def read() -> dict[str, tuple[str, ...]]:
    """Return, for each device ("major:minor") the running system stands on, which of its places do."""
    mounts = parse(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))
    swaps = swap_paths(Path("/proc/swaps").read_text("utf-8", "surrogateescape"))
    numbers = {path: number for path in (*swaps, *(m.source for m in mounts)) if (number := _number(path))}
    backing = {}
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it may be detached this very moment
            backing[(file.parents[1] / "dev").read_text("ascii").strip()] = file.read_text("utf-8").strip()
    return stands_on(mounts, swaps, numbers, backing)


def parse(mountinfo: str) -> tuple[Mount, ...]:
    """Return the mounts in the text of /proc/self/mountinfo; later ones may hide earlier ones."""
    mounts = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, source, options) = before.split(" "), after.split(" ", 2)
        mounts.append(Mount(fields[2], _plain(fields[4]), kind, _plain(source), _plain(options)))
    return tuple(mounts)


def swap_paths(swaps: str) -> tuple[str, ...]:
    """Return the paths in the text of /proc/swaps, devices and files."""
    return tuple(_plain(line.split()[0]) for line in swaps.splitlines()[1:] if line.strip())


def stands_on(
    mounts: tuple[Mount, ...], swaps: tuple[str, ...], numbers: dict[str, str], backing: dict[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return, for each device ("major:minor") the running system stands on, which of its places do.

    Args:
        mounts: all mounts.
        swaps: paths of swap devices and files.
        numbers: path of a device -> its "major:minor".
        backing: "major:minor" of a loop device -> the file it stands on.
    """
    following = _Following(mounts, numbers, backing)
    for mount in mounts:
        if mount.place in PLACES:
            following.mount(mount, mount.place)
    for path in swaps:
        following.path(path, SWAP)
    return {number: tuple(places) for number, places in following.found.items()}


@dataclass
class _Following:
    """What has been found so far: device -> places of the system on it."""

    mounts: tuple[Mount, ...]
    numbers: dict[str, str]
    backing: dict[str, str]
    found: dict[str, list[str]] = field(default_factory=dict)

    def device(self, number: str, place: str) -> bool:
        """Note a device, and go on to the file a loop device stands on; return whether it was news."""
        if place in self.found.setdefault(number, []):
            return False
        self.found[number].append(place)
        if number in self.backing:
            self.path(self.backing[number], place)
        return True

    def path(self, path: str, place: str) -> None:
        """Follow a path: a device's own, or a file's to the mount it is in."""
        if path in self.numbers:
            self.device(self.numbers[path], place)
        elif mount := _mount_of(path, self.mounts):
            self.mount(mount, place)

    def mount(self, mount: Mount, place: str) -> None:
        """Follow a mount to its device, the device its source names, and the folders of an overlay."""
        if not self.device(mount.number, place):
            return
        if mount.source in self.numbers:
            self.device(self.numbers[mount.source], place)
        if mount.kind == "overlay":
            for match in FOLDERS.finditer(mount.options):
                for folder in match[1].split(":"):
                    self.path(folder, place)


def _mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the mount a path is in: the last one of those nearest to it."""
    if not path.startswith("/"):
        return None
    parents = [str(path) for path in (PurePosixPath(path), *PurePosixPath(path).parents)]
    around = [mount for mount in mounts if mount.place in parents]
    return max(enumerate(around), key=lambda pair: (len(pair[1].place), pair[0]))[1] if around else None


def _number(path: str) -> str:
    with suppress(OSError, ValueError):
        status = os.stat(path)  # noqa: PTH116 - a source such as "overlay" is no path
        if path.startswith("/") and stat.S_ISBLK(status.st_mode):
            return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return ""


def _plain(text: str) -> str:
    """Undo the kernel's octal escapes of blanks, tabs, newlines and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
