"""The tree of an ext4 file system, read by debugfs as far as it is asked about."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import debugfs

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def contents(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of those of `paths` that are regular files, with one process for all of them."""
        wanted = list(paths)
        self.know(wanted)
        found = {path: node for path in wanted if (node := self.find(path)[1]) and node.kind == REGULAR}
        with tempfile.TemporaryDirectory(prefix="pibake-") as folder:
            targets = {path: Path(folder, str(number)) for number, path in enumerate(found)}
            commands = [
                f"dump <{node.inode}> {debugfs.quote(str(targets[path]))}" for path, node in found.items()
            ]
            debugfs.query(self.image, self.offset, commands)
            return {path: target.read_bytes() for path, target in targets.items()}

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
