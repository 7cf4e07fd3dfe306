"""The kernel of a Pi 5 in a cluster: the one with 4 KiB pages.

The Pi 5's firmware takes kernel_2712.img where there is one, which in Raspberry Pi OS has 16 KiB pages; kernel8.img,
for all boards, has 4 KiB (Raspberry Pi documentation, config.txt, "kernel"). Programs in containers that were built
for pages of 4 KiB do not start on larger ones: jemalloc ends with "Unsupported system page size", and brings down
databases, Redis and log shippers with it (raspberrypi/bookworm-feedback issue 107). With `auto_initramfs=1` the firmware
picks the initramfs that goes with the kernel's name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pibake.boards import BOARDS, GENERIC
from pibake.fit.values import noted, warned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.fit.values import Finding
    from pibake.plan import NodePlan
    from pibake.system import System

KERNEL = "kernel8.img"
LARGE_KIB = 16

BEGIN = "# pibake: begin, 4 KiB pages for containers (made anew at every build)"
END = "# pibake: end"
BLOCK = re.compile(r"^# pibake: begin\b[^\n]*\n.*?^# pibake: end[^\n]*(\n|\Z)", re.MULTILINE | re.DOTALL)


def kernel_choice(node: NodePlan, system: System) -> str | None:
    """Return the kernel that config.txt has to name for a Pi 5, or None where the firmware's own choice is right.

    A generic node may be a Pi 5. A kernel without modules on the root file system would have no container networking.
    """
    if not _large_pages(node, system):
        return None
    small = (k for k in system.kernels if k.file == KERNEL and k.page_kib < LARGE_KIB and k.release)
    return KERNEL if any(small) else None


def config_txt(existing: str, node: NodePlan, system: System) -> str:
    """Return a config.txt that names the node's kernel in a marked block at its end; the block is ours to replace.

    Every board of the Pi 5's generation sees `[pi5]`, and the others do not.
    """
    rest = BLOCK.sub("", existing)
    kernel = kernel_choice(node, system)
    if kernel is None:
        return rest
    gap = "" if rest.endswith("\n") or not rest else "\n"
    return f"{rest}{gap}{BEGIN}\n[all]\n[pi5]\nkernel={kernel}\n[all]\n{END}\n"


def pages(node: NodePlan, system: System) -> Iterator[Finding]:
    """Yield what there is to say of the size of pages."""
    if kernel := kernel_choice(node, system):
        yield noted(
            f"on a Pi 5, {node.hostname} boots {kernel} of {node.base}, with pages of 4 KiB: "
            "many container images do not start on the 16 KiB of the Pi 5's own kernel",
            "plain machines keep the Pi 5's own kernel",
        )
    elif _large_pages(node, system) and node.board != GENERIC:
        yield warned(
            f"{node.base} has no kernel with pages of 4 KiB for {node.hostname}, a {node.board}: container images with "
            'jemalloc in them end with "Unsupported system page size"',
            "take a base with such a kernel, as Ubuntu's is, or images that are built for pages of 16 KiB",
        )


def _large_pages(node: NodePlan, system: System) -> bool:
    board = BOARDS[node.board]
    return (
        node.member is not None
        and (board.family == "pi5" or board.name == GENERIC)
        and any(kernel.page_kib == LARGE_KIB for kernel in system.kernels)
    )
