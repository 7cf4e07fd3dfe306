"""Keeps NFS clients within what is exported to somebody: a file handle can be made up, and Ganesha opens any of its file system.

A handle is an inode's number and generation. Those of the root of a file system are known to everybody (2 and 0 on ext4), and
whoever may mount anything could go down from there to every file of this server's. So Ganesha asks (`watched`) whether it
may open a handle, and may if that is of a file below a folder that is exported. It asks when it opens, not when it reads or writes.

What is left is to guess the generation of another node's file, 32 random bits: each wrong guess takes `PAUSE`.

Sources: open_by_handle_at(2), seccomp_unotify(2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import os
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from pibake.errors import PibakeError
from pibake.log import log
from pibake.serve import watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LIBC = ctypes.CDLL(None, use_errno=True)
RECEIVE, SEND = 0xC0502100, 0xC0182101
"""SECCOMP_IOCTL_NOTIF_RECV and _SEND."""
ASKED = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, thread, flags; number, architecture, instruction pointer and arguments of the call."""
PEER = struct.Struct("=iII")
"""struct ucred: process, user and group (unix(7))."""
ANSWER = struct.Struct("=QqiI")
"""struct seccomp_notif_resp: id, value, error, flags."""
CONTINUE = 1
AT_FDCWD = -100
HEAD = struct.Struct("=Ii")
"""struct file_handle: bytes of the handle, and its type; the handle follows."""
LONGEST = 128
"""Bytes of a handle (linux/exportfs.h, MAX_HANDLE_SZ)."""
LOOK = 200
"""Milliseconds between two looks at whether to stop."""
PAUSE = 0.005
"""Seconds that a handle of no exported file takes."""
AGAIN = 1.0
"""Seconds between two searches for what the kernel does not know by name, as after a start."""
SEARCHED, KEPT = 1000, 100_000
"""Files below one folder that are searched, a dozen unless a node makes more there; and handles that are remembered."""


class Handles:
    """Answers Ganesha while its block is entered.

    Args:
        place: the Unix socket at which a program that begins hands over where it asks.
        roots: the folders that are exported, without symbolic links in their paths.
    """

    def __init__(self, place: Path, roots: Callable[[], Iterable[Path]]) -> None:
        self._place = place
        self._roots = roots
        self._known: dict[bytes, Path] = {}
        self._searched = -AGAIN
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            PibakeError: there cannot be such a socket.
        """
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._place.parent.mkdir(0o700, parents=True, exist_ok=True)
            self._place.unlink(missing_ok=True)
            self._listener.bind(str(self._place))
            self._place.chmod(0o600)
        except OSError as error:
            self._listener.close()
            raise PibakeError(f"cannot listen at {self._place}: {error.strerror}") from error
        self._listener.listen()
        self._listener.settimeout(LOOK / 1000)
        self._start(self._take)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self._place.unlink(missing_ok=True)

    def _start(self, work: Callable[..., None], *arguments: int) -> None:
        thread = threading.Thread(target=work, args=arguments, name="handles", daemon=True)
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def _take(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):  # nobody came, or whoever did has ended
                link, _ = self._listener.accept()
                with link:
                    link.settimeout(1)
                    _, (descriptor, *_), _, _ = socket.recv_fds(link, 1, 1)
                    peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
                    self._start(self._answer, descriptor, PEER.unpack(peer)[0])
                    link.sendall(b"!")

    def _answer(self, listener: int, process: int) -> None:
        """Answer one process until it ends; once nobody does any more, the kernel refuses what it asks for."""
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        try:
            with _memory(process) as memory:
                while not self._stop.is_set():
                    events = poll.poll(LOOK)
                    if events and events[0][1] & select.POLLHUP:
                        return
                    if events:
                        with suppress(OSError):  # the thread that asked has ended
                            self._one(listener, memory)
        except OSError as error:
            log.warning("cannot see what Ganesha opens, and so it opens nothing: %s", error)
        finally:
            os.close(listener)

    def _one(self, listener: int, memory: BinaryIO) -> None:
        asked = bytearray(ASKED.size)
        fcntl.ioctl(listener, RECEIVE, asked)
        ident, *_, address, _, _, _, _ = ASKED.unpack(asked)
        try:
            may = self.exported(_handle(memory, address))
        except OSError:
            may = False
        if not may:
            self._stop.wait(PAUSE)
        answer = ANSWER.pack(ident, 0, 0, CONTINUE) if may else ANSWER.pack(ident, 0, -errno.ESTALE, 0)
        fcntl.ioctl(listener, SEND, answer)

    def exported(self, handle: bytes) -> bool:
        """Tell whether a handle (struct file_handle) is of one of the folders, or of a file or folder below."""
        roots = tuple(self._roots())
        path = self._known.get(handle)
        if path is None:
            path = _path(roots, handle)
            if path is None and time.monotonic() > self._searched + AGAIN:
                self._known = {found: path for root in roots for found, path in _below(root)}
                self._searched = time.monotonic()
                path = self._known.get(handle)
            if path is None:
                return False
            if len(self._known) < KEPT:
                self._known[handle] = path
        return any(path.is_relative_to(root) for root in roots)


def _memory(process: int) -> BinaryIO:
    """Return the memory of a process as soon as it has become the program.

    A parent may look there without a right of its own until the program acts as another user, as Ganesha does for each.

    Raises:
        OSError: it has ended, or this process may not look there.
    """
    folder = Path("/proc", str(process))
    while watched.__file__.encode() in (folder / "cmdline").read_bytes():
        time.sleep(LOOK / 100_000)
    return (folder / "mem").open("rb", buffering=0)


def _handle(memory: BinaryIO, address: int) -> bytes:
    """Return the handle that lies at an address in another process.

    Raises:
        OSError: it has ended.
    """
    memory.seek(address)
    head = memory.read(HEAD.size)
    return head + memory.read(min(HEAD.unpack(head)[0], LONGEST))


def _path(roots: Iterable[Path], handle: bytes) -> Path | None:
    """Return where below one of the folders the kernel finds a handle; None if it is elsewhere, nowhere, or not known by name."""
    for mounted in {root.stat().st_dev: root for root in roots if root.exists()}.values():
        folder = os.open(mounted, os.O_RDONLY | os.O_DIRECTORY)
        found = LIBC.open_by_handle_at(folder, ctypes.create_string_buffer(handle), os.O_PATH)
        os.close(folder)
        if found < 0:
            continue
        try:
            path = Path(f"/proc/self/fd/{found}").readlink()
            if any(path.is_relative_to(root) for root in roots) and os.path.samestat(
                path.lstat(), os.fstat(found)
            ):
                return path
        except OSError:  # it is known by no name any more
            continue
        finally:
            os.close(found)
    return None


def _below(root: Path) -> Iterator[tuple[bytes, Path]]:
    """Yield handle and path of a folder and of what is below; no link is followed, whatever is put in its place meanwhile."""
    walk = (
        (folder, name, at) for folder, names, files, at in os.fwalk(root) for name in (".", *names, *files)
    )
    for folder, name, at in itertools.islice(walk, SEARCHED):
        if handle := handle_of(name, at):
            yield handle, Path(folder, name)


def handle_of(path: Path | str, folder: int = AT_FDCWD) -> bytes:
    """Return the handle (struct file_handle) of a file, in an open folder; nothing if there is none."""
    handle = ctypes.create_string_buffer(HEAD.pack(LONGEST, 0), HEAD.size + LONGEST)
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(folder, os.fsencode(path), handle, ctypes.byref(mount), 0) < 0:
        return b""
    return handle.raw[: HEAD.size + HEAD.unpack_from(handle.raw)[0]]
