"""What nodes are made from, from the cache into a registry."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from pibake import space
from pibake.crew import Crew
from pibake.errors import PibakeError
from pibake.image.extents import extents
from pibake.share import packing
from pibake.share.artifact import DELTA_NAME, Artifact, Blob, Delta, Image, Piece
from pibake.share.registry import Repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.share.reference import Reference
    from pibake.web import Policy

PIECE = 64 << 20
"""Bytes of an image in one blob: small enough to be sent again, large enough that an image is some twenty requests."""


@dataclass(frozen=True)
class Pushed:
    """What stands under the tag now.

    Attributes:
        digest: of the manifest, as registries write it; `REPOSITORY@DIGEST` means just this.
        artifact: what is there.
        sent: bytes that the registry did not have yet.
    """

    digest: str
    artifact: Artifact
    sent: int


def push(
    reference: Reference,
    images: Iterable[str],
    deltas: Mapping[Path, str],
    cache: Cache,
    progress: Progress,
    *,
    piece: int = PIECE,
    policy: Policy | None = None,
) -> Pushed:
    """Let a tag stand for images of the cache, each with the base it was made of, and for deltas.

    What the registry has already is not sent again; the tag is set when everything is there.

    Args:
        reference: the repository and tag.
        images: sha256 of each image.
        deltas: delta files, each with the sha256 of the image it needs. They hold secrets.
        cache: where the images are.
        progress: where to show what is going on.
        piece: bytes of an image in one blob.
        policy: how patient to be with the network.

    Raises:
        FetchError: the registry cannot be reached, or refuses.
        VerificationError: an image in the cache is damaged.
        PibakeError: an image is not in the cache, or a delta's is not among those that are pushed.
    """
    chosen = _chosen(images, cache, progress)
    for path, needed in deltas.items():
        if not DELTA_NAME.fullmatch(path.name):
            raise PibakeError(
                f"{path} is not named like a delta", "`pibake build` names it after its node: node3.delta"
            )
        if needed not in chosen:
            raise PibakeError(
                f"{path} needs the image {needed[:16]}..., which is none of those that this cluster.yaml leads to now",
                "build the delta anew, or push from where it was made",
            )
    parts = {sha256: _ranges(cache.path(sha256), piece) for sha256 in chosen}
    with progress.task(
        f"push {reference}", total=sum(b - a for ranges in parts.values() for a, b in ranges)
    ) as task:
        crew = Crew(task)
        sender = _Sender(Repository(reference, crew, policy), crew, cache.partial)
        sender.repository.connect()
        made = tuple(
            Image(
                sha256,
                cache.path(sha256).stat().st_size,
                pins,
                sender.pieces(cache.path(sha256), parts[sha256]),
            )
            for sha256, pins in chosen.items()
        )
        artifact = Artifact(made, tuple(sender.delta(path, deltas[path]) for path in sorted(deltas)))
        config = artifact.config()
        blob = Blob(hashlib.sha256(config).hexdigest(), len(config))
        sender.send(blob, io.BytesIO(config))
        digest = sender.repository.put_manifest(artifact.manifest(blob))
    return Pushed(digest, artifact, sum(sender.sent))


def _chosen(images: Iterable[str], cache: Cache, progress: Progress) -> dict[str, dict[str, Any]]:
    """Return the pins of each image, and of the bases that golden images were made of, by the image's sha256."""
    pins, found = cache.pins(), {}
    wanted = list(dict.fromkeys(images))
    for sha256 in wanted:  # it grows by the bases
        found[sha256] = dict(_portable(key, pin) for key, pin in pins.items() if pin["sha256"] == sha256)
        bases = {info.get("base") for info in found[sha256].values()}
        wanted += {pin["sha256"] for pin in pins.values() if pin["sha256"] in bases} - set(wanted)
        if not found[sha256] or cache.trusted(sha256, progress) is None:
            raise PibakeError(f"the image {sha256[:16]}... is not in the cache", "`pibake build` makes it")
    return found


def _portable(key: str, pin: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the key and record of a pin for other hosts: a file's path means nothing there."""
    info = {name: value for name, value in pin["info"].items() if name != "path"}
    return (f"file@{pin['sha256'][:32]}" if key.startswith("file@") else key), info


def _ranges(image: Path, piece: int) -> list[tuple[int, int]]:
    """Return which pieces of an image hold data: the others are holes from end to end."""
    length = image.stat().st_size
    with image.open("rb", buffering=0) as file:
        starts = {
            start
            for first, last in extents(file.fileno(), 0, length)
            for start in range(first // piece * piece, last, piece)
        }
    return [(start, min(start + piece, length)) for start in sorted(starts)]


@dataclass
class _Sender:
    """Packs and sends; `sent` holds the sizes of the blobs that the registry did not have."""

    repository: Repository
    crew: Crew
    folder: Path
    sent: list[int] = field(default_factory=list)

    def pieces(self, image: Path, ranges: Sequence[tuple[int, int]]) -> tuple[Piece, ...]:
        descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return tuple(self.crew.each(lambda part: self._piece(descriptor, *part), ranges))
        finally:
            os.close(descriptor)

    def _piece(self, descriptor: int, start: int, end: int) -> Piece:
        with (
            space.room(self.folder / "push", "compress a piece of an image"),
            tempfile.TemporaryFile(dir=self.folder) as file,
        ):
            sha256, blob = packing.pack(descriptor, start, end, file)
            self.send(blob, file, end - start)
            return Piece(start, end, sha256, blob)

    def delta(self, path: Path, image: str) -> Delta:
        with path.open("rb") as file:
            blob = Blob(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
            self.send(blob, file)
        return Delta(path.name, image, blob)

    def send(self, blob: Blob, source: BinaryIO, worth: int = 0) -> None:
        """Send a blob unless it is there; it counts as `worth` bytes of the work."""
        if self.repository.has(blob):
            self.crew.add(worth)
            return
        share = worth / max(blob.size, 1)
        self.repository.put(blob, source, lambda count: self.crew.add(count * share))
        self.sent.append(blob.size)
