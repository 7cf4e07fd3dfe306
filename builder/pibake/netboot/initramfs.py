"""What is added to a distribution's own initramfs, so that it finds a root file system on the wire.

An archive of its own behind what is there: nothing is rebuilt, and none of its files is replaced. initramfs-tools reads
`/scripts/pibake` for `boot=pibake` (initramfs-tools(7), "Boot scripts"); dracut runs what lies in its folders of hooks
(dracut.modules(7)), which are in /var/lib since dracut 104 and in /usr/lib before.
"""

from __future__ import annotations

from pibake import resources
from pibake.tree import File, Tree

PROGRAM = "pibake/mount"
TOLD = ("tell", "pibake-root.service", "pibake-cloud-init.service", "pibake-told.conf")
"""What it leaves for the root file system, and tells this server with how far the node has come."""
DRACUT = ("var/lib/dracut/hooks", "usr/lib/dracut/hooks")


def scripts() -> Tree:
    """Return the program that mounts the root, and what has both kinds of initramfs run it."""
    hooks = {
        "cmdline/05-pibake.sh": File(_data("initramfs", "dracut-cmdline"), 0o755),
        "initqueue/settled/05-pibake.sh": File(_data("initramfs", "dracut-settled"), 0o755),
        "mount/05-pibake.sh": File(_data("initramfs", "dracut-mount"), 0o755),
    }
    return Tree(
        {
            PROGRAM: File(_data("initramfs", "mount"), 0o755),
            **{f"pibake/{name}": File(_data("initramfs", name)) for name in TOLD},
            "scripts/pibake": File(_data("initramfs", "initramfs-tools")),
            **{f"{folder}/{name}": file for folder in DRACUT for name, file in hooks.items()},
        }
    )


def _data(*names: str) -> bytes:
    return resources.path("netboot", *names).read_bytes()
