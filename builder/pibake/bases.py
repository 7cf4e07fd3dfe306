"""From what a cluster.yaml calls a base to a verified image in the cache."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake import catalog
from pibake.errors import ImageError, PibakeError, VerificationError, about
from pibake.fsys import delete, load, stamp, store
from pibake.image import fat, table
from pibake.system import System

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pibake.cache import Cache
    from pibake.catalog import Assemble, Download, Entry
    from pibake.image.debian import Recipe
    from pibake.ingest import Ingested
    from pibake.plan import BaseRef
    from pibake.progress import Progress

DAY = 86400


@dataclass(frozen=True)
class Base:
    """A base image that is ready for use.

    Attributes:
        image: the raw image in the cache; read-only.
        sha256: its digest, which is its identity.
        name: what to call it.
        created: when its content was made, in Unix time: the file's date, or the epoch it was assembled with.
        info: where it is from and what vouches for it, for the manifest.
    """

    image: Path
    sha256: str
    name: str
    created: int
    info: Mapping[str, Any] = field(default_factory=dict, compare=False)


def obtain(ref: BaseRef, cache: Cache, progress: Progress, *, refresh: bool = False) -> Base:
    """Return the base that `ref` means, from the cache or by getting it.

    Args:
        ref: a name of the catalogue, or a file or URL with its sha256.
        cache: where bases are kept.
        progress: where to show what is going on.
        refresh: look for a newer point release, or assemble anew, even if the cache has one.

    Raises:
        VerificationError: a digest or signature does not match.
        FetchError: a download could not be had.
        ImageError: what came is no image of a disk with a FAT boot partition.
    """
    if ref.file:
        return _from_file(Path(ref.file), ref.sha256, cache, progress)
    if ref.url:
        return _from_url(ref.url, ref.sha256, cache, progress)
    entry = catalog.entry(ref.name)
    if isinstance(entry.source, catalog.Download):
        return _from_vendor(entry, entry.source, cache, progress, refresh=refresh)
    return _assembled(entry, entry.source, cache, progress, refresh=refresh)


def key_of(entry: Entry) -> str:
    """Return the cache key of a catalogue entry: for an assembled base it changes with its recipe."""
    if isinstance(entry.source, catalog.Download):
        return entry.name
    return f"{entry.name}@{_recipe(entry.source).digest()[:16]}"


def cached(key: str, cache: Cache, progress: Progress) -> Base | None:
    """Return the base that is pinned as `key`, if its image is in the cache and sound."""
    pin = cache.pinned(key)
    digest = pin.get("sha256", "")
    image = cache.trusted(digest, progress) if digest else None
    if image is None:
        return None
    info = pin["info"]  # the image's own record may tell of another way that led to the same bytes
    return Base(image, digest, info["name"], int(info["created"]), info)


def system(base: Base, cache: Cache) -> System:
    """Return what a base's image says of the system in it; it is read once, and kept by the image's digest.

    Raises:
        ImageError: the layout is none that pibake knows, or cloud-init would read another seed than pibake's.
    """
    from pibake.image import inspect  # noqa: PLC0415 - yaml is slow to import, and mostly the answer is known

    path = cache.systems / f"{base.sha256}.json"
    known = load(path)
    if known.get("format") == inspect.FORMAT:
        with suppress(KeyError, TypeError, ValueError):  # of a record that somebody has edited
            return System.from_json(known["system"])
    with about(base.name):
        found = inspect.inspect(base.image, base.sha256)
    store(path, {"format": inspect.FORMAT, "system": found.to_json()})
    return found


def check(image: Path, source: str) -> None:
    """Raise `ImageError` unless `image` is that of a disk whose first partition is a readable FAT file system."""
    first = table.read(image).partitions[0]
    if not first.is_fat:
        raise ImageError(
            f"{source}: the first partition should be FAT and hold the Pi's firmware, but its type is {first.type}",
            "is it an image for the Raspberry Pi?",
        )
    fat.listing(image, first.start)


def _from_vendor(entry: Entry, source: Download, cache: Cache, progress: Progress, *, refresh: bool) -> Base:
    if not refresh and (base := cached(entry.name, cache, progress)):
        return base
    with cache.lock(entry.name, progress):
        if not refresh and (base := cached(entry.name, cache, progress)):
            return base  # another process got it while this one waited
        from pibake import firstuse, vendor  # noqa: PLC0415 - requests is slow to import, and a cached base needs none

        release = vendor.newest(source)
        first = firstuse.check(entry.name, release, cache, progress)
        base = cached(entry.name, cache, progress)
        if base and base.info.get("download_sha256") == release.sha256:
            return base
        vouched = catalog.vouched(source)
        info = {"name": entry.name, "url": release.url, "file": release.file, "vouched": vouched}
        judge = functools.partial(vendor.verify, release)
        base = _download(
            entry.name, info, cache, progress, sha256=release.sha256, origin=release.origin, judge=judge
        )
        if first:
            firstuse.remember(entry.name, release, cache)
        return base


def _from_url(url: str, sha256: str, cache: Cache, progress: Progress) -> Base:
    if not sha256:
        raise PibakeError(
            f"base {url}: a sha256 is needed beside it", "add `sha256:` with the digest of the file"
        )
    key = f"url@{sha256[:32]}"
    if base := cached(key, cache, progress):
        return base
    with cache.lock(key, progress):
        if base := cached(key, cache, progress):
            return base
        info = {"name": url.rpartition("/")[2], "url": url}
        return _download(key, info, cache, progress, sha256=sha256, origin="cluster.yaml")


def _download(
    key: str,
    info: dict[str, Any],
    cache: Cache,
    progress: Progress,
    *,
    sha256: str,
    origin: str,
    judge: Callable[[Path], None] = lambda _: None,
) -> Base:
    """Download into the cache; the caller holds the lock of `key`, and `judge` sees the file as it came."""
    from pibake import ingest  # noqa: PLC0415 - see above

    cache.sweep(key, keep=(".img.part", ".img.part.json"))
    image = cache.partial / f"{key}.img"
    made = ingest.from_url(info["url"], sha256, image, origin=origin, progress=progress)
    try:
        judge(image.with_name(f"{image.name}.part"))
        base = _keep(key, made, info, cache, progress)
    except (ImageError, VerificationError):
        cache.sweep(key)  # the digest was right, so the same bytes would be refused again
        raise
    finally:
        delete(image)
    cache.sweep(key)
    return base


def _from_file(path: Path, sha256: str, cache: Cache, progress: Progress) -> Base:
    if not path.is_file():
        raise PibakeError(f"base {path}: there is no such file", "paths are relative to the cluster.yaml")
    path = path.resolve()
    key = f"file@{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}"
    now = stamp(path)

    def known() -> Base | None:
        pin = cache.pinned(key)
        fits = pin.get("stamp") == now and sha256 in {"", pin["info"]["download_sha256"]}
        return cached(key, cache, progress) if fits else None

    if base := known():
        return base
    with cache.lock(key, progress):
        if base := known():
            return base
        from pibake import ingest  # noqa: PLC0415 - see above

        cache.sweep(key)
        try:
            made = ingest.from_file(path, sha256, cache.partial / f"{key}.img", progress=progress)
            return _keep(key, made, {"name": path.name, "path": str(path)}, cache, progress, stamp=now)
        finally:
            cache.sweep(key)


def _keep(
    key: str, made: Ingested, info: dict[str, Any], cache: Cache, progress: Progress, **pin: Any
) -> Base:
    """Check a finished image, move it into the cache and pin it."""
    check(made.image, info.get("url") or info["path"])
    digest = made.unpacked.sha256
    info = {
        **info,
        "download_sha256": made.stream_sha256,
        "format": made.unpacked.format,
        "size": made.unpacked.size,
        "created": made.created,
        "obtained": int(time.time()),
    }
    image = cache.keep(key, made.image, digest, info, progress, **pin)
    return Base(image, digest, info["name"], made.created, info)


def _assembled(entry: Entry, source: Assemble, cache: Cache, progress: Progress, *, refresh: bool) -> Base:
    from pibake.image import debian  # noqa: PLC0415 - only these bases need it

    key = key_of(entry)
    if not refresh and (base := cached(key, cache, progress)):
        return base
    with cache.lock(key, progress):
        if not refresh and (base := cached(key, cache, progress)):
            return base
        cache.sweep(key)
        image, recipe, epoch = cache.partial / f"{key}.img", _recipe(source), _epoch()
        try:
            with progress.task(f"assemble {entry.name}", total=1.0, unit="%") as task:
                made = debian.assemble(
                    recipe,
                    image,
                    work=cache.partial / f"{key}.work",
                    debs=cache.debs,
                    epoch=epoch,
                    on_step=lambda note, share: task.update(share, note=note),
                )
            check(image, entry.name)
            info = {
                "name": entry.name,
                "vouched": catalog.vouched(source),
                "recipe": recipe.digest(),
                "size": image.stat().st_size,
                "created": epoch,
                "obtained": int(time.time()),
                "seconds": dict(made.seconds),
                "packages": dict(made.packages),
            }
            digest = cache.hash(image, progress)
            final = cache.keep(key, image, digest, info, progress)
            return Base(final, digest, entry.name, epoch, info)
        finally:
            cache.sweep(key)


def _recipe(source: Assemble) -> Recipe:
    from pibake.image import debian  # noqa: PLC0415 - only these bases need it

    return debian.recipe(source.suite, source.network, cloud_init=source.cloud_init)


def _epoch() -> int:
    """Return SOURCE_DATE_EPOCH, or the beginning of today, so that two runs of a day give the same bytes."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or time.time() // DAY * DAY)
