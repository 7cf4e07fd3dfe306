"""The tree of a Debian base: mmdebstrap with native programs lent to it.

Maintainer scripts of arm64 packages run under qemu-user, ten times slower than native. But the kernel runs native
programs in the arm64 tree just as well, so the tree is lent the same suite's amd64 builds of the tools such scripts
spend their time in: shells, perl, python, coreutils, compressors, depmod, localedef, systemd-hwdb (`lent.txt`). They
lie in /.pibake and come first on PATH; dpkg diversions keep the few that scripts call by path apart from the arm64
files. `settle.sh` gives everything back and makes the initrd once instead of twice; `disk.sh` writes the file system.
"""

from __future__ import annotations

import io
import os
import platform
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import resources
from pibake.image.debian_host import ARCHIVES, IMAGE, mmdebstrap, quote, require_emulation
from pibake.image.debian_native import native, prune

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KIT = {"": ("images", "debian"), "flavour/": ("images", "debian-flavours")}
"""Folders of data whose files the hooks need, and where those go below /.pibake."""
OVERLAY = """for word in $PIBAKE_FLAVOUR; do
    if [ -d "$1/.pibake/flavour/root/$word" ]; then cp -a "$1/.pibake/flavour/root/$word/." "$1/"; fi
done"""
"""Lays over the tree what each word of a flavour brings, before the initrd is made."""
PATH = "/.pibake/first:/.pibake/tools"
"""Folders of the tree that do not exist anywhere else: stubs, then lent programs."""


@dataclass(frozen=True)
class Order:
    """What to build."""

    suite: str
    components: tuple[str, ...]
    packages: tuple[str, ...]
    stand_ins: tuple[str, ...]
    lent: tuple[str, ...]
    merge_usr: bool
    flavour: tuple[str, ...]
    epoch: int
    environment: dict[str, str]


@dataclass(frozen=True)
class Built:
    """What came out beside the root file system: the boot partition's files, and the packages with versions."""

    firmware: Path
    packages: dict[str, str]


def build(
    order: Order, *, image: Path, room: Path, debs: Path, on_step: Callable[[str, float], None]
) -> Built:
    """Assemble the tree and write its root file system into `image`, which is already partitioned."""
    require_emulation()
    caches = {arch: debs / order.suite / arch for arch in ("amd64", "arm64")}
    for cache in caches.values():
        cache.mkdir(parents=True, exist_ok=True)
    kit, out, aside = _kit(order, room), room / "out", room / "aside"
    out.mkdir()
    aside.mkdir()
    aside.chmod(0o1777)  # for the subordinate ids that disk.sh runs with
    environment = {
        **order.environment,
        "PATH": f"{PATH}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "PIBAKE_ASIDE": str(aside),
        "PIBAKE_FLAVOUR": " ".join(order.flavour),
        "PIBAKE_IMAGE": IMAGE,
        "SOURCE_DATE_EPOCH": str(order.epoch),
    }
    lent = []
    if platform.machine() == "x86_64":
        on_step("fetching native programs", 0.01)
        tar = native(order.suite, extra=order.lent, room=room, cache=caches["amd64"], environment=environment)
        lent = [f"--extract-hook=tar-in {quote(tar)} /.pibake/native"]
    arguments = [
        "--arch=arm64", "--variant=minbase", "--format=null",
        f"--components={','.join(order.components)}", f"--include={','.join(order.packages)}",
        f'--aptopt=DPkg::Path "{PATH}:/usr/sbin:/usr/bin:/sbin:/bin"',
        *_merging(order),
        f'--setup-hook=mkdir -p "$1/.pibake/native" "$1{ARCHIVES}"',
        f"--setup-hook=tar-in {quote(kit)} /.pibake",
        '--setup-hook=touch "$1/.pibake/started"',
        f"--setup-hook=sync-in {quote(caches['arm64'])} {ARCHIVES}",
        *lent,
        '--extract-hook="$1/.pibake/lend.sh" "$1"',
        '--essential-hook="$1/.pibake/loader.sh" "$1"',
        "--skip=download/empty", "--skip=essential/unlink",
        f'--customize-hook=rm -rf "$1{ARCHIVES}/partial" "$1{ARCHIVES}/lock"',
        f"--customize-hook=sync-out {ARCHIVES} {quote(caches['arm64'])}",
        *(["--customize-hook=" + OVERLAY] if order.flavour else []),
        '--customize-hook="$1/.pibake/settle.sh" "$1"',
        *(['--customize-hook="$1/.pibake/flavour/settle.sh" "$1"'] if order.flavour else []),
        f"--customize-hook=sync-out /.pibake/out {quote(out)}",
        '--customize-hook="$1/.pibake/disk.sh" "$1"',
        "--skip=cleanup",  # settle.sh cleans, before the file system is written
        order.suite, "/dev/null",
    ]  # fmt: skip
    meter = Meter(on_step)
    mmdebstrap(
        arguments, suite=order.suite, room=room, environment=environment, on_line=meter.line, image=image
    )
    for cache in caches.values():
        prune(cache)
    rows = (line.split("\t") for line in (out / "packages.tsv").read_text().splitlines())
    return Built(out / "firmware", {name: version for name, version, _ in rows})


