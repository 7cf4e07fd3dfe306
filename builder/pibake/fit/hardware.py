"""Whether a base boots on a node's board, and finds its network there."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pibake.boards import BOARDS, GENERIC
from pibake.config.problems import listing
from pibake.fit.values import lacking, numbers, refused, warned

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pibake.boards import Board
    from pibake.fit.values import Finding
    from pibake.plan import NodePlan
    from pibake.system import System

VENDOR_KERNELS = ("rpi", "raspi", "-v7", "-v8")
"""Marks of a kernel release that is Raspberry Pi's own or built from its tree: 6.12.34+rpt-rpi-v8, 6.8.0-1010-raspi,
6.1.21-v8+, 4.14.34-hypriotos-v8."""


def hardware(
    node: NodePlan, system: System, boards_of_base: tuple[str, ...], boot_files: Collection[str]
) -> Iterator[Finding]:
    """Yield what is wrong between a node's board and its base."""
    board = BOARDS[node.board]
    # one reason why it does not boot is enough
    why = (
        _listed(node, board, boards_of_base) or _arch(node, board, system) or _files(node, board, boot_files)
    )
    if why:
        yield why
    yield from _link(node, board, system)
    for what in lacking(system) if node.disks else ():
        yield refused(
            f"{node.hostname} cannot have data disks with {node.base}, which has no {what}: pibake-disks needs it",
            f"take another base, or leave the `disks` of {node.hostname} out",
        )


def _listed(node: NodePlan, board: Board, boards_of_base: tuple[str, ...]) -> Finding | None:
    if not boards_of_base or board.name in {GENERIC, *boards_of_base}:
        return None
    return refused(
        f"{node.hostname} is a {board.name}, and {node.base} does not boot there",
        f"{node.base} is for {listing(boards_of_base)}; give {node.hostname} another `base:` "
        "(`pibake base list` says what each is for)",
    )


def _arch(node: NodePlan, board: Board, system: System) -> Finding | None:
    if system.arch not in board.arches:
        return refused(
            f"{node.base} is made for {system.arch}, which {node.hostname}, a {board.name} board, cannot run",
            f"take a base for {listing(board.arches)}",
        )
    if board.name == GENERIC and system.arch == "armhf":
        return warned(
            f"{node.base} is a 32-bit system, and which boards it boots on is not known; {node.hostname} does not say which it is",
            "name the board, as in `board: pi3`, and its files are looked for in the base",
        )
    return None


def _files(node: NodePlan, board: Board, boot_files: Collection[str]) -> Finding | None:
    """Look for firmware and device tree by name, in whatever folder: `os_prefix` of config.txt moves device trees."""
    if not boot_files:
        return None
    names = {
        PurePosixPath(path).name.lower() for path in boot_files
    }  # FAT does not tell upper from lower case
    missing = [name for name in board.firmware if name not in names]
    if missing:
        what = f"no firmware for it: {listing(missing)}"
    elif board.device_trees and not names.intersection(board.device_trees):
        what = f"no device tree for it: {' or '.join(board.device_trees)}"
    else:
        return None
    return refused(
        f"{node.hostname} is a {board.name}, and the boot partition of {node.base} holds {what}",
        f"{node.base} is older than the {board.name}, or made for other boards: give {node.hostname} another `base:`",
    )


def _link(node: NodePlan, board: Board, system: System) -> Iterator[Finding]:
    """A node is on Wi-Fi if its plan says so, else on Ethernet."""
    if node.wifi is not None:
        if not board.wifi:
            yield refused(
                f"{node.hostname} is to use Wi-Fi, which a {board.name} does not have",
                "leave `link: wifi` out and use its Ethernet port, or correct `board:`",
            )
        return
    if not board.ethernet:
        if not node.link.mac:
            yield refused(
                f"{node.hostname} is a {board.name}, which has no Ethernet port",
                f"give {node.hostname} `link: wifi`, or the `mac:` of its USB Ethernet adapter",
            )
        return
    releases = [kernel.release for kernel in system.kernels if kernel.release]
    if board.mainline and releases and all(_lacks_driver(release, board) for release in releases):
        yield refused(
            f"{node.hostname} is a {board.name}, whose Ethernet needs Linux {'.'.join(map(str, board.mainline))} "
            f"or a kernel of Raspberry Pi's own; {node.base} has {listing(releases)}",
            "take a base with Raspberry Pi's kernel, such as Raspberry Pi OS or Ubuntu for Raspberry Pi",
        )


def _lacks_driver(release: str, board: Board) -> bool:
    return not any(mark in release for mark in VENDOR_KERNELS) and numbers(release)[:2] < board.mainline
