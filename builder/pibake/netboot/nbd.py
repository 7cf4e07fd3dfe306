"""What an initramfs gets for `root: nbd`: the client that makes the server's disk the node's /dev/nbd0."""

from __future__ import annotations

from pibake import resources
from pibake.tree import Tree

ROOT = "pibake/nbd"


def client() -> Tree:
    """Return the client, below `ROOT`; it needs `pibake.image.python.runtime` and the kernel's module `nbd`.

    `/pibake/nbd/attach ADDRESS PORT EXPORT` returns when /dev/nbd0 and its partitions are there, however long it takes.
    """
    files = Tree.read(resources.path("netboot", "nbd"))
    return Tree({f"{ROOT}/{path}": file for path, file in files})
