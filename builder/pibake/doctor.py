"""What this host lacks for what a person wants to do with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pibake import accel
from pibake.errors import CommandFailed, MissingTool
from pibake.progress import size
from pibake.resources import packages
from pibake.run import find, run

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = {
    "build": "bake images from bases that are here or can be downloaded",
    "base": "assemble Debian bases",
    "boot": "boot images in QEMU",
    "serve": "boot boards from the wire",
    "member": "change a cluster that runs",
    "guest": "edit root file systems and compare with libguestfs",
    "dev": "work on pibake",
}
Status = Literal["ok", "warning", "missing"]

BASE_BYTES = 6 << 30
"""What assembling a base and baking a few nodes need: a root tree, an image, and copies of it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, for which job, how it is, and the command or action that mends it."""

    job: str
    name: str
    status: Status
    detail: str
    remedy: str = ""


def examine(jobs: tuple[str, ...], cache: Path) -> list[Finding]:
    """Look at everything the named jobs need; packages first, then what no package gives."""
    found = [_package(p.job, p.name, p.provides, p.why) for p in packages() if p.job in jobs]
    probes: dict[str, list[Callable[[], Finding]]] = {
        "build": [lambda: _space(cache)],
        "base": [_binfmt, _namespaces],
        "boot": [_kvm],
        "guest": [_host_kernel],
    }
    return found + [probe() for job in jobs for probe in probes.get(job, [])]


def _package(job: str, name: str, provides: str, why: str) -> Finding:
    remedy = f"sudo apt-get install {name}"
    if provides.startswith("/"):
        there = any(Path("/").glob(provides[1:]))
        return Finding(job, name, "ok" if there else "missing", why, "" if there else remedy)
    try:
        find(provides, why)
    except MissingTool:
        return Finding(job, name, "missing", why, remedy)
    return Finding(job, name, "ok", why)


def _space(cache: Path) -> Finding:
    place = next(p for p in (cache, *cache.parents) if p.exists())
    state = os.statvfs(place)
    free = state.f_bavail * state.f_frsize
    if free >= BASE_BYTES:
        return Finding("build", "free space", "ok", f"{size(free)} at {place}")
    remedy = "pibake base prune, or set XDG_CACHE_HOME to a folder on a larger disk"
    return Finding(
        "build",
        "free space",
        "warning",
        f"{size(free)} at {place}; {size(BASE_BYTES)} is comfortable",
        remedy,
    )


def _binfmt() -> Finding:
    name = "arm64 programs"
    if os.uname().machine == "aarch64":
        return Finding("base", name, "ok", "this host is arm64")
    try:
        run(["arch-test", "arm64"], why="run an arm64 program")
    except MissingTool as error:
        return Finding("base", name, "missing", str(error), error.hint)
    except CommandFailed:
        remedy = "sudo mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; sudo update-binfmts --enable"
        return Finding("base", name, "missing", "the kernel does not hand them to qemu-user", remedy)
    return Finding("base", name, "ok", "run through qemu-user")


def _namespaces() -> Finding:
    name = "user namespaces"
    if os.geteuid() == 0:
        return Finding("base", name, "ok", "not needed as root")
    try:
        run(["unshare", "--user", "--map-root-user", "--mount", "true"], why="make a user namespace")
    except CommandFailed:
        remedy = "sudo sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0, or use sudo"
        return Finding("base", name, "missing", "the kernel does not let users make them", remedy)
    user = os.environ.get("USER", str(os.getuid()))
    delegated = Path("/etc/subuid")
    names = (
        {line.split(":")[0] for line in delegated.read_text().splitlines()} if delegated.exists() else set()
    )
    if not {user, str(os.getuid())} & names:
        remedy = f"sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        return Finding("base", name, "missing", f"{user} has no range in /etc/subuid", remedy)
    return Finding("base", name, "ok", "usable")


def _kvm() -> Finding:
    if os.uname().machine != "aarch64":
        return Finding(
            "boot",
            "acceleration",
            "ok",
            "none for arm64 on this host: boots are emulated, about a minute each",
        )
    verdict = accel.kvm()
    return Finding("boot", "KVM", "ok" if verdict.works else "warning", verdict.reason)


def _host_kernel() -> Finding:
    """Look at what libguestfs needs: a kernel it can read for its appliance, and KVM to run it fast."""
    kernels = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    if not kernels:
        remedy = (
            "sudo apt-get install linux-image-$(dpkg --print-architecture); sudo chmod a+r /boot/vmlinuz-*"
        )
        return Finding(
            "guest", "host kernel", "missing", "libguestfs finds no readable kernel in /boot", remedy
        )
    verdict = accel.kvm()
    how = "with KVM" if verdict.works else f"emulated, KVM is of no use: {verdict.reason}"
    return Finding("guest", "libguestfs", "ok" if verdict.works else "warning", f"runs {how}")
