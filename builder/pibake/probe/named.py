"""The names behind the braces of `models`: what a config.txt makes of kernel, initramfs, device tree and overlays.

Source: Raspberry Pi documentation, config_txt: `os_prefix`, `overlay_prefix`, `auto_initramfs`, `device_tree`, `dtoverlay`.
"""

from __future__ import annotations

import posixpath

from pibake.boards import BOARDS
from pibake.image import firmware

OLD_KERNEL = "kernel8.img"
"""What every 64-bit board takes if its own kernel is not there."""


def names(what: str, config: str, board: str, boot_file: str = "") -> tuple[str, ...]:
    """Return the paths that a file may have, the likeliest first; none if config.txt wants no such file.

    `what` is a name, or one in braces; `boot_file` is what a UEFI machine was told.
    """
    if what == "{boot_file}":
        return (boot_file,)
    if what == "{cmdline}":
        return (firmware.boot_files(config, board).cmdline,)
    rule = {"{kernel}": _kernels, "{initramfs}": _initramfs, "{device_tree}": _trees}.get(what)
    return rule(config, board) if rule else (what,)


def overlays(config: str, board: str) -> tuple[str, ...]:
    """Return the overlays that config.txt wants, each once, as names without a folder."""
    wanted = (
        value for key, value in firmware.applied(config, board) if key in ("dtoverlay", "device_tree_overlay")
    )
    cleaned = (value.split(",")[0].split(":")[0].strip().removesuffix(".dtbo") for value in wanted)
    return tuple(f"{name}.dtbo" for name in dict.fromkeys(cleaned) if name)


def overlay_folders(config: str, board: str) -> tuple[str, str]:
    """Return where overlays are if there is a README among them, and where they are if there is none."""
    settings = dict(firmware.applied(config, board))
    shared = settings.get("overlay_prefix", "overlays/")
    return settings.get("os_prefix", "") + shared, shared


def _kernels(config: str, board: str) -> tuple[str, ...]:
    settings = dict(firmware.applied(config, board))
    kernel = firmware.boot_files(config, board).kernel
    if "kernel" in settings:
        return (kernel,)
    return tuple(dict.fromkeys((kernel, settings.get("os_prefix", "") + OLD_KERNEL)))


def _initramfs(config: str, board: str) -> tuple[str, ...]:
    files, settings = firmware.boot_files(config, board), dict(firmware.applied(config, board))
    if files.initramfs:
        return (files.initramfs,)
    folder, kernel = posixpath.split(files.kernel)
    if settings.get("auto_initramfs") != "1" or not kernel.startswith("kernel"):
        return ()
    return (posixpath.join(folder, "initramfs" + kernel.removeprefix("kernel").removesuffix(".img")),)


def _trees(config: str, board: str) -> tuple[str, ...]:
    settings = dict(firmware.applied(config, board))
    named = settings.get("device_tree", "")
    prefix = settings.get("os_prefix", "")
    return tuple(prefix + tree for tree in ((named,) if named else BOARDS[board].device_trees))
