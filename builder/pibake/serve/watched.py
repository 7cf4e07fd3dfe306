"""Becomes a program that asks before it opens a file by its handle: `watched.py SOCKET PROGRAM ARGUMENT...`.

A filter of seccomp stands between the program and open_by_handle_at(2); its other end goes to whoever listens at the Unix
socket (`handles`). Runs on its own, with the rights of the program, and needs the standard library only.

Sources: seccomp(2), seccomp_unotify(2), linux/audit.h, and the tables of system calls of the architectures.
"""

import ctypes
import os
import platform
import socket
import struct
import sys

CALLS = {"x86_64": (0xC000003E, 304), "aarch64": (0xC00000B7, 265), "armv7l": (0x40000028, 371)}
"""Machine -> its architecture for audit, and the number of open_by_handle_at."""
SECCOMP = {"x86_64": 317, "aarch64": 277, "armv7l": 383}
SET_MODE_FILTER, NEW_LISTENER = 1, 8
ALLOW, ASK, KILL = 0x7FFF0000, 0x7FC00000, 0x80000000
PATIENCE = 10.0


def program(machine: str) -> bytes:
    """Return the filter (code, steps on true, steps on false, operand): it asks about one call, and lets all others pass."""
    architecture, number = CALLS[machine]
    steps = (
        (0x20, 0, 0, 4),  # seccomp_data: the architecture
        (0x15, 1, 0, architecture),
        (0x06, 0, 0, KILL),
        (0x20, 0, 0, 0),  # the number of the call
        (0x15, 0, 1, number),
        (0x06, 0, 0, ASK),
        (0x06, 0, 0, ALLOW),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def listener(machine: str) -> int:
    """Let this process be filtered from now on; return where it asks.

    Raises:
        OSError: the kernel, or a filter around this one, does not allow that.
    """
    steps = program(machine)
    held = ctypes.create_string_buffer(steps, len(steps))
    filtering = ctypes.create_string_buffer(struct.pack("@HP", len(steps) // 8, ctypes.addressof(held)))
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(SECCOMP[machine], SET_MODE_FILTER, NEW_LISTENER, filtering)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(found)


def main(place: str, *argv: str) -> None:
    """Hand the listener over, and become the program."""
    machine = platform.machine()
    if struct.calcsize("P") == 4:  # the kernel may have more bits than what runs on it
        machine = "armv7l" if machine in {"aarch64", "armv8l", "armv7l"} else ""
    if machine not in CALLS:
        sys.exit(f"cannot watch which files {argv[0]} opens on {platform.machine()}: this is not known there")
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        try:
            link.connect(place)
            socket.send_fds(link, [b"!"], [listener(machine)])
            taken = link.recv(1)
        except OSError as error:
            sys.exit(f"cannot have pibake watch which files {argv[0]} opens: {error}")
    if not taken:
        sys.exit(f"pibake does not watch which files {argv[0]} opens")
    os.execvp(argv[0], argv)  # noqa: S606 - this process becomes it


if __name__ == "__main__":
    main(*sys.argv[1:])
