"""Delta files: a node's image as what differs from its golden image (docs/delta.md).

A tar archive compressed with zstd: `delta.json`, then `patches` with the bytes of all patches one after the other.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import zstandard

from pibake.bases import Base
from pibake.errors import ImageError, PibakeError, VerificationError
from pibake.image import pieces
from pibake.image.composition import Composition, Patch, compose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.image.pieces import Piece
    from pibake.progress import Progress

FORMAT = 1
LARGEST = 1 << 30
"""Bytes that a delta may unpack to: a damaged or hostile one must not fill the memory."""


@dataclass(frozen=True)
class Delta:
    """A delta file that has been read.

    Attributes:
        path: where it is.
        node: what it says of the node: `hostname`, `cluster`.
        base_name: what the golden image was called where the delta was made.
        base_sha256: the golden image's digest.
        length: bytes of the composed image.
        digest: that of all its pieces (`pieces.digest`).
        patches: what differs.
    """

    path: Path
    node: Mapping[str, str]
    base_name: str
    base_sha256: str
    length: int
    digest: str
    patches: tuple[Patch, ...]


def write(image: Composition, target: Path, *, node: Mapping[str, str], base_name: str, epoch: int) -> None:
    """Write the delta of a composed image; the same image gives the same bytes."""
    facts = {
        "format": FORMAT,
        "node": dict(node),
        "golden": {"name": base_name, "sha256": image.base_sha256, "bytes": image.base_length},
        "image": {"bytes": image.length, "pieces_sha256": image.digest},
        "patches": [[patch.offset, len(patch.data)] for patch in image.patches],
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in (
            ("delta.json", json.dumps(facts, indent=1).encode()),
            ("patches", b"".join(patch.data for patch in image.patches)),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(data), epoch, 0o600 if image.secret else 0o644
            archive.addfile(member, io.BytesIO(data))
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    target.write_bytes(compressor.compress(packed.getvalue()))


def read(path: Path) -> Delta:
    """Return what a delta file holds.

    Raises:
        ImageError: it is damaged, or no delta.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(path.read_bytes())), mode="r:") as archive:
            facts, data = (_member(archive, name) for name in ("delta.json", "patches"))
        return _delta(path, json.loads(facts), data)
    except (zstandard.ZstdError, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        raise ImageError(
            f"{path} is no delta file that pibake can read: {error}",
            "`pibake build --output delta` makes them; copy it again if it came over the network",
        ) from error


def opened(path: Path, cache: Cache, progress: Progress, *, golden: Path | None = None) -> Composition:
    """Return the image that a delta file and its golden image make.

    Args:
        path: the delta.
        cache: where the golden image is looked up by its digest.
        progress: where to show that it is read.
        golden: a file to take instead.

    Raises:
        ImageError: the delta is damaged, or its golden image is not there.
        VerificationError: the golden image is another one, or what comes out is not what the delta was made of.
    """
    delta = read(path)
    wanted = delta.base_sha256
    if golden is not None:
        if (got := cache.hash(golden, progress)) != wanted:
            raise VerificationError(
                f"the golden image {golden}",
                expected=wanted,
                got=got,
                source=str(path),
                hint=f"the delta was made for another image: {delta.base_name}",
            )
        return _composed(delta, golden, pieces.measure(golden))
    if (image := cache.trusted(wanted, progress)) is None:
        raise ImageError(
            f"{path} needs the image with the sha256 {wanted[:16]}... ({delta.base_name}), which is not in the cache",
            "`pibake pull` gets it from a registry, `pibake build` makes it from the same cluster.yaml; or name the file with --golden",
        )
    base = Base(image, wanted, delta.base_name, 0, cache.info(wanted))
    return _composed(delta, image, pieces.of(base, cache, progress))


def _composed(delta: Delta, golden: Path, known: Sequence[Piece]) -> Composition:
    image = compose(golden, delta.base_sha256, known, delta.patches, length=delta.length, secret=True)
    if image.digest != delta.digest:
        raise VerificationError(
            f"the image composed of {delta.path} and {golden}",
            expected=delta.digest,
            got=image.digest,
            source="the delta",
            hint="the delta or the record of the golden image is damaged; make the delta anew",
        )
    return image


def _unpacked(packed: bytes) -> bytes:
    if not 0 <= zstandard.frame_content_size(packed) <= LARGEST:
        raise ValueError("its size is not that of a delta")
    return zstandard.ZstdDecompressor().decompress(packed)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    reader = archive.extractfile(name)
    if reader is None:
        raise ValueError(f"its {name} is no file")
    return reader.read()


def _delta(path: Path, facts: dict[str, Any], data: bytes) -> Delta:
    if facts["format"] != FORMAT:
        raise PibakeError(
            f"{path} is a delta of format {facts['format']}; this pibake knows {FORMAT}", "update pibake"
        )
    patches, position, end = [], 0, 0
    length = int(facts["image"]["bytes"])
    for offset, size in facts["patches"]:
        if not end <= offset < offset + size <= length:
            raise ValueError(f"its patch at byte {offset} is out of order or outside of the image")
        patches.append(Patch(offset, data[position : position + size]))
        position, end = position + size, offset + size
    if position != len(data):
        raise ValueError(f"its patches are {position} bytes, but {len(data)} are there")
    return Delta(
        path,
        {str(key): str(value) for key, value in facts["node"].items()},
        str(facts["golden"]["name"]),
        str(facts["golden"]["sha256"]),
        length,
        str(facts["image"]["pieces_sha256"]),
        tuple(patches),
    )
