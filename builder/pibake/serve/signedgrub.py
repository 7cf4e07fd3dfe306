"""Debian's signed shim and GRUB for arm64, out of the packages of a base's own suite.

apt resolves them against the base and checks its repository's signature; they stay in the cache and are verified there
(`pibake.apt`; PIBAKE_APT_URL names a mirror). Packages: shim-signed, which Microsoft signs, and grub-efi-arm64-signed.
"""

from __future__ import annotations

import tarfile
import tempfile
from typing import TYPE_CHECKING

from pibake import apt
from pibake.errors import PibakeError
from pibake.netboot.grub import GRUB, SHIM
from pibake.run import run
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.progress import Progress

SOURCES = {
    SHIM: ("shim-signed_", "usr/lib/shim/shimaa64.efi.signed"),
    GRUB: ("grub-efi-arm64-signed_", "usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"),
}
"""Name in the tree -> how the package's file name begins, and the path inside."""


def tree(base: Base, cache: Cache, progress: Progress) -> Tree:
    """Return both programs, 3.5 MB, by their names at the root of TFTP and HTTP.

    Args:
        base: a Debian base of the nodes: what signs its kernel is what this GRUB trusts.
        cache: where the packages are kept.
        progress: where to show progress.

    Raises:
        FetchError: the packages could not be had.
        PibakeError: the base is none of Debian's packages, or the packages are without the programs.
    """
    wanted = apt.Wanted(names=("shim-signed", "grub-efi-arm64-signed"))
    debs = {deb.path.name: deb.path for deb in apt.obtain(wanted, base, "arm64", cache, progress)}
    files = {}
    for name, (package, path) in SOURCES.items():
        found = [deb for file, deb in debs.items() if file.startswith(package)]
        data = _content(found[0], path) if found else None
        if data is None:
            raise PibakeError(
                f"{base.name}: no {path} in the packages of its suite, so that no machine can boot it by UEFI",
                "nodes that boot by UEFI need a Debian base",
            )
        files[name] = File(data)
    return Tree(files)


def _content(deb: Path, path: str) -> bytes | None:
    """Return one file of a package."""
    with tempfile.TemporaryFile() as packed:
        run(["dpkg-deb", "--fsys-tarfile", deb], why="unpack Debian packages", stdout=packed)
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            try:
                reader = archive.extractfile(f"./{path}")
            except KeyError:
                return None
            return reader.read() if reader else None
