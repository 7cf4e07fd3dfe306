from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from pibake.vm.kernel import lacks_virtio, release

if TYPE_CHECKING:
    from pathlib import Path

RPT = "6.12.47+rpt-rpi-v8"


def image(version: str) -> bytes:
    """The head of an arm64 Image with a banner some way into it, as the linker leaves it."""
    banner = f"Linux version {version} (serge@raspberrypi.com) (aarch64-linux-gnu-gcc-14) #1 SMP PREEMPT\n\0"
    return b"MZ\0\x91" + bytes(5000) + b"%s version %s (\0Linux version %d\0" + banner.encode() + bytes(5000)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_kernel_tells_its_release(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "kernel8.img"
    path.write_bytes(gzip.compress(image(RPT)) if packed else image(RPT))
    assert release(path) == RPT


@pytest.mark.parametrize(
    "data", [b"", b"kernel " * 1000, b"\x1f\x8bno gzip", gzip.compress(image(RPT))[:-20]]
)
def test_a_kernel_that_does_not_tell_has_no_release(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(data)
    assert release(path) == ""


@pytest.mark.parametrize(
    "version", [RPT, "6.6.31+rpt-rpi-2712", "6.1.21-v8+", "5.10.17-v8", "6.6.20-v8-16k+"]
)
def test_raspberry_pis_own_kernels_have_no_virtio(version: str) -> None:
    assert lacks_virtio(version)


@pytest.mark.parametrize("version", ["", "6.12.48+deb13-arm64", "6.8.0-1004-raspi", "6.1.0-40-arm64"])
def test_other_kernels_are_tried(version: str) -> None:
    assert not lacks_virtio(version)
