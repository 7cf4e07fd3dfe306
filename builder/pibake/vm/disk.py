"""Disks for test boots: copy-on-write over an image, or kept; and the boot partition inside one."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.image import fat
from pibake.image.firmware import boot_files
from pibake.run import run
from pibake.tree import File, Tree
from pibake.vm.reporter import INIT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DISK_BYTES = 8 << 30
"""Size of a disk: a small card's, so that the root file system's growth is seen as well."""


WIPE = ("page_poison=1",)
"""Has Linux overwrite pages that it frees, every byte of them.

Without, some boots stalled; as far as that was understood, QEMU up to 8.0 keeps translations of programs that lay in a page before: `DC ZVA`, with which arm64 zeroes
pages, is taken for a write of one byte in 64 (accel/tcg, probe_access). When such a page becomes a kernel stack, each
write to it searches those translations, and what takes milliseconds, such as checking a module's signature, takes a
minute."""


def prepare(image: Path, kept: Path | None, folder: Path) -> tuple[Path, int]:
    """Return the disk to boot from: a throw-away overlay, or one that is kept and was made from the image once."""
    length = max(DISK_BYTES, image.stat().st_size)
    if kept is None:
        disk = folder / "overlay.qcow2"
        argv: list[str | Path] = [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            image.resolve(),
            "-F",
            "raw",
            disk,
            str(length),
        ]
        run(argv, why="make a copy-on-write disk")
    elif kept.exists():
        facts = run(["qemu-img", "info", "--output=json", kept], why="read the disk's size").stdout
        return kept, int(json.loads(facts)["virtual-size"])
    else:
        disk = kept
        part = disk.with_name(f".{disk.name}.part")
        try:
            run(["qemu-img", "convert", "-O", "qcow2", image, part], why="copy the image to the disk")
            run(["qemu-img", "resize", "-q", part, str(length)], why="give the disk its size")
            part.replace(disk)
        finally:
            part.unlink(missing_ok=True)
    return disk, length


def take_partition(disk: Path, start: int, length: int, target: Path) -> None:
    """Copy a range of bytes out of a qcow2 disk, as a raw file that mtools can edit."""
    argv: list[str | Path] = [
        "qemu-img",
        "convert",
        "--image-opts",
        _window(disk, start, length),
        "-O",
        "raw",
        target,
    ]
    run(argv, why="read the disk's boot partition")


def put_partition(source: Path, disk: Path, start: int) -> None:
    """Write a raw file back to where `take_partition` took it from."""
    window = _window(disk, start, source.stat().st_size)
    argv: list[str | Path] = ["qemu-img", "convert", "-n", "-f", "raw", source, "--target-image-opts", window]
    run(argv, why="write the disk's boot partition")


def _window(disk: Path, start: int, length: int) -> str:
    name = str(disk).replace(",", ",,")  # QEMU's option lists double a comma that belongs to the value
    return f"driver=raw,offset={start},size={length},file.driver=qcow2,file.file.driver=file,file.file.filename={name}"


def renew_seed(partition: Path, image: Path, offset: int, manifest: Mapping[str, Any]) -> bool:
    """Put the seed that stands in an image onto a kept disk's boot partition; return whether it was another one.

    The same seed is left alone: what the node has scrubbed stays scrubbed.
    """
    names = list(manifest["seed"])
    seed = fat.contents(image, offset, names)
    if missing := [name for name in names if name not in seed]:
        raise PibakeError(f"{image} lacks {', '.join(missing)}, which its manifest lists", "build it again")
    if (
        "meta-data" in seed
        and fat.contents(partition, 0, ["meta-data"]).get("meta-data") == seed["meta-data"]
    ):
        return False
    fat.write(partition, 0, Tree({name: File(data) for name, data in seed.items()}), epoch=0)
    return True


def extract_boot_files(partition: Path, folder: Path) -> Mapping[str, str]:
    """Copy the kernel and the initramfs out of a boot partition; return their paths and the command line."""
    texts = fat.read_text(partition, 0, ["config.txt"])
    if "config.txt" not in texts:
        raise PibakeError(
            "the boot partition holds no config.txt", "only images with Raspberry Pi firmware can be booted"
        )
    files = boot_files(texts["config.txt"])
    wanted = [name for name in (files.kernel, files.initramfs, files.cmdline) if name]
    fat.read(partition, 0, wanted, folder)
    local = {name: folder / os.path.basename(name) for name in wanted}  # noqa: PTH119 - a FAT path, not a host's
    words = local[files.cmdline].read_text("utf-8").split()
    # The Pi's serial port and screen are not there on `virt`, and a splash would hide what the console says. No
    # board has a vsock, which systemd's SSH generator looks for with a modprobe while its 90 s run. An emulated disk
    # may take longer to appear than the 90 s a real one has. The kernel forgets what it read for init before `rdinit=`,
    # and what follows `--` is all for init: ours stands in front.
    kept = [w for w in words if not w.startswith("console=") and w not in {"quiet", "splash"}]
    ours = [
        f"rdinit={INIT}",
        "systemd.ssh_auto=no",
        "systemd.default_device_timeout_sec=600",
        *WIPE,
        "console=ttyAMA0",
    ]
    return {
        "kernel": str(local[files.kernel]),
        "initramfs": str(local[files.initramfs]) if files.initramfs else "",
        "cmdline": " ".join([*ours, *kept]),
    }
