"""What the cache of bases holds, and what of it nobody needs any more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake import bases, catalog, uses
from pibake.errors import PibakeError
from pibake.fsys import delete, load, stamp, used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.cache import Cache
    from pibake.catalog import Entry
    from pibake.progress import Progress

STALE = 86400
"""Age in seconds at which work under way is taken for abandoned."""


@dataclass(frozen=True)
class Row:
    """One base as `pibake base list` shows it.

    Attributes:
        name: of the catalogue, or of the file or URL.
        title: what it is, or where it is from.
        arch: processor architecture; empty if unknown.
        state: `cached`, `outdated` (cached, but made by another recipe), or `absent`.
        bytes: disk that the cached image takes.
        created: when its content was made, in Unix time.
        sha256: the cached image's digest.
        file: the file it came from.
        end_of_life: last day with security updates, as YYYY-MM-DD.
        boards: the boards it can boot.
        vouched: what vouches for it, in a few words.
        notes: what to know before choosing it.
    """

    name: str
    title: str
    arch: str = ""
    state: str = "absent"
    bytes: int = 0
    created: int = 0
    sha256: str = ""
    file: str = ""
    end_of_life: str = ""
    boards: tuple[str, ...] = ()
    vouched: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Dropped:
    """Something that pruning removes: its path, why, and the bytes of disk that frees."""

    path: Path
    why: str
    bytes: int


def rows(cache: Cache) -> list[Row]:
    """Return every base of the catalogue, then the files and URLs that are in the cache."""
    pins = {key: pin for key, pin in cache.pins().items() if cache.path(pin["sha256"]).exists()}
    named = [_named(catalog.entry(name), cache, pins) for name in catalog.names()]
    others = [
        Row(
            name=pin["info"]["name"],
            title=pin["info"].get("url") or pin["info"].get("path", ""),
            **_cached(cache, pin),
        )
        for key, pin in pins.items()
        if key.startswith(("file@", "url@"))
    ]
    return named + others


def images_of(cache: Cache, name: str) -> list[str]:
    """Return the digests of the cached images that `name` stands for, in any version."""
    found = [
        pin["sha256"]
        for pin in cache.pins().values()
        if pin["info"]["name"] == name and cache.path(pin["sha256"]).exists()
    ]
    if not found:
        catalog_names = f"; `pibake base pull {name}` gets it" if name in catalog.names() else ""
        raise PibakeError(
            f"there is no base {name!r} in the cache", f"`pibake base list` shows what is{catalog_names}"
        )
    return sorted(set(found))


def prune(cache: Cache, progress: Progress, *, everything: bool, dry_run: bool) -> list[Dropped]:
    """Remove what no base needs any more; return what was, or would be, removed.

    Args:
        cache: the cache to clean.
        progress: where to say that another process is waited for.
        everything: remove all bases, kept packages and unfinished downloads, too.
        dry_run: remove nothing.
    """
    with cache.lock("index", progress):
        dropped = list(_unneeded(cache, everything=everything))
        for drop in [] if dry_run else dropped:
            delete(drop.path)
    return dropped


def _unneeded(cache: Cache, *, everything: bool) -> Iterator[Dropped]:
    pins = cache.pins()
    gone = dict.fromkeys(pins, "all bases are removed") if everything else _obsolete(pins, cache)
    for key, why in gone.items():
        yield _drop(cache.names / f"{key}.json", why)
    needed = {pin["sha256"] for key, pin in pins.items() if key not in gone}
    for image in cache.images.glob("*.img"):
        if image.stem not in needed:
            yield _drop(image, "no base stands for this image any more")
    for folder, why in (
        (cache.images, "the record of an image that is removed or gone"),
        (cache.systems, "what an image said of itself that is removed or gone"),
        (cache.pieces, "the pieces of an image that is removed or gone"),
    ):
        for record in folder.glob("*.json"):
            if record.stem not in needed:
                yield _drop(record, why)
    for path in cache.damaged.iterdir():
        yield _drop(path, "damaged")
    yield from _leftovers(cache, everything=everything)
    yield from _unfinished(cache, older_than=time.time() - (0 if everything else STALE))


def _leftovers(cache: Cache, *, everything: bool) -> Iterator[Dropped]:
    """Yield records about what is gone, and results of hooks that a newer one took the place of."""
    if everything:
        yield from _obtained(cache)
    for path in (cache.root / "known").glob("*.json"):
        record = load(path)
        if stamp(Path(record.get("path", ""))) != record.get("stamp"):
            yield _drop(path, "the digest of a file that is gone or has changed")
    for path, _, there in uses.records(cache):
        if not there:
            yield _drop(path, "golden images of a cluster whose folder is gone")
    results = {path.parent: load(path) for path in sorted((cache.root / "hooks").glob("*/record.json"))}
    newest: dict[tuple[str, str], int] = {}
    for record in results.values():
        kind = record["name"], record["base"]
        newest[kind] = max(newest.get(kind, 0), record["obtained"])
    for folder, record in results.items():
        if everything or record["obtained"] < newest[record["name"], record["base"]]:
            yield _drop(
                folder,
                f"what the hook {record['name']} made"
                if everything
                else "a newer run of the hook took its place",
            )


def _obtained(cache: Cache) -> Iterator[Dropped]:
    """Yield what can be downloaded or rendered again."""
    yield _drop(cache.debs, "Debian packages, for assembling")
    for folder in (cache.root / "packages").glob("apt-*"):
        yield _drop(folder, "Debian packages, for golden images")
    for name in ("charts", "containers", "addons"):
        if (folder := cache.root / name).is_dir():
            yield _drop(folder, "what add-ons are made of")


def _unfinished(cache: Cache, *, older_than: float) -> Iterator[Dropped]:
    """Yield what runs that were killed left behind; never what a run that still goes on is making."""
    for path in cache.partial.iterdir():
        key = path.name.partition(".img")[0].partition(".work")[0]
        if path.lstat().st_mtime < older_than and not cache.busy(key):
            yield _drop(path, "left by a run that did not finish")
    for folder in (cache.names, cache.images, cache.systems, cache.pieces):
        for path in folder.glob(".*"):
            if path.lstat().st_mtime < older_than:
                yield _drop(path, "left by a run that did not finish")


def _obsolete(pins: dict[str, dict[str, Any]], cache: Cache) -> dict[str, str]:
    """Return the pins that lead nowhere or have been superseded, and why."""
    newest: dict[str, int] = {}
    needed = uses.needed(cache)
    # golden images that were pulled have no nodes here: the last of a name stay
    for pin in (
        pin for key, pin in pins.items() if not key.startswith("golden@") or pin["info"].get("pulled")
    ):
        name = pin["info"]["name"]
        newest[name] = max(newest.get(name, 0), pin["info"]["obtained"])
    found = {}
    for key, pin in pins.items():
        path = pin["info"].get("path")
        if not cache.path(pin["sha256"]).exists():
            found[key] = "its image is gone"
        elif path and pin.get("stamp") != stamp(Path(path)):
            found[key] = f"{path} is gone or has changed"
        elif key.startswith("golden@") and key in needed:
            continue
        elif key.startswith("golden@") and not pin["info"].get("pulled"):
            found[key] = "no node was made from it last"
        elif not key.startswith(("file@", "url@")) and pin["info"]["obtained"] < newest[pin["info"]["name"]]:
            found[key] = "a newer one was assembled"
    return found


def _named(entry: Entry, cache: Cache, pins: dict[str, dict[str, Any]]) -> Row:
    pin = pins.get(bases.key_of(entry))
    old = sorted(
        (p for key, p in pins.items() if key.startswith(f"{entry.name}@")),
        key=lambda p: int(p["info"]["obtained"]),
    )
    facts = _cached(cache, pin) if pin else {**_cached(cache, old[-1]), "state": "outdated"} if old else {}
    return Row(
        name=entry.name,
        title=entry.title,
        arch=entry.arch,
        end_of_life=entry.end_of_life.isoformat(),
        boards=entry.boards,
        vouched=catalog.vouched(entry.source),
        notes=entry.notes,
        **facts,
    )


def _cached(cache: Cache, pin: dict[str, Any]) -> dict[str, Any]:
    return {
        "state": "cached",
        "bytes": used(cache.path(pin["sha256"])),
        "created": pin["info"]["created"],
        "sha256": pin["sha256"],
        "file": pin["info"].get("file", ""),
    }


def _drop(path: Path, why: str) -> Dropped:
    return Dropped(path, why, used(path))
