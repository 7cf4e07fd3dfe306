"""What may be said of data disks: the device, where it is mounted, its file system and its name.

Sources: Linux, Documentation/admin-guide/devices.rst (names of disks and their partitions); udev's 60-persistent-storage.rules
(/dev/disk); mke2fs(8), mkfs.xfs(8) and mkfs.btrfs(8) (lengths of labels); file-hierarchy(7).
"""

from __future__ import annotations

import functools
import re

from pibake.config.problems import Bad, listing, nearest, show

DEFAULT = "ext4"
FILE_SYSTEMS = {"ext4": "", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
"""What a data disk can be formatted with, and the Debian package that does; every base has ext4's, for its own root."""
LONGEST_LABEL = 12
"""Characters of a label: what XFS has room for, which is the least of the three."""
RESERVED = (
    "boot", "bootfs", "cidata", "cloudimg-rootfs", "config-2", "pibake-state", "root", "rootfs", "system-boot", "writable",
)  # fmt: skip
"""Labels that a base finds its own partitions by, cloud-init its seed, or the wire a node's state."""
SYSTEM = (
    "bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "lost+found", "proc", "root", "run", "sbin", "sys", "tmp", "usr",
)  # fmt: skip
"""Folders of / that are the system's with all that is below them."""
VAR = ("backups", "cache", "lib", "lock", "log", "mail", "opt", "run", "spool", "tmp")
"""Folders of /var that are the system's."""
STATE = (
    "apt", "cloud", "cni", "containerd", "dbus", "dhcp", "dhcpcd", "dpkg", "etcd", "kubelet", "NetworkManager", "pam", "pibake",
    "polkit-1", "private", "python", "rancher", "sudo", "systemd", "ucf", "initramfs-tools", "nfs", "iscsi",
)  # fmt: skip
"""Folders of /var/lib that are the system's, or that a golden image has put something into."""
STORAGE = "/var/lib/rancher/k3s/storage"
"""Where k3s' own provisioner keeps volumes; nothing is there before there are any."""
EXAMPLES = f"/var/lib/longhorn, {STORAGE} or a folder of /srv or /mnt"
PARTITION = re.compile(
    r"/dev/(?:[shv]d[a-z]+[0-9]+|(?:nvme[0-9]+n|mmcblk)[0-9]+p[0-9]+|disk/by-(?:id|path)/.+-part[0-9]+)"
)
NO_DISK = re.compile(r"/dev/(?:loop|ram|zram|sr|nbd|dm-|md|mapper/|mmcblk[0-9]+(?:boot|rpmb|gp))")


@functools.lru_cache(maxsize=256)
def device(text: str) -> str:
    """Return the path of a whole disk below /dev."""
    if not re.fullmatch(r"/dev(/[A-Za-z0-9_.:+=@-]+)+", text) or "/." in text:
        raise Bad(
            f"{show(text)} is not a disk", "write it like /dev/sda, /dev/nvme0n1 or /dev/disk/by-id/usb-..."
        )
    if PARTITION.fullmatch(text):
        raise Bad(
            f"{text} is a partition, and a data disk is a whole disk",
            f"write {whole(text)}",
        )
    if NO_DISK.match(text):
        raise Bad(f"{text} is no disk that could be made a data disk", "name the disk itself, like /dev/sda")
    if found := re.match(r"/dev/disk/by-(?!id/|path/)[a-z]+", text):
        raise Bad(
            f"{found[0]} names what is on a disk, and an empty one has nothing on it",
            "name it by what it is, below /dev/disk/by-id, or by where it is plugged in, below /dev/disk/by-path",
        )
    return text


def whole(text: str) -> str:
    """Return the disk that a partition is on, by their paths; a disk itself stays what it is."""
    return re.sub(r"(-part|(?<=[0-9])p|(?<=[a-z]))[0-9]+$", "", text) if PARTITION.fullmatch(text) else text


@functools.lru_cache(maxsize=256)
def mount(text: str) -> str:
    """Return a folder that a data disk can be mounted on without hiding anything of the system."""
    if not re.fullmatch(r"/|(/[A-Za-z0-9_.+@-]+)+/?", text) or {".", ".."} & set(text.split("/")):
        raise Bad(f"{show(text)} is no folder to mount a disk on", f"write it like {EXAMPLES}")
    if text != "/" and text.endswith("/"):
        raise Bad(f"{text} ends with a slash", f"write {text.rstrip('/')}")
    if _is_system(text):
        raise Bad(
            f"{text} is the system's: a disk there would hide what the node needs", f"mount it on {EXAMPLES}"
        )
    return text


def _is_system(path: str) -> bool:
    if path == STORAGE or path.startswith(f"{STORAGE}/"):
        return False
    top, *rest = path.strip("/").split("/")
    if top != "var":
        return top in ("", *SYSTEM, "opt" if not rest else "")
    if rest[:1] == ["lib"]:
        return not rest[1:] or rest[1] in STATE
    return not rest or rest[0] in VAR


@functools.lru_cache(maxsize=64)
def filesystem(text: str) -> str:
    """Return what a disk is formatted with."""
    if text not in FILE_SYSTEMS:
        raise Bad(
            f"{show(text)} is not a file system pibake makes",
            nearest(text, FILE_SYSTEMS) or f"there are {listing(FILE_SYSTEMS)}",
        )
    return text


@functools.lru_cache(maxsize=256)
def label(text: str) -> str:
    """Return a disk's name, which is also the label of its file system."""
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_LABEL - 1}}}", text):
        raise Bad(
            f"{show(text)} is not a label of a disk",
            f"use letters, digits and - _ ., {LONGEST_LABEL} characters at most, as in data",
        )
    if text.lower() in RESERVED:
        raise Bad(f"{text} is a label by which a node finds something else", "call it data, or after its use")
    return text


def label_of(mount: str) -> str:
    """Return the label of a disk that is given none: the last part of where it is mounted."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "", mount.rpartition("/")[2]).lstrip("_.-")
    return plain[:LONGEST_LABEL]
