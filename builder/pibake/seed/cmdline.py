"""The kernel command line of a node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CGROUP_FLAGS = ("cgroup_enable=cpuset", "cgroup_memory=1", "cgroup_enable=memory")
"""What k3s and kubeadm need on kernels that leave the memory controller off (k3s documentation, requirements)."""


def kernel_cmdline(existing: str, epoch: int, further: Sequence[str] = ()) -> str:
    """Return the one line of cmdline.txt: what was there, the cgroup flags and `further` once, and the clock's start.

    The firmware reads the first line only (Raspberry Pi documentation, "kernel command line"), so whatever stands
    on further lines was meant for it, and joins it. Quoted values stay whole. What follows `--` belongs to init.
    """
    words = re.findall(r'(?:[^\s"]|"[^"]*"?)+', existing)
    ours = {*CGROUP_FLAGS, "cgroup_disable=memory", "cgroup_memory=0"}
    given = tuple(f"{word.partition('=')[0]}=" for word in (*further, "pibake.clock="))
    kept = [word for word in words if word not in ours and not word.startswith(given)]
    split = kept.index("--") if "--" in kept else len(kept)
    return " ".join([*kept[:split], *CGROUP_FLAGS, *further, f"pibake.clock={epoch}", *kept[split:]]) + "\n"
