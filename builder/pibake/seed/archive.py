"""Archives of a seed: files on their way through a boot partition, which keeps neither modes nor owners."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pibake.tree import Tree

SECRETS_FILE = "pibake-secrets.tar"
"""Where secrets wait on the boot partition until the node has joined; they are in no other file of a seed."""
FILES_FILE = "pibake-seed.tar"
"""What `pibake-seed.service` lays over the root file system before anything reads it."""


def tar(tree: Tree) -> bytes:
    """Return the files as a ustar archive (POSIX.1-1988, which every tar reads), the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, file in tree:
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(file.data), file.mode
            entry.uname, entry.gname = file.owner.split(":")
            archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()
