"""TFTP folders as the boards find them, with files of the right names and no more inside than a test needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.boards import BOARDS

if TYPE_CHECKING:
    from pathlib import Path

CMDLINE = "console=ttyAMA0 root=LABEL=writable rootwait"
KERNELS = {"pi5": "kernel_2712.img"}
BLOCKS = 1468 * 8
"""A kernel whose last TFTP block is empty."""


def root(folder: Path) -> Path:
    """Make a TFTP root with what the boot ROM asks for, and UEFI's boot file."""
    (folder / "uefi").mkdir(parents=True)
    (folder / "bootcode.bin").write_bytes(b"bootcode" * 100)
    (folder / "uefi/grubnetaa64.efi").write_bytes(b"MZ" * 5000)
    return folder


def board(root: Path, model: str, mac: str, serial: str) -> None:
    """Add one board's folder, named by its MAC address, or by its serial without one, with its other names as links."""
    name = mac.replace(":", "-") or serial
    into(root / name, model)
    for other in filter(None, (mac.replace(":", "-"), serial)):
        (root / name / other).symlink_to(".")
    if serial and not (root / serial).exists():
        (root / serial).symlink_to(name)


def into(folder: Path, model: str) -> None:
    """Put the files of a board into a folder."""
    kind = BOARDS[model]
    (folder / "overlays").mkdir(parents=True, exist_ok=True)
    kernel = KERNELS.get(kind.family, "kernel8.img")
    config = "[all]\ninitramfs initrd.img followkernel\ndtoverlay=vc4-kms-v3d,cma-128\n"
    files = {
        "config.txt": config.encode(), "cmdline.txt": f"{CMDLINE}\n".encode(), kernel: model.encode().ljust(BLOCKS, b"k"),
        "initrd.img": b"initrd" * 3000, "overlays/vc4-kms-v3d.dtbo": b"overlay", "fixup.dat": b"f", "fixup4.dat": b"f",
        **dict.fromkeys(kind.firmware, b"firmware" * 500), kind.device_trees[0]: b"tree" * 100,
    }  # fmt: skip
    for path, data in files.items():
        (folder / path).write_bytes(data)
