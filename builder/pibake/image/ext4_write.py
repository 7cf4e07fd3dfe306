"""Files, directories and links written into an ext4 file system, as one script for debugfs.

debugfs(8) is no `cp`: `write` makes a new name in the current directory only, a file that is there has to be
removed first (which frees its blocks), and neither owners nor modes are taken from anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import debugfs
from pibake.image.debugfs import quote
from pibake.image.ext4_tree import DIRECTORY, LINK, REGULAR, Node

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pibake.image.ext4_tree import Files

BATCH = 64 << 20
"""Bytes that one debugfs process writes, so that a person sees progress."""


class Kind(Enum):
    """What to write."""

    FILE = REGULAR
    DIRECTORY = DIRECTORY
    SYMLINK = LINK
    HARD_LINK = 0
    ABSENT = -1
    """Nothing: a file or link that is there is removed."""


@dataclass(frozen=True)
class Entry:
    """One thing to write.

    Attributes:
        path: where, without leading slash; symbolic links on the way are followed, and parents made.
        kind: what it is.
        source: the file of the host that holds a file's content.
        target: what a symbolic link says, or the path of the file that a hard link is another name of.
        mode: permission bits.
        uid: owner.
        gid: owning group.
        mtime: when the content was changed last, in Unix time; the time of the image by default.
        claims: a directory that is there already gets this mode and owner, too.
    """

    path: str
    kind: Kind = Kind.FILE
    source: Path | None = None
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int | None = None
    claims: bool = False


def write(
    files: Files, entries: Sequence[Entry], *, epoch: int, on_bytes: Callable[[int], None] = lambda _: None
) -> None:
    """Write `entries` in their order; a file or link that is there is replaced, a directory is kept.

    Args:
        files: the file system, in a file of its own or inside an image.
        entries: what to write.
        epoch: the time of everything that has no time of its own.
        on_bytes: called with the bytes of content written so far.

    Raises:
        ImageError: a file would replace a directory, or the file system is full.
    """
    script = _Script(files)
    files.know(entry.path for entry in entries)
    size = done = 0
    for entry in entries:
        script.add(entry)
        size += entry.source.stat().st_size if entry.source else 0
        if size >= BATCH:
            script.run(epoch)
            done, size = done + size, 0
            on_bytes(done)
    script.run(epoch)
    on_bytes(done + size)


class _Script:
    """Commands that make entries, and what they will have changed, noted in `files`."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.commands: list[str] = []
        self.names: dict[str, int] = {}
        """How many names the files have that were written here."""

    def run(self, epoch: int) -> None:
        if self.commands:
            debugfs.edit(self.files.image, self.files.offset, self.commands, epoch=epoch)
            self.commands = []

    def add(self, entry: Entry) -> None:
        if entry.kind is Kind.ABSENT and not self.files.find(entry.path, follow=False)[1]:
            return  # and no directories are made for it
        parent, _, name = entry.path.rpartition("/")
        parent, _ = self.files.find(parent)
        self._parents(parent)
        path = f"{parent}/{name}" if parent else name
        there = self._there(entry, path)
        if there and entry.kind is Kind.DIRECTORY:
            if entry.claims:
                self._attributes(entry, path)
            return
        if there:
            self._do("rm", path)
            del self.files.directories[parent][name]
        if entry.kind is Kind.ABSENT:
            return
        match entry.kind:
            case Kind.FILE:
                self._do("cd", parent)
                self.commands.append(f"write {quote(str(entry.source))} {quote(name)}")
                self.names[path] = 1
            case Kind.SYMLINK:
                self._do("symlink", path, quote(entry.target))
                self.files.targets[path] = entry.target
            case Kind.DIRECTORY:
                self._do("mkdir", path)
                self.files.directories[path] = {}
            case Kind.HARD_LINK:
                self._hard_link(entry, path)
        self.files.directories[parent][name] = Node(0, entry.kind.value | entry.mode)
        self._attributes(entry, path)

    def _do(self, command: str, path: str, *rest: str) -> None:
        self.commands.append(" ".join([command, _quoted(path), *rest]))

    def _there(self, entry: Entry, path: str) -> Node | None:
        """Return what has the name already; instead of a directory, a link to one is as good, as dpkg sees it."""
        _, there = self.files.find(path, follow=entry.kind is Kind.DIRECTORY)
        if there and (there.kind == DIRECTORY) != (entry.kind is Kind.DIRECTORY):
            is_one, wanted = (
                ("a directory", "a file or link") if there.kind == DIRECTORY else ("no directory", "one")
            )
            raise ImageError(f"{self.files.image.name}: /{path} is {is_one}; {wanted} cannot take its place")
        return there

    def _parents(self, path: str) -> None:
        """Make a directory, whose path is resolved already, and those above it, as far as they are missing."""
        _, node = self.files.find(path)
        if node:
            if node.kind != DIRECTORY:
                raise ImageError(f"{self.files.image.name}: /{path} is no directory")
            return
        above, _, name = path.rpartition("/")
        self._parents(above)
        self._do("mkdir", path)
        self._do("sif", path, "mode", f"0{DIRECTORY | 0o755:o}")
        self.files.directories[path] = {}
        self.files.directories[above][name] = Node(0, DIRECTORY | 0o755)

    def _hard_link(self, entry: Entry, path: str) -> None:
        """Give a file of the same run one more name; debugfs leaves counting them to us."""
        target, _ = self.files.find(entry.target, follow=False)
        if target not in self.names:
            raise ImageError(f"/{path} is a hard link to /{entry.target}, which was not written before it")
        self.names[target] += 1
        self._do("ln", target, _quoted(path))
        self._do("sif", target, "links_count", str(self.names[target]))

    def _attributes(self, entry: Entry, path: str) -> None:
        if entry.kind is Kind.HARD_LINK:
            return  # they are those of the file
        if entry.kind is not Kind.SYMLINK:
            self._do("sif", path, "mode", f"0{entry.kind.value | entry.mode:o}")
        for field, value in (("uid", entry.uid), ("gid", entry.gid)):
            if value or entry.claims:
                self._do("sif", path, field, str(value))
        if entry.mtime is not None:
            self._do("sif", path, "mtime", f"@{entry.mtime}")


def _quoted(path: str) -> str:
    # `mkdir /opt` would make `opt` in the current directory: what is before the last slash, nothing, is the parent
    return quote(f"/./{path}")
