"""The programs lent to an arm64 tree, and the packages kept from build to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake import resources
from pibake.image.debian_host import ARCHIVES, mmdebstrap, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def native(
    suite: str, *, extra: Sequence[str], room: Path, cache: Path, environment: Mapping[str, str]
) -> Path:
    """Unpack the lent programs and what they need, natively and without configuring, into a tar file."""
    tar = room / "native.tar"
    lines = resources.text("images", "debian", "lent.txt").splitlines()
    packages = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")] + [*extra]
    unused = " ".join(f'"$1/{folder}"' for folder in ("usr/share", "usr/lib/udev", "usr/include"))
    # bullseye's systemd keeps its library where arm64's lies in the tree; the loader passes over that one
    shared = '"$1"/usr/lib/systemd/libsystemd-shared-*.so'
    own = f'for f in {shared}; do [ ! -e "$f" ] || mv "$f" "$1/usr/lib/x86_64-linux-gnu/"; done'
    merged = 'for d in bin sbin lib lib64; do mkdir -p "$1/usr/$d"; ln -s usr/$d "$1/$d"; done'
    arguments = [
        "--arch=amd64", "--variant=extract", "--components=main", f"--include={','.join(packages)}",
        f'--setup-hook={merged}; mkdir -p "$1{ARCHIVES}"',
        f"--setup-hook=sync-in {quote(cache)} {ARCHIVES}",
        "--skip=download/empty", "--skip=output/dev",
        f'--extract-hook=rm -rf "$1{ARCHIVES}/partial" "$1{ARCHIVES}/lock"',
        f"--extract-hook=sync-out {ARCHIVES} {quote(cache)}",
        f'--extract-hook=mkdir -p "$1{ARCHIVES}/partial"; rm -rf {unused}; {own}',
        suite, str(tar),
    ]  # fmt: skip
    mmdebstrap(arguments, suite=suite, room=room, environment=environment, on_line=lambda _line: None)
    return tar


def prune(cache: Path) -> None:
    """Keep one version of every package in the cache: the one downloaded last."""
    newest: dict[str, Path] = {}
    for deb in sorted(cache.glob("*.deb"), key=lambda d: d.stat().st_mtime):
        name = deb.name.split("_")[0]
        if name in newest:
            newest[name].unlink()
        newest[name] = deb
