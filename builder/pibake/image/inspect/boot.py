"""The boot partition of an image: what is on it, where it is mounted, and which kernel command lines it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import fat, firmware, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pibake.image.inspect.root import Root

CONFIG = "config.txt"
CMDLINES = ("cmdline.txt", "btcmd.txt", "nobtcmd.txt")
"""Names of command lines; the last two were Ubuntu's of 2019 and 2020, of which config.txt includes one."""
SLOTS = ("current", "new", "old")
"""Folders of Ubuntu's boot partition since 25.10: the system that runs, the one to be tried, the one before."""
SEED = ("user-data", "meta-data", "network-config")
MOUNTS = ("boot/firmware", "boot")
DEVICE = re.compile(r"/dev/(?:mmcblk\d+p|nvme\d+n\d+p|sd[a-z]|vd[a-z])(\d+)")


@dataclass(frozen=True)
class Boot:
    """A boot partition.

    Attributes:
        image: the image it is in.
        offset: where it begins there, in bytes.
        identity: labels and serial of its file system.
        paths: its files, as each is written there, by its lower-case form: FAT does not tell cases apart.
        texts: the text files pibake looks at, by path.
        config: config.txt with what it includes.
    """

    image: Path
    offset: int
    identity: fat.Identity
    paths: Mapping[str, str]
    texts: Mapping[str, str]
    config: str

    def find(self, path: str) -> str:
        """Return how a path is written on the partition, "" if it is not there."""
        return self.paths.get(path.casefold(), "")

    def present(self, paths: Iterable[str]) -> list[str]:
        """Return those of some paths that are there, each once."""
        return list(dict.fromkeys(found for path in paths if (found := self.find(path))))

    @property
    def top(self) -> str:
        """Return the names in its root folder, for messages."""
        return ", ".join(sorted({path.partition("/")[0] for path in self.paths.values()})) or "nothing"

    def values(self, key: str) -> list[str]:
        """Return what config.txt sets a key to, for whatever board, with "" for where it does not."""
        return ["", *(s.value for s in firmware.settings(self.config) if s.key == key and s.value)]


def read(image: Path, partition: table.Partition) -> Boot:
    """Read the boot partition of an image.

    Raises:
        ImageError: it is no FAT file system, or has no config.txt.
    """
    offset = partition.start
    listed = fat.listing(image, offset, deep=True)
    paths = {path.casefold(): path for path in listed}
    identity = fat.identity(image, offset)
    texts: dict[str, str] = {}
    top = [path for path in listed if "/" not in path and path.lower().endswith(".txt")]
    wanted = {*top, *(p for name in SEED if (p := paths.get(name))),
              *(p for slot in SLOTS if (p := paths.get(f"{slot}/cmdline.txt")))}  # fmt: skip
    config = ""
    while wanted:
        found = fat.contents(image, offset, sorted(wanted))
        texts |= {path: data.decode("utf-8", "replace") for path, data in found.items()}
        config = firmware.inline(texts.get(paths.get(CONFIG, ""), ""), texts)
        named = {
            paths.get(name.casefold(), "")
            for text in found.values()
            for name in firmware.includes(text.decode("utf-8", "replace"))
        }
        wanted = {path for path in named if path and path not in texts}
    boot = Boot(image, offset, identity, paths, texts, config)
    if not boot.find(CONFIG):
        raise ImageError(
            f"{image.name}: no {CONFIG} on the boot partition, which holds {boot.top}",
            "the base is not in a layout that the Raspberry Pi's firmware boots",
        )
    return boot


def cmdlines(boot: Boot, board: str) -> tuple[str, ...]:
    """Return every file of the boot partition with a command line some board or slot boots with, `board`'s first.

    Raises:
        ImageError: there is none, or config.txt has a prefix that leads nowhere.
    """
    for setting in firmware.settings(boot.config):
        # [tryboot] names what an update will bring
        if setting.key == "os_prefix" and setting.section != "tryboot" and not _leads(boot, setting.value):
            raise ImageError(
                f"{boot.image.name}: {CONFIG} has os_prefix={setting.value} under [{setting.section}], but nothing on the "
                f"boot partition begins like that; it holds {boot.top}",
                "the firmware would ignore the prefix and look for kernel and cmdline.txt in the root folder: get the "
                "vendor's image again, or mend its config.txt",
            )
    wanted = [
        firmware.boot_files(boot.config, board).cmdline,
        *(
            prefix + name
            for prefix in boot.values("os_prefix")
            for name in [*boot.values("cmdline"), *CMDLINES]
            if name
        ),
        *(f"{slot}/cmdline.txt" for slot in SLOTS),
    ]
    found = boot.present(wanted)
    if not found:
        raise ImageError(
            f"{boot.image.name}: no kernel command line on the boot partition: looked for {', '.join(dict.fromkeys(wanted))}, "
            f"found {boot.top}",
            "the base is not in a layout that pibake knows",
        )
    return tuple(found)


def texts_of(boot: Boot, names: Iterable[str]) -> list[str]:
    """Return the texts of some files of the boot partition, reading those that were not read yet."""
    missing = [name for name in names if name not in boot.texts]
    extra = fat.contents(boot.image, boot.offset, missing) if missing else {}
    return [boot.texts.get(name) or extra.get(name, b"").decode("utf-8", "replace") for name in names]


def mounted_at(root: Root, boot: Boot, partitions: table.Table, number: int) -> str:
    """Return where the system mounts its boot partition: by fstab(5), else the folder that is there for it.

    Raises:
        ImageError: neither tells.
    """
    serial, label = boot.identity.serial.lower(), boot.identity.label
    ours = {f"LABEL={label}", f"UUID={serial}", f"PARTUUID={partitions.id}-{number:02x}"}
    seen = []
    for line in root.text("etc/fstab").splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) < 3 or not fields[1].startswith("/"):
            continue
        seen.append(f"{fields[0]} on {fields[1]}")
        device = DEVICE.fullmatch(fields[0])
        if _plain(fields[0]) in ours or (device and int(device[1]) == number):
            return fields[1].strip("/")
    for folder in MOUNTS:
        if root.has(folder):
            return folder
    raise ImageError(
        f"{boot.image.name}: cannot tell where the boot partition is mounted: looked in /etc/fstab for "
        f"{' or '.join(sorted(ours))} and found {'; '.join(seen) or 'nothing'}; there is no folder /boot either",
        "the base is not in a layout that pibake knows",
    )


def _leads(boot: Boot, prefix: str) -> bool:
    return any(path.startswith(prefix.casefold()) for path in boot.paths)


def _plain(spec: str) -> str:
    """Return how fstab names a device, as `KEY=value` without quotes; serials in lower case as blkid compares them."""
    spec = re.sub(r"^/dev/disk/by-(label|uuid|partuuid)/", lambda found: f"{found[1].upper()}=", spec)
    key, equals, value = spec.replace('"', "").replace("'", "").partition("=")
    return f"{key}{equals}{value if key == 'LABEL' else value.lower()}"
