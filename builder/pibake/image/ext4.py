"""The ext4 file system of a root partition: read, enlarged and written by e2fsprogs, without root.

Superblock: 1024 bytes at byte 1024, little endian (Linux' Documentation/filesystems/ext4, "Super Block").
"""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, ImageError
from pibake.image import debugfs, table
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAGIC = 0xEF53
SUPERBLOCK = 1024
DIRECTORY, LINK, REGULAR = 0o040000, 0o120000, 0o100000
KIND = 0o170000
"""Types of inodes as in st_mode (inode(7))."""
LINKS = 40
"""Symbolic links followed on one path before it is called a loop, as Linux counts (path_resolution(7))."""


@dataclass(frozen=True)
class Node:
    """What a name in a directory stands for; `inode` is 0 for what is only about to be written."""

    inode: int
    mode: int
    size: int = 0

    @property
    def kind(self) -> int:
        """Return its type: DIRECTORY, LINK, REGULAR or another one of inode(7)."""
        return self.mode & KIND


ROOT = Node(2, DIRECTORY | 0o755)
"""The root directory: always inode 2."""


@dataclass(frozen=True)
class State:
    """How full a file system is, in bytes, and how many inodes are free."""

    size: int
    free: int
    block: int
    inodes: int


class _Unread(Exception):
    """The tree has to be read further: a directory (`path`) or a symbolic link (`path` and `inode`)."""

    def __init__(self, path: str, node: Node | None = None) -> None:
        super().__init__(path)
        self.path, self.node = path, node


class Files:
    """The tree of the file system at byte `offset` of `image`, read as far as it is asked about.

    Paths have no leading slash; the root is "". `directories` and `targets` hold what is known, and whoever writes
    keeps them up to date.
    """

    def __init__(self, image: Path, offset: int = 0) -> None:
        self.image, self.offset = image, offset
        self.directories: dict[str, dict[str, Node]] = {}
        self.targets: dict[str, str] = {}

    def know(self, paths: Iterable[str]) -> None:
        """Read all that resolving `paths` needs, with one process per level of the tree instead of one per path."""
        wanted = set(paths)
        while wanted:
            unread: dict[str, _Unread] = {}
            for path in tuple(wanted):
                try:
                    self._walk(path, follow=True)
                    wanted.discard(path)
                except _Unread as need:
                    unread[need.path] = need
            self._read(unread.values())

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Node | None]:
        """Return the path without symbolic links in it, and what is there, or None; its end need not exist.

        Args:
            path: where to look.
            follow: whether a symbolic link at the end of the path is followed, too.

        Raises:
            ImageError: links lead in a circle, or something on the way is no directory.
        """
        while True:
            try:
                return self._walk(path, follow=follow)
            except _Unread as need:
                self._read([need])

    def listing(self, path: str) -> dict[str, Node]:
        """Return the names in a directory; nothing if there is no such directory."""
        found, node = self.find(path)
        if node is None or node.kind != DIRECTORY:
            return {}
        if found not in self.directories:
            self._read([_Unread(found)])
        return dict(self.directories[found])

    def read(self, path: str) -> bytes | None:
        """Return the content of a regular file, or None if there is none at `path`."""
        found, node = self.find(path)
        return self._cat(found) if node and node.kind == REGULAR else None

    def _walk(self, path: str, *, follow: bool) -> tuple[str, Node | None]:
        parts, here, hops = path.split("/")[::-1], "", 0
        while parts:
            name = parts.pop()
            if name in {"", ".", ".."}:
                here = here.rpartition("/")[0] if name == ".." else here
                continue
            full = f"{here}/{name}" if here else name
            node = self._listing(here).get(name)
            if node is None:
                return "/".join([full, *parts[::-1]]), None
            if node.kind == LINK and (parts or follow):
                hops += 1
                if hops > LINKS:
                    raise ImageError(f"{self.image.name}: /{path}: too many levels of symbolic links")
                if full not in self.targets:
                    raise _Unread(full, node)
                here = "" if self.targets[full].startswith("/") else here
                parts += self.targets[full].split("/")[::-1]
            elif parts and node.kind != DIRECTORY:
                raise ImageError(f"{self.image.name}: /{path}: /{full} is no directory")
            else:
                here = full
        above, _, name = here.rpartition("/")
        return here, self.directories[above][name] if here else ROOT

    def _listing(self, directory: str) -> dict[str, Node]:
        if directory not in self.directories:
            raise _Unread(directory)
        return self.directories[directory]

    def _read(self, needs: Iterable[_Unread]) -> None:
        wanted = list(needs)
        commands = [
            f"stat <{need.node.inode}>" if need.node else f"ls -p {debugfs.quote('/' + need.path)}"
            for need in wanted
        ]
        for need, output in zip(wanted, debugfs.query(self.image, self.offset, commands), strict=True):
            if need.node:
                fast = re.search(r'^Fast link dest: "(.*)"$', output, re.MULTILINE)
                self.targets[need.path] = (
                    fast[1] if fast else self._cat(need.path).decode(errors="surrogateescape")
                )
            else:
                self.directories[need.path] = _parse(output)

    def _cat(self, path: str) -> bytes:
        with tempfile.TemporaryFile() as file:
            debugfs.cat(self.image, self.offset, f"/{path}", file)
            file.seek(0)
            return file.read()