def _merging(order: Order) -> list[str]:
    """Return what makes mmdebstrap merge /usr, where the suite's packages do not."""
    if not order.merge_usr:
        return []
    if order.suite == "bullseye":  # it has no usr-is-merged, which mmdebstrap's own hook goes on to install
        return ['--setup-hook=for d in bin sbin lib; do mkdir -p "$1/usr/$d"; ln -s usr/$d "$1/$d"; done']
    return ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]


def _kit(order: Order, room: Path) -> Path:
    """Pack what the hooks need, owned by root, into a tar file: the build's user may not read ours."""
    kit = room / "kit.tar"
    with tarfile.open(kit, "w") as tar:
        for prefix, folder in KIT.items():
            base = resources.path(*folder)
            for path in resources.below(base):
                info = tar.gettarinfo(path, f"{prefix}{path.relative_to(base)}")
                info.uid = info.gid = 0
                info.uname = info.gname = "root"
                info.mtime = order.epoch
                # git keeps no mode but the executable bit, and a strict umask may have cut the rest
                info.mode = 0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644
                with path.open("rb") if path.is_file() else io.BytesIO() as content:
                    tar.addfile(info, content)
        names = "".join(f"{path}\n" for path in order.stand_ins).encode()
        info = tarfile.TarInfo("stand-ins")
        info.size, info.mtime = len(names), order.epoch
        tar.addfile(info, io.BytesIO(names))
    return kit


class Meter:
    """Turns what mmdebstrap says into phases and a share of the whole."""

    MARKS = (
        ("I: running apt-get update", "downloading", 0.09),
        ("I: extracting archives", "unpacking essential packages", 0.11),
        ("I: installing essential packages", "installing essential packages", 0.15),
        ("I: installing remaining packages", "downloading", 0.22),
        ("pibake: making the initrd", "making the initrd", 0.78),
        ("pibake: settling the tree", "settling the tree", 0.94),
        ("pibake: writing the root", "writing the root file system", 0.95),
    )
    """What is said when a phase starts, the phase, and the share done by then (measured, packages in the cache)."""
    INSTALL = (0.23, 0.77)

    def __init__(self, on_step: Callable[[str, float], None]) -> None:
        self.on_step = on_step
        self.share = 0.0
        self.total = 0
        self.done = 0

    def line(self, line: str) -> None:
        """Take one line of output."""
        for mark, phase, share in self.MARKS:
            if line.startswith(mark):
                self.share = share
                self.on_step(phase, share)
                return
        if count := re.search(r"(\d+) newly installed", line):
            # each package is mentioned when it is unpacked, and when it is set up
            self.total, self.done = 2 * int(count[1]), 0
        elif (
            line.startswith(("Unpacking ", "Setting up "))
            and self.total
            and self.share >= self.INSTALL[0] - 0.02
        ):
            self.done += 1
            start, end = self.INSTALL
            share = start + (end - start) * min(self.done / self.total, 1.0)
            self.share = max(self.share, share)
            self.on_step("installing packages", self.share)
