"""Where things are in a Raspberry Pi image: its boot partition, and the firmware's text files on it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pibake.errors import ImageError
from pibake.image import fat, table

if TYPE_CHECKING:
    from pathlib import Path


def boot_partition(image: Path) -> table.Partition:
    """Return the first partition of an image, which the firmware and the seed need to be FAT.

    Raises:
        ImageError: there is no partition table, or the first partition is of another type.
    """
    first = table.read(image).partitions[0]
    if not first.is_fat:
        raise ImageError(
            f"{image.name}: the first partition is of type {first.type}, not FAT",
            "a Raspberry Pi image starts with a FAT boot partition; is this image made for another board?",
        )
    return first


@functools.lru_cache(maxsize=64)
def boot_text(image: Path, digest: str, offset: int, name: str) -> str:  # noqa: ARG001 - `digest` keys the cache
    """Return a text file of the boot partition at `offset` of the image with this digest.

    Raises:
        ImageError: it is not there.
    """
    found = fat.read_text(image, offset, [name])
    if name not in found:
        raise ImageError(
            f"{image.name}: no {name} in the boot partition, which holds {', '.join(fat.listing(image, offset))}",
            "the base is not in a layout that the Raspberry Pi firmware boots",
        )
    return found[name]