def _parse(listed: str) -> dict[str, Node]:
    """Return the names of a directory from the output of `ls -p`: `/inode/mode/uid/gid/name/size/`."""
    found = {}
    for line in re.finditer(r"^/(\d+)/([0-7]+)/\d+/\d+/(.+)/(\d*)/$", listed, re.MULTILINE):
        if line[3] not in {".", ".."}:
            found[line[3]] = Node(int(line[1]), int(line[2], 8), int(line[4] or 0))
    return found


def read_file(image: Path, offset: int, path: str) -> bytes | None:
    """Return the content of a file in the ext4 file system at byte `offset` of an image; None if it is not there."""
    return Files(image, offset).read(path.lstrip("/"))


def state(image: Path, offset: int = 0) -> State:
    """Return how full a file system is.

    Raises:
        ImageError: there is no ext4 file system at that place.
    """
    with image.open("rb") as file:
        file.seek(offset + SUPERBLOCK)
        raw = file.read(1024)
    if len(raw) < 1024 or struct.unpack_from("<H", raw, 0x38)[0] != MAGIC:
        raise ImageError(
            f"{image.name}: no ext4 file system at byte {offset}",
            "pibake puts Kubernetes into root partitions with ext4 only",
        )
    blocks, free, inodes, shift = struct.unpack_from("<I4xIIxxxxI", raw, 0x4)
    high, high_free = struct.unpack_from("<I4xI", raw, 0x150)
    if (
        not struct.unpack_from("<I", raw, 0x60)[0] & 0x80
    ):  # INCOMPAT_64BIT; without it those fields mean nothing
        high = high_free = 0
    block = 1024 << shift
    return State((high << 32 | blocks) * block, (high_free << 32 | free) * block, block, inodes)


def root_partition(image: Path) -> table.Partition:
    """Return the last partition of an image, which is where Raspberry Pi images have their root file system.

    Raises:
        ImageError: it holds no ext4 file system.
    """
    last = max(table.read(image).partitions, key=lambda partition: partition.start)
    state(image, last.start)
    return last


def repair(part: Path, *, epoch: int) -> None:
    """Replay the journal and bring a file system into the state that resize2fs asks for."""
    _tool(["e2fsck", "-f", "-p", str(part)], "check the root file system", epoch, fine={0, 1})


def resize(part: Path, size: int, *, epoch: int) -> None:
    """Give the file system that fills the file `part` the new `size` in bytes.

    Only in a file of its own: resize2fs knows `?offset=`, but cuts the whole file to the size of the file system.
    """
    with part.open("r+b") as file:
        file.truncate(size)
    blocks = size // state(part).block
    _tool(["resize2fs", str(part), str(blocks)], "enlarge the root file system", epoch)


def check(part: Path) -> None:
    """Raise `ImageError` unless e2fsck finds a file system without fault."""
    _tool(["e2fsck", "-f", "-n", str(part)], "check the root file system", 0)


def _tool(argv: list[str], why: str, epoch: int, fine: frozenset[int] | set[int] = frozenset({0})) -> None:
    # Whether new inode tables are left to the kernel otherwise depends on the host's kernel (resize2fs.c).
    env = {"E2FSPROGS_FAKE_TIME": str(epoch), "RESIZE2FS_FORCE_LAZY_ITABLE_INIT": "1"}
    done = run(argv, why=why, env=env, check=False)
    if done.code not in fine:
        error = CommandFailed(argv, done.code, done.stdout + done.stderr, why=why)
        raise ImageError(f"the root file system is not sound: {error}") from error
