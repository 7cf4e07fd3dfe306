"""Root file systems of golden images, mounted where only this process and its engines see them.

The kernel takes all of it back when the last process in the mount namespace ends, however it ends: mounts, and the
loop devices under them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path

from pibake.errors import CommandFailed, PibakeError
from pibake.run import run

CLONE_NEWNS = 0x00020000
LOOP_CTL_ADD, LOOP_CTL_REMOVE, LOOP_CONFIGURE = 0x4C80, 0x4C81, 0x4C0A
LO_FLAGS_READ_ONLY, LO_FLAGS_AUTOCLEAR = 1, 4
"""linux/sched.h, and linux/loop.h, with `struct loop_config` (since Linux 5.8)."""
CONTROL = Path("/dev/loop-control")
FIRST, LAST = 0x1000, 0xFFFF
"""The numbers of loop devices that are used: above those that others get, and small enough for any `max_part`."""
TRIES = 16
PATIENCE = 5.0
"""Seconds to wait for the loop device of a server that was just killed."""
HINT = (
    "it needs root, loop devices and ext4: in a container, start it privileged; elsewhere: sudo modprobe loop"
)


def private() -> None:
    """Give this process mounts of its own, which its children share and nobody else sees.

    Threads that run already would stay where they are (unshare(2)), so it comes before the first of them.

    Raises:
        PibakeError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        why = os.strerror(ctypes.get_errno())
        raise PibakeError(
            f"cannot have mounts of its own: {why}", "run it as root; in a container, start it privileged"
        )
    run(["mount", "--make-rprivate", "/"], why="have mounts of its own")


def mount(image: Path, start: int, size: int, target: Path) -> None:
    """Mount the ext4 file system of `size` bytes at byte `start` of an image, to read, at the folder `target`.

    The number of the loop device follows from `target`, because it is in every file handle of what is exported from
    there (`pibake.netboot.ganesha`): the same after a restart of this server or of the whole machine. The device itself is hidden:
    Ganesha would find the file system's UUID on it, and take two golden images of one base for the same.

    Raises:
        PibakeError: there are no loop devices, or the file system cannot be mounted.
    """
    target.mkdir(parents=True, exist_ok=True)
    device = _device(image, target)
    try:
        descriptor = os.open(device, os.O_RDONLY)
        try:  # until it is mounted, the descriptor keeps it
            _configure(descriptor, image, start, size)
            run(["mount", "-n", "-t", "ext4", "-o", "ro,noload,nodev,nosuid", device, target])
        finally:
            os.close(descriptor)
    except (OSError, CommandFailed) as fault:
        said = fault.output.strip() if isinstance(fault, CommandFailed) else fault.strerror
        raise PibakeError(
            f"{image}: its root file system cannot be mounted at {target}: {said}", HINT
        ) from fault
    run(["mount", "-n", "--bind", "/dev/null", device], why=f"hide {device}")


def _configure(descriptor: int, image: Path, start: int, size: int) -> None:
    """Show a part of an image on a loop device, to read, for as long as anybody uses it.

    mount(8) would do it, but not where another loop device shows the same part: another cluster's, or a person's.
    """
    info = struct.pack("=5Q4I160x16x", 0, 0, 0, start, size, 0, 0, 0, LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR)
    backing = os.open(image, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, LOOP_CONFIGURE, struct.pack("=2I", backing, 0) + info + bytes(64))
    finally:
        os.close(backing)


def release(target: Path) -> None:
    """Unmount what is at `target`, and give its loop device back."""
    number = os.minor(target.stat().st_dev)
    name = next(path.name for path in Path("/sys/block").glob("loop*") if _minor(path) == number)
    run(["umount", "-n", f"/dev/{name}"], why="show the loop device again")
    run(["umount", "-n", target], why=f"unmount {target}")
    target.rmdir()
    with suppress(OSError):  # another process in the namespace still sees it: it goes with that
        _control(LOOP_CTL_REMOVE, int(name[4:]))


def _device(image: Path, target: Path) -> Path:
    """Return a loop device for `target`: the same each time, if nobody else has taken that one."""
    digest = hashlib.sha256(str(target.resolve()).encode()).digest()
    wanted = FIRST + int.from_bytes(digest[:4], "big") % (LAST - TRIES - FIRST)
    deadline = time.monotonic() + PATIENCE
    for number in range(wanted, wanted + TRIES):
        while (user := _user(number)) == str(image.resolve()) and time.monotonic() < deadline:
            time.sleep(0.05)  # a server that was killed a moment ago
        if not user:
            return _made(number)
    raise PibakeError(f"the loop devices {wanted} to {wanted + TRIES - 1} are all taken", "see losetup -l")


def _user(number: int) -> str:
    """Return the file that a loop device shows, or ""."""
    try:
        return Path(f"/sys/block/loop{number}/loop/backing_file").read_text("utf-8").rstrip("\n")
    except FileNotFoundError:
        return ""


def _made(number: int) -> Path:
    """Return a loop device, made if it is not there."""
    try:
        _control(LOOP_CTL_ADD, number)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise PibakeError(
                f"{CONTROL}: {error.strerror}; golden images are mounted through it", HINT
            ) from error
    device = Path(f"/dev/loop{number}")
    if not device.exists():  # a /dev that is no devtmpfs
        os.mknod(device, 0o600 | stat.S_IFBLK, os.makedev(7, _minor(Path(f"/sys/block/loop{number}"))))
    return device


def _minor(block: Path) -> int:
    return int((block / "dev").read_text("ascii").partition(":")[2])


def _control(request: int, number: int) -> None:
    descriptor = os.open(CONTROL, os.O_RDWR)
    try:
        fcntl.ioctl(descriptor, request, number)
    finally:
        os.close(descriptor)
