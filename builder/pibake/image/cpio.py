"""Archives that the kernel unpacks into its initial root file system: cpio's "newc" format.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Each entry is a header of 110 ASCII
characters (the magic and thirteen numbers of eight hexadecimal digits), its name with a NUL, and its data; name and
data are padded to a multiple of 4 bytes. The kernel unpacks any number of archives one after the other, each of them
plain or compressed, and a later entry replaces an earlier one of the same path.
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pibake.tree import Tree

TRAILER = "TRAILER!!!"
"""The name of the entry that ends an archive."""


def pack(tree: Tree) -> bytes:
    """Return the files of a tree, and the folders they need, as a plain archive: the same for the same tree.

    Modes are kept, everything belongs to root, and times are 1970's. The kernel takes the folders as they stand: one
    that is a symbolic link in an archive before, such as `lib` where /usr is merged, would replace that link, so
    paths have to be those behind the links.
    """
    folders = {str(parent) for path, _ in tree for parent in PurePosixPath(path).parents} - {"."}
    entries = [(path, stat.S_IFDIR | 0o755, b"") for path in folders]
    entries += [(path, stat.S_IFREG | file.mode, file.data) for path, file in tree]
    numbered = enumerate(sorted(entries), start=1)  # a folder's path sorts before those below it
    return b"".join(_entry(number, *entry) for number, entry in numbered) + _entry(0, TRAILER, 0, b"")


def join(first: bytes, *others: bytes) -> bytes:
    """Return archives one after the other, each of them plain or compressed, as one initramfs.

    A plain archive has to begin at a multiple of 4 bytes. Four zero bytes at least stand before it: what is packed with
    lz4 has no end of its own, and zeros are what Linux takes for it (lib/decompress_unlz4.c, since 5.9; before,
    nothing may follow lz4 at all, so that an archive that overrides nothing is better put first).
    """
    joined = bytearray(first)
    for other in others:
        joined += bytes(4 + -len(joined) % 4) + other
    return bytes(joined)


def _entry(number: int, path: str, mode: int, data: bytes) -> bytes:
    """Return one entry: inode, mode, uid, gid, links, mtime, size, device, device node, length of name, checksum."""
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + "".join(f"{field:08X}" for field in fields).encode()
    return _padded(header + name) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
