"""One node on the wire: its seed and its own files on the server, and its folder for TFTP."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pibake.fsys import delete, load, store
from pibake.image import qcow2
from pibake.image.firmware import boot_files
from pibake.netboot import grub
from pibake.netboot.cmdline import cmdline
from pibake.run import run
from pibake.serve import secrets
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pibake.netboot.values import Client, Site
    from pibake.nodes import Composed
    from pibake.seed import Seed
    from pibake.serve.folders import Folders
    from pibake.serve.golden import Golden

RECORD = "node.json"
DISK = "disk.qcow2"
MANIFEST = "manifest.json"
MIB = 1 << 20


@dataclass(frozen=True)
class Own:
    """What a node boots from with one kind of root, by the record beside its files: its golden image's name, and its seed."""

    golden: str
    instance_id: str


def recorded(hostname: str, root: str, folders: Folders) -> Own | None:
    """Return what a node boots from since it was first served with this kind of root; None before."""
    folder = folders.node(hostname)
    record = load(folder / RECORD).get(root)
    return Own(**record) if record and (root == "nfs" or (folder / DISK).exists()) else None


def goldens(folders: Folders) -> set[str]:
    """Return the names of all golden images that nodes' own files lie over, also those of nodes that are not served now."""
    return {
        own["golden"]
        for record in (folders.root / "nodes").glob(f"*/{RECORD}")
        for own in load(record).values()
    }


def place(
    client: Client, seed: Seed, golden: Golden, disk: int, folders: Folders, *, before: Own | None
) -> None:
    """Put a node's own files where its export has them: its seed if that is another one, and an empty state if it has none.

    What a node took away from its seed once it was up, its secrets, stays away (`secrets`).

    Args:
        client: the node.
        seed: rendered for it.
        golden: the image its root file system is laid over.
        disk: how large its state looks, in MiB.
        folders: the server's.
        before: what was recorded of it.
    """
    folder = folders.node(client.hostname)
    export = folder / "export"
    boot = export / "boot"
    boot.mkdir(parents=True, exist_ok=True)
    now = Own(golden.root.name, seed.instance_id)
    if before != now:
        for old in boot.iterdir():
            delete(old)
        for path, file in secrets.placed(folder, seed):
            put(boot / path, file)
    if client.state == "server":
        _state(export / "state.img", disk, folders)
    _record(folder, "nfs", now)


def place_disk(client: Client, composed: Composed, golden: Golden, folders: Folders) -> None:
    """Make a node's disk on top of the golden image that is served, which outlives the cache's."""
    folder = folders.node(client.hostname)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{DISK}.part"
    delete(part)
    qcow2.write(replace(composed.image, base=golden.on.base.image), part)
    part.chmod(0o600)
    part.replace(folder / DISK)
    _record(folder, "nbd", Own(golden.root.name, composed.seed.instance_id))


def _record(folder: Path, root: str, own: Own) -> None:
    store(folder / RECORD, {**load(folder / RECORD), root: vars(own)})


def offer(client: Client, seed: Seed, golden: Golden, site: Site, folders: Folders) -> Tree:
    """Give a node its folder for TFTP, and return its own files in it: config.txt, command lines, GRUB's for UEFI.

    The rest are links to the golden image's files. The folder is named by what is in it, and its name on the wire is a
    link to it, so that no board meets a half of it.
    """
    own = _own(client, seed, golden, site)
    names = {"serial": client.serial, "mac": client.mac.replace(":", "-")}
    updates = [path.name for path in sorted(folders.eeprom(client.board.netboot).glob("[!.]*"))]
    mark = hashlib.sha256(f"{golden.tftp.name} {own.digest()} {names} {updates}".encode()).hexdigest()[:12]
    target = folders.tftp / ".nodes" / f"{client.hostname}-{mark}"
    if not target.exists():
        part = target.with_name(f".{target.name}.part")
        delete(part)
        part.mkdir(parents=True)
        _link_all(part, golden.tftp, own, depth=2)
        for name in filter(None, names.values()):
            (part / name).symlink_to(".")
        for name in updates:
            (part / name).symlink_to(f"../../../eeprom/{folders.eeprom(client.board.netboot).name}/{name}")
        if grub.CONFIG in own.files:
            for name in grub.SHARED:
                (part / name).symlink_to(f"../../{name}")
        part.rename(target)
    for name in filter(None, names.values()):
        _point(folders.tftp / name, os.path.relpath(target, folders.tftp))
    for old in target.parent.glob(f"{client.hostname}-????????????"):
        if old != target:
            delete(old)
    return own


