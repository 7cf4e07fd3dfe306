"""Kernel modules for the initramfs, taken out of a root file system: those its own initramfs was made without.

Sources: modules.dep(5), modules.builtin in the kernel's Documentation/kbuild/kbuild.rst.
"""

from __future__ import annotations

import gzip
import lzma
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import zstandard

from pibake.errors import ImageError
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pibake.image.ext4_tree import Files

ROOT = "pibake/modules"


def modules(files: Files, release: str, names: Sequence[str]) -> Tree:
    """Return modules of a kernel and all they need, uncompressed, below `ROOT`/RELEASE: `NAME.ko`, and `order`.

    `order` has the names of all of them, a line each, in the order in which they are loaded; one that is built into
    the kernel is left out.

    Args:
        files: the root file system.
        release: of the kernel, as `uname -r` prints it.
        names: of modules, with `_` where a file has `-`.

    Raises:
        ImageError: the kernel has no such module.
    """
    folder = f"lib/modules/{release}"
    index = files.read(f"{folder}/modules.dep")
    if index is None:
        raise ImageError(f"{files.image.name}: there are no modules of the kernel {release}")
    lines = [line.split(":") for line in index.decode().splitlines()]
    paths = {_name(path): path for path, _ in lines}
    needed = {_name(path): rest.split() for path, rest in lines}
    builtin = (files.read(f"{folder}/modules.builtin") or b"").decode().splitlines()
    order: dict[str, str] = {}
    for name in names:
        if name in needed:  # modules.dep has the ones to load first last
            order |= {_name(path): path for path in reversed(needed[name])} | {name: paths[name]}
        elif name not in map(_name, builtin):
            raise ImageError(
                f"{files.image.name}: the kernel {release} has no module {name}",
                "a node of this base cannot boot from the wire; take another base, or put the module into this one",
            )
    wanted = {f"{folder}/{path}": name for name, path in order.items()}
    contents = files.contents(wanted)
    if missing := set(wanted) - set(contents):
        raise ImageError(f"{files.image.name}: /{min(missing)} is missing, though modules.dep has it")
    return Tree(
        {
            f"{ROOT}/{release}/order": File("".join(f"{name}\n" for name in order).encode()),
            **{
                f"{ROOT}/{release}/{name}.ko": File(_unpack(path, contents[path]))
                for path, name in wanted.items()
            },
        }
    )


def _name(path: str) -> str:
    """Return the name of a module from the path of its file, which may be compressed."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def _unpack(path: str, data: bytes) -> bytes:
    match PurePosixPath(path).suffix:
        case ".xz":
            return lzma.decompress(data)
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data
