"""The cache of base images: content-addressed, locked, verified.

    images/sha256/<hex>.img    a raw image, read-only; the name is the sha256 of its content
    images/sha256/<hex>.json   what it is, and the file's size, mtime and inode when it was verified last
    names/<key>.json           pins: which image `ubuntu-24.04` stands for
    systems/<hex>.json         what the image with this sha256 says of its system
    pieces/<hex>.json          what of it a card gets, with digests
    partial/                   work under way; nothing here is ever taken for an image
    damaged/                   images that failed verification
    debs/                      Debian packages, for assembling
    packages/apt-<hex>/        Debian packages for golden images, as apt resolved them
    hooks/<name>@<hex>/        what a hook made (pibake.hooks)
    charts/                    charts and manifests of add-ons (pibake.charts)
    containers/                container images of add-ons (pibake.containers)
    addons/<hex>.yaml          manifests of add-ons, as they were rendered (pibake.delivery)
    uses/<hex>.json            which golden image each node was made from last (pibake.uses)
    known/<hex>.json           digests of large files of this host, by the sha256 of their path
    first-use/<base>.json      digests of files that nobody signed, as they were when they came first
    locks/                     one lock per key

An image is hashed when it is made. Later it is trusted without reading it again as long as size, mtime and inode
are those of the last verification: hashing gigabytes for every card would cost more than copying them.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import platformdirs

from pibake import lock
from pibake.errors import PibakeError, VerificationError
from pibake.fsys import delete, load, stamp, store, sync

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pibake.progress import Progress

BLOCK = 1 << 20
SMALL = 256 << 10
"""Bytes that are hashed faster than a record of their digest is looked up."""


class Cache:
    """The cache below `root`; by default `$XDG_CACHE_HOME/pibake`."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or platformdirs.user_cache_path("pibake")

    @property
    def images(self) -> Path:
        """Return the folder of images, named by their sha256."""
        return self.root / "images" / "sha256"

    @property
    def names(self) -> Path:
        """Return the folder of pins."""
        return self.root / "names"

    @property
    def systems(self) -> Path:
        """Return the folder of what images say of their systems, by the sha256 of the image."""
        return self._made("systems")

    @property
    def pieces(self) -> Path:
        """Return the folder of the pieces of images, by the sha256 of the image."""
        return self._made("pieces")

    @property
    def debs(self) -> Path:
        """Return the folder where Debian packages are kept between two assemblies."""
        return self._made("debs")

    @property
    def partial(self) -> Path:
        """Return the folder of work under way."""
        return self._made("partial")

    @property
    def damaged(self) -> Path:
        """Return the folder of images that failed verification."""
        return self._made("damaged")

    def lock(self, key: str, progress: Progress) -> AbstractContextManager[None]:
        """Hold the lock of `key`; while another process has it, say who and for what, and wait."""
        return lock.held(self._made("locks"), key, progress)

    def busy(self, key: str) -> bool:
        """Return whether some process holds the lock of `key`."""
        return lock.is_held(self._made("locks"), key)

    def path(self, digest: str) -> Path:
        """Return where the image with this sha256 is, or would be."""
        return self.images / f"{digest}.img"

    def info(self, digest: str) -> dict[str, Any]:
        """Return what is recorded about an image; nothing if it is not there."""
        return load(self.images / f"{digest}.json")

    def pins(self) -> dict[str, dict[str, Any]]:
        """Return all pins by key."""
        return {path.stem: pin for path in sorted(self.names.glob("*.json")) if (pin := load(path))}

    def pinned(self, key: str) -> dict[str, Any]:
        """Return the pin of `key`, empty if there is none."""
        return load(self.names / f"{key}.json")

    def keep(
        self, key: str, temp: Path, digest: str, info: Mapping[str, Any], progress: Progress, **fields: Any
    ) -> Path:
        """Adopt a finished image and pin it as `key`; `info` says how it was come by."""
        with self.lock("index", progress):  # or pruning, in between, would find an image that nobody needs
            image = self.adopt(temp, digest, info)
            self._pin(key, digest, info, **fields)
        return image

    def pin(self, key: str, digest: str, info: Mapping[str, Any], progress: Progress) -> None:
        """Let `key` stand for an image that is in the cache already; a pin that it has is replaced."""
        with self.lock("index", progress):
            self._pin(key, digest, info)

    def _pin(self, key: str, digest: str, info: Mapping[str, Any], **fields: Any) -> None:
        self._made("names")
        store(self.names / f"{key}.json", {"sha256": digest, **fields, "info": dict(info)})

    def adopt(self, temp: Path, digest: str, info: Mapping[str, Any]) -> Path:
        """Move a finished image, whose sha256 the caller has just computed, into the cache.

        The record is written first: a rename keeps size, mtime and inode, so the image comes with a record that
        fits, and a record alone means nothing.
        """
        self._made("images", "sha256")
        image = self.path(digest)
        temp.chmod(0o444)
        sync(temp)
        store(image.with_suffix(".json"), {**info, "verified": stamp(temp)})
        temp.replace(image)
        sync(image.parent)
        return image

    def trusted(self, digest: str, progress: Progress) -> Path | None:
        """Return the image with this sha256 if the cache has it, hashing it again only if it was touched."""
        image = self.path(digest)
        now = stamp(image)
        if now is None:
            return None
        if self.info(digest).get("verified") != now:
            self.verify(digest, progress)
        return image

    def verify(self, digest: str, progress: Progress) -> None:
        """Read an image whole and compare its sha256; a damaged one is moved aside and reported."""
        image = self.path(digest)
        before = stamp(image)
        got = self.hash(image, progress)
        if got == digest:
            store(image.with_suffix(".json"), {**self.info(digest), "verified": before})
            return
        aside = self.damaged / image.name
        image.replace(aside)
        raise VerificationError(
            f"the cached image {image}",
            expected=digest,
            got=got,
            source="its name",
            hint=f"it changed after it was stored, and is now {aside}; the next `pibake build` (or `base pull`) gets it anew",
        )

    def hash(self, path: Path, progress: Progress) -> str:
        """Return the sha256 of a file, showing progress."""
        total, buffer, done = hashlib.sha256(), memoryview(bytearray(BLOCK)), 0
        with (
            path.open("rb", buffering=0) as file,
            progress.task(f"verify {path.name[:12]}", total=path.stat().st_size) as task,
        ):
            while count := file.readinto(buffer):
                total.update(buffer[:count])
                done += count
                task.update(done)
        return total.hexdigest()

    def sha256(self, path: Path) -> str:
        """Return the sha256 (hex) of a file of this host; a large one is read again only if it was touched."""
        return _digest(path) if path.stat().st_size < SMALL else self.known(path, "sha256", _digest)

    def known(self, path: Path, what: str, find: Callable[[Path], str]) -> str:
        """Return what `find` says of a file of this host; it is asked again only if the file was touched.

        Args:
            path: the file.
            what: the question, by which the answer is kept.
            find: reads the file and answers.
        """
        name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
        record, now = self._made("known") / f"{name}.json", stamp(path)
        last = load(record)
        said = dict(last["said"]) if last.get("stamp") == now else {}
        if what not in said:
            said[what] = find(path)
            store(record, {"path": str(path.absolute()), "stamp": now, "said": said})
        return str(said[what])

    def digests(self) -> list[str]:
        """Return the sha256 of every image."""
        return sorted(path.stem for path in self.images.glob("*.img"))

    def sweep(self, key: str, *, keep: tuple[str, ...] = ()) -> None:
        """Remove what an earlier run on `key` left in `partial/`; the caller holds the lock of `key`."""
        for path in self.partial.glob(f"{key}.*"):
            if path.name.removeprefix(key) not in keep:
                delete(path)

    def _made(self, *parts: str) -> Path:
        return made(self.root.joinpath(*parts))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made(folder: Path) -> Path:
    """Return a folder of the cache, made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PibakeError(
            f"the cache folder {folder} cannot be made: {error.strerror}",
            "set XDG_CACHE_HOME to a folder that you may write to",
        ) from error
    return folder