def withdraw(clients: Sequence[Client], folders: Folders) -> None:
    """Remove the TFTP folders of nodes that are not served any more, and names by which none of these is known."""
    names = {name for client in clients for name in (client.serial, client.mac.replace(":", "-"))}
    for link in folders.tftp.iterdir():
        if link.is_symlink() and link.name not in names:
            delete(link)
    hostnames = {client.hostname for client in clients}
    for folder in (folders.tftp / ".nodes").glob("[!.]*"):
        if folder.name.rpartition("-")[0] not in hostnames:
            delete(folder)


def _own(client: Client, seed: Seed, golden: Golden, site: Site) -> Tree:
    system = golden.on.system
    texts = dict(golden.on.texts or {})
    texts |= {
        path: file.data.decode() for path, file in seed.tree if path in {system.config, *system.cmdlines}
    }
    texts |= {path: cmdline(texts[path], client, site, golden.root) for path in system.cmdlines}
    if client.board.netboot == grub.GENERATION and client.mac:
        named = boot_files(texts[system.config])
        texts[grub.CONFIG] = grub.node(
            client, kernel=named.kernel, initrds=[named.initramfs], cmdline=texts[named.cmdline]
        )
    return Tree({path: File(text.encode()) for path, text in texts.items()})


def _link_all(folder: Path, source: Path, own: Tree, depth: int) -> None:
    """Fill a folder with links to what `source` has, and with what is the node's own; folders with such are its own, too."""
    mine = {path.partition("/")[0] for path, _ in own}
    for entry in source.iterdir():
        if entry.name not in mine:
            (folder / entry.name).symlink_to(
                "../" * depth + os.path.relpath(entry, source.parents[depth - 1])
            )
    for name in mine:
        below = Tree({path.partition("/")[2]: file for path, file in own if path.startswith(f"{name}/")})
        if len(below):
            (folder / name).mkdir()
            _link_all(folder / name, source / name, below, depth + 1)
        else:
            (folder / name).write_bytes(own[name].data)


def _point(link: Path, target: str) -> None:
    """Let a link stand for another folder, with no moment in between at which there is none."""
    temp = link.with_name(f".{link.name}.link")
    delete(temp)
    temp.symlink_to(target)
    temp.replace(link)


def put(path: Path, file: File) -> None:
    """Put a file in place whole, unless it is there: a board may be loading it."""
    if path.is_file() and path.read_bytes() == file.data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.name}.part")
    temp.write_bytes(file.data)
    temp.chmod(file.mode)
    temp.replace(path)


def _state(image: Path, size: int, folders: Folders) -> None:
    """Make an ext4 file for a node's own files, from a template: `size` MiB to look at, a few of them on the disk."""
    if image.exists():
        return
    template = folders.run / f"state-{size}.img"
    if not template.exists():
        part = template.with_name(f".{template.name}.part")
        delete(part)
        with part.open("wb") as file:
            file.truncate(size * MIB)
        # a new file is full of zeros: nothing is written now, nor by the node's kernel later
        zeroed = ["-E", "assume_storage_prezeroed=1,nodiscard"]
        run(
            ["mkfs.ext4", "-q", "-F", "-L", "pibake-state", *zeroed, part],
            why="make the file system of nodes' own files",
        )
        part.replace(template)
    part = image.with_name(f".{image.name}.part")
    run(["cp", "--sparse=always", "--reflink=auto", template, part], why="make a node's own files")
    part.chmod(0o600)  # the node's programs see it, too
    part.replace(image)
