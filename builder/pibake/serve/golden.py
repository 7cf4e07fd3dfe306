"""Golden images as nodes on the wire boot from them: the image for its root file system, its boot partition for TFTP.

Both are kept for as long as a node's own files lie over them, whatever becomes of the cache: an image is a further name
of the cache's file where that is on the same file system, and its copy elsewhere.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import boards
from pibake.bases import Base
from pibake.errors import PibakeError
from pibake.fsys import delete, load, store
from pibake.ground import Ground
from pibake.image import cpio, ext4, fat, kmodules, python
from pibake.image.ext4_tree import Files
from pibake.image.firmware import boot_files
from pibake.image.layout import boot_partition
from pibake.netboot import initramfs
from pibake.netboot.nbd import client
from pibake.netboot.values import Root
from pibake.run import run
from pibake.system import Network, System
from pibake.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Collection

    from pibake.serve.folders import Folders

MODULES = {"nfs": ("nfsv4", "loop", "ext4", "overlay"), "nbd": ("nbd", "ext4")}
"""What a root needs of the kernel, and an initramfs may lack; drivers of Ethernet ports it has (`MODULES=most`)."""
RESENDS = (5, 9)
"""The first Linux whose NBD sends again what was under way when a connection broke (drivers/block/nbd.c)."""
KEEPS = (Network.NETPLAN, Network.NETWORKD)
"""What has been seen to configure a network without taking it down under the root file system behind it."""


@dataclass(frozen=True)
class Golden:
    """A golden image that is ready to be served.

    Attributes:
        root: what nodes mount.
        on: what they are made from.
        tftp: its boot partition as TFTP serves it, for nodes with one kind of root.
    """

    root: Root
    on: Ground
    tftp: Path


def golden(on: Ground, kind: str, folders: Folders) -> Golden:
    """Get an image ready for nodes with one kind of root, "nfs" or "nbd".

    Raises:
        PibakeError: its system cannot have its root file system on the wire; the message says why.
    """
    if reason := unfit(on.system, kind):
        raise PibakeError(
            f"{on.base.name} cannot have its root file system on the wire: {reason}",
            "take debian-12 or debian-13, or boot these nodes from cards",
        )
    name = on.base.sha256[:16]
    image = folders.golden / f"{name}.img"
    if not image.exists():
        _link(on.base.image, image)
    record = image.with_suffix(".json")
    store(record, {**_record(on.base), "system": on.system.to_json()})
    return _ready(image, on.base, on.system, kind, folders)


def known(name: str, kind: str, folders: Folders) -> Golden | None:
    """Return an image that was got ready before, for nodes whose own files lie over it; None if it is gone."""
    image = folders.golden / f"{name}.img"
    record = load(image.with_suffix(".json"))
    if not image.exists() or not record:
        return None
    base = Base(image, record["sha256"], record["name"], record["created"], record["info"])
    return _ready(image, base, System.from_json(record["system"]), kind, folders)


def unfit(system: System, kind: str) -> str:
    """Return why a system cannot have a kind of root file system on the wire; "" if it can."""
    if system.init != "systemd":
        return f"its process 1 is {system.init}, and only systemd has been seen to leave such a root alone"
    if system.network not in KEEPS:
        return f"{system.network} has not been seen to leave the network under it alone"
    if kind == "nbd" and not system.python:
        return "it has no Python 3, which `root: nbd` needs in the initramfs"
    old = [
        kernel.release for kernel in system.kernels if kind == "nbd" and _version(kernel.release) < RESENDS
    ]
    if old:
        return f"Linux {old[0]} loses what it was writing to an NBD server that is restarted; 5.9 is the first that does not"
    return ""


def _version(release: str) -> tuple[int, ...]:
    """Return a kernel's version as numbers, to compare with; one that is not known is taken for a new one."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (sys.maxsize,)


def clean(used: Collection[str], served: Collection[Path], folders: Folders) -> None:
    """Remove golden images that no node is on any more, and what TFTP serves of any for no node that is served."""
    for record in folders.golden.glob("*.json"):
        if record.stem not in used:
            delete(record.with_suffix(".img"))
            delete(record)
    names = {tftp.name for tftp in served}
    for path in (folders.tftp / ".golden").glob("[!.]*"):
        if path.name.partition(".")[0] not in names:  # a boot image made of a folder lies beside it
            delete(path)


def _record(base: Base) -> dict[str, object]:
    return {"sha256": base.sha256, "name": base.name, "created": base.created, "info": dict(base.info)}


def _link(image: Path, target: Path) -> None:
    try:
        os.link(image, target)
    except OSError:  # another file system, or one without hard links
        part = target.with_name(f".{target.name}.part")
        run(["cp", "--sparse=always", "--reflink=auto", image, part], why="keep the golden image")
        part.replace(target)


def _ready(image: Path, base: Base, system: System, kind: str, folders: Folders) -> Golden:
    part = ext4.root_partition(image)
    scripts = initramfs.scripts()
    tftp = folders.tftp / ".golden" / f"{image.stem}-{kind}-{scripts.digest()[:8]}"
    if not tftp.exists():
        tftp.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tftp.parent, prefix=".part.") as temp:
            files = Path(temp, "files")
            files.mkdir()
            _fill(files, image, system, scripts, kind)
            files.rename(tftp)
    # what is laid over the image refers to the name that stays when the cache's goes
    on = Ground(
        replace(base, image=image),
        system,
        {name: (tftp / name).read_text("utf-8") for name in (system.config, *system.cmdlines)},
    )
    return Golden(Root(image.stem, part.start, system.boot), on, tftp)


def _fill(folder: Path, image: Path, system: System, scripts: Tree, kind: str) -> None:
    """Copy the boot partition for TFTP, and add to each initramfs on it what finds a root on the wire."""
    fat.read_all(image, boot_partition(image).start, folder)
    files = Files(image, ext4.root_partition(image).start)
    extra = scripts | (python.runtime(files) | client() if kind == "nbd" else Tree())
    for release in {kernel.release for kernel in system.kernels if kernel.release}:
        extra |= kmodules.modules(files, release, MODULES[kind])
    archive = gzip.compress(cpio.pack(extra), 6, mtime=0)  # every kernel can unpack that
    for name in _initramfses(folder, system):
        path = folder / name
        path.write_bytes(cpio.join(path.read_bytes(), archive))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _initramfses(folder: Path, system: System) -> list[str]:
    """Return every initramfs that one of the boards would load."""
    config = (folder / system.config).read_text("utf-8")
    named = {boot_files(config, board).initramfs for board in boards.BOARDS}
    found = sorted(name for name in named if name and (folder / name).exists())
    if not found:
        raise PibakeError(
            "this base boots without an initramfs, which a root on the wire needs",
            "take one whose config.txt names an initramfs, such as debian-13",
        )
    return found
