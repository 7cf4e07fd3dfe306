"""What others have pushed to a registry, into the cache."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import space
from pibake.crew import Crew
from pibake.errors import FetchError, ImageError, VerificationError
from pibake.fsys import delete, sync
from pibake.image.rootpart import digest
from pibake.progress import Meter
from pibake.share import artifact, packing
from pibake.share.registry import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.share.artifact import Artifact, Delta, Image, Piece
    from pibake.share.reference import Reference
    from pibake.web import Policy


@dataclass(frozen=True)
class Pulled:
    """What came: the manifest's digest as registries write it, what stood there, and the delta files."""

    digest: str
    artifact: Artifact
    deltas: tuple[Path, ...]


def pull(
    reference: Reference, out: Path, cache: Cache, progress: Progress, *, policy: Policy | None = None
) -> Pulled:
    """Get every image under a tag into the cache, and every delta into the folder `out`.

    Pieces that have arrived and are right stay in the cache's `partial/` if this fails, and are not asked for again.

    Raises:
        FetchError: the registry cannot be reached, refuses, or has something else there.
        VerificationError: what came is not what was pushed.
        PibakeError: there is no room.
    """
    repository = Repository(reference, Crew(), policy)
    repository.connect()
    manifest = repository.manifest()
    blob, config = artifact.config_of(manifest, str(reference)), io.BytesIO()
    if blob.size > artifact.LARGEST:
        raise FetchError(f"the config of {reference} is larger than any of pibake's")
    repository.get(blob, config, f"the config of {reference}", lambda _: None)
    found = artifact.parse(manifest, config.getvalue(), str(reference))
    now = int(time.time())  # the same for all: `base prune` keeps the last of a name that were pulled
    for image in found.images:
        _image(image, repository, cache, progress, now)
    paths = tuple(_delta(delta, repository, out) for delta in found.deltas)
    return Pulled(f"sha256:{hashlib.sha256(manifest).hexdigest()}", found, paths)


def _image(image: Image, repository: Repository, cache: Cache, progress: Progress, now: int) -> None:
    """Get an image into the cache unless it is there, and pin it under all its names."""
    pins = {key: {**info, "obtained": now, "pulled": True} for key, info in image.pins.items()}
    key = f"pull@{image.sha256[:32]}"
    with cache.lock(key, progress):
        if cache.trusted(image.sha256, progress) is None:
            part = _Part(image, cache.partial / f"{key}.img")
            _receive(part, repository, progress)
            first, info = next(iter(pins.items()))
            cache.keep(first, part.path, image.sha256, info, progress)
            delete(part.journal)
        for name, info in pins.items():
            if cache.pinned(name).get("sha256") != image.sha256:
                cache.pin(name, image.sha256, info, progress)


def _receive(part: _Part, repository: Repository, progress: Progress) -> None:
    """Get the pieces that are missing, and check the whole."""
    image = part.image
    missing = part.missing()
    resumed = len(missing) < len(image.pieces)
    why = f"pull {image.name}"
    space.need(part.path.parent, sum(piece.end - piece.start for piece in missing), why)
    with progress.task(why, total=sum(piece.blob.size for piece in missing)) as task, part:
        repository.crew.task, repository.crew.done = task, 0
        for _ in repository.crew.each(lambda piece: part.fetch(piece, repository), missing):
            pass
    with progress.task(f"verify {image.name}", total=part.path.stat().st_blocks * 512) as task:
        got = digest(part.path, Meter(task).add)
    if got == image.sha256:
        return
    part.discard()
    if resumed:
        progress.say(f"{image.name}: what an earlier attempt left is damaged; starting over")
        _receive(part, repository, progress)
        return
    raise VerificationError(
        f"the image {image.name}, put together from its pieces,",
        expected=image.sha256,
        got=got,
        source="the manifest",
        hint="every piece is what was pushed, so it was damaged before: push it again from a host where `pibake base verify` is content",
    )


@dataclass
class _Part:
    """An image that is put together in `path`; the journal beside it names the pieces that are in their places."""

    image: Image
    path: Path
    _descriptor: int = -1

    @property
    def journal(self) -> Path:
        return self.path.with_name(f"{self.path.name}.pieces")

    def missing(self) -> list[Piece]:
        """Return the pieces that are not there yet; what cannot be gone on with is removed."""
        known: set[str] = set()
        if self.path.exists() and self.path.stat().st_size == self.image.length:
            with suppress(FileNotFoundError):
                known = set(self.journal.read_text("utf-8").splitlines(keepends=True))
        if not known:
            self.discard()
        return [piece for piece in self.image.pieces if _line(piece) not in known]

    def fetch(self, piece: Piece, repository: Repository) -> None:
        """Get a piece, check it, and write it to its place."""
        what = f"bytes {piece.start} to {piece.end} of {self.image.name}"
        with (
            space.room(self.path, f"pull {self.image.name}"),
            tempfile.TemporaryFile(dir=self.path.parent) as file,
        ):
            repository.get(piece.blob, file, what, repository.crew.add)
            try:
                packing.unpack(file, self._descriptor, piece, what)
            except (ImageError, VerificationError):
                self.discard()  # there may be bytes in it that are wrong
                raise
            with self.journal.open("a", encoding="utf-8") as journal:
                journal.write(_line(piece))

    def discard(self) -> None:
        delete(self.path)
        delete(self.journal)

    def __enter__(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._descriptor, self.image.length)

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _line(piece: Piece) -> str:
    return f"{piece.start} {piece.end} {piece.sha256}\n"


def _delta(delta: Delta, repository: Repository, out: Path) -> Path:
    """Write a delta, which holds secrets, so that only its owner can read it; a file that is there already is replaced."""
    out.mkdir(parents=True, exist_ok=True)
    path, temp = out / delta.name, out / f".{delta.name}.part"
    delete(temp)
    try:
        with space.room(path, "pull a delta"):
            descriptor = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w+b") as file:
                repository.get(delta.blob, file, delta.name, lambda _: None)
            sync(temp)
            temp.replace(path)
    finally:
        delete(temp)
    return path
