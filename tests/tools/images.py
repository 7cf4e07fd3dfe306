"""Small disk images in the layout of a Pi's, made by the real tools, and packed in every format."""

from __future__ import annotations

import functools
import gzip
import io
import lzma
import os
import random
import subprocess
import zipfile
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
FORMATS = ("raw", "xz", "gz", "zst", "zip")
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def tool(*argv: str | Path, data: bytes = b"") -> bytes:
    """Run a tool of the system and return what it prints."""
    return subprocess.run(argv, check=True, capture_output=True, env=ENVIRONMENT, input=data).stdout


def make_small(path: Path, *, noise: int) -> Path:
    """Make a 12 MiB image: a FAT partition of 4 MiB, and `noise` bytes that do not compress in one for Linux."""
    with path.open("wb") as file:
        file.truncate(12 * MIB)
    tool("sfdisk", "--quiet", path, data=b"label: dos\nstart=2048, size=8192, type=c\nstart=10240, type=83\n")
    tool("mkfs.vfat", "-n", "SYSTEM-BOOT", "--offset", "2048", path, "4096")
    with path.open("r+b") as file:
        file.seek(8 * MIB)
        file.write(random.Random(1).randbytes(noise))  # noqa: S311 - noise, not a secret
    return path


def make(path: Path, *, label: str = "dos", noise: int = 3 * MIB, seed: int = 1) -> Path:
    """Make a 64 MiB image: a FAT partition, an ext4 one, `noise` bytes that do not compress, and holes."""
    kind = "c" if label == "dos" else "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    script = f"label: {label}\nstart=2048, size=65536, type={kind}\nstart=67584, size=61440, type={'83' if label == 'dos' else 'L'}\n"
    tool("sfdisk", "--quiet", path, data=script.encode())
    boot = path.with_suffix(".fat")
    with boot.open("wb") as file:
        file.truncate(32 * MIB)
    tool("mkfs.vfat", "-n", "SYSTEM-BOOT", boot)
    tool("mcopy", "-i", boot, "-", "::config.txt", data=b"arm_64bit=1\n")
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(boot.read_bytes())
        file.seek(50 * MIB)
        file.write(random.Random(seed).randbytes(noise))  # noqa: S311 - noise, not a secret
    boot.unlink()
    return path


def make_userland(path: Path, *, content: bytes) -> Path:
    """Make an image in the layout of CentOS' userland images: FAT, swap, and ext4 with one file in its root."""
    make(path, noise=1)
    script = "label: dos\nstart=2048, size=65536, type=c\nstart=67584, size=8192, type=82\nstart=75776, size=53248, type=83\n"
    tool("sfdisk", "--quiet", path, data=script.encode())
    swap = path.with_suffix(".swap")
    swap.write_bytes(bytes(8192 * 512))
    swap.chmod(0o600)
    tool("mkswap", swap)
    with path.open("r+b") as file:
        file.seek(67584 * 512)
        file.write(swap.read_bytes())
    root = path.with_suffix(".root")
    root.mkdir()
    (root / "os-release").write_bytes(content)
    tool("mke2fs", "-q", "-t", "ext4", "-d", root, "-E", f"offset={75776 * 512}", path, f"{53248 // 2}k")
    return path


@functools.lru_cache(maxsize=32)
def pack(image: bytes, form: str) -> bytes:
    """Return an image in one of FORMATS; xz in several blocks, as vendors make it."""
    match form:
        case "xz":
            return tool("xz", "-0", "-T2", "--block-size=4MiB", "-c", data=image)
        case "gz":
            return gzip.compress(image, 1)
        case "zst":
            return zstandard.ZstdCompressor().compress(image)
        case "zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr("README.txt", "read me")
                archive.writestr("sub/card.img", image)
            return packed.getvalue()
        case _:
            return image


def xz(data: bytes) -> bytes:
    """Return data as one small xz stream."""
    return lzma.compress(data, preset=0)
