"""Golden images: a base with a payload in its root file system, made once and kept in the cache.

The root partition is edited in a file of its own (resize2fs cannot do otherwise, see `ext4.resize`), then put behind
the base's boot partition in a larger image. The same base and payload give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pibake import bases, space
from pibake.errors import PibakeError, VerificationError
from pibake.fsys import delete, stamp
from pibake.image import debs, ext4, table
from pibake.image.ext4_tree import Files
from pibake.image.ext4_write import Entry, Kind
from pibake.image.extents import allocated
from pibake.image.rootpart import RootPart, digest
from pibake.progress import Meter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pibake.bases import Base
    from pibake.cache import Cache
    from pibake.image.debs import Deb
    from pibake.progress import Progress

FORMAT = 2
"""Raised when the code changes what comes out of the same base and payload: part of every key."""


@dataclass(frozen=True)
class PayloadFile:
    """A file of this host that goes into the root file system.

    Attributes:
        path: where on the node, without leading slash.
        source: the file.
        mode: permission bits.
        sha256: digest of its content.
        uid: owner, by number.
        gid: owning group, by number.
    """

    path: str
    source: Path
    mode: int
    sha256: str
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class PayloadFolder:
    """A folder of the root file system: its path without leading slash, permission bits, and owner by number.

    With `claims` it gets these although the base has it already.
    """

    path: str
    mode: int
    uid: int = 0
    gid: int = 0
    claims: bool = False


@dataclass(frozen=True)
class Payload:
    """What all nodes of a kind get beside the base: files, packages to unpack, symbolic links by path, and folders.

    `arch` is Debian's name of the architecture that packages must be for; their content tells it, so it is in no key.
    """

    files: tuple[PayloadFile, ...] = ()
    debs: tuple[Deb, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    arch: str = "arm64"
    folders: tuple[PayloadFolder, ...] = ()

    def __or__(self, other: Payload) -> Payload:
        """Return both payloads in one; `other` wins where both have a path."""
        taken = {file.path for file in other.files} | other.links.keys()
        named = {deb.path.name: deb for deb in (*self.debs, *other.debs)}
        folders = {folder.path: folder for folder in (*self.folders, *other.folders)}
        return Payload(
            (*(file for file in self.files if file.path not in taken), *other.files),
            tuple(named.values()),
            {**{path: to for path, to in self.links.items() if path not in taken}, **other.links},
            self.arch,
            tuple(folders.values()),
        )

    @property
    def key(self) -> str:
        """Return the sha256 (hex) that identifies the payload; "" if there is nothing in it."""
        parts = self.parts()
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() if parts else ""

    def parts(self) -> dict[str, str]:
        """Return what identifies each part: mode and digest by path, digests by package, targets by link."""
        return {
            **{f"{folder.path}/": f"{_access(folder)} {folder.claims}" for folder in self.folders},
            **{file.path: f"{_access(file)} {file.sha256}" for file in self.files},
            **{path: f"-> {target}" for path, target in self.links.items()},
            **{f"package {deb.path.name}": deb.sha256 for deb in self.debs},
        }


def _access(item: PayloadFile | PayloadFolder) -> str:
    return f"{item.mode:o} {item.uid}:{item.gid}"


def key_of(base: Base, payload: Payload) -> str:
    """Return the cache key of the golden image of `base` with `payload`."""
    identity = hashlib.sha256(f"{FORMAT} {base.sha256} {payload.key}".encode()).hexdigest()
    return f"golden@{identity[:32]}"


def golden(base: Base, payload: Payload, cache: Cache, progress: Progress, *, former: str = "") -> Base:
    """Return `base` with `payload` in its root file system, from the cache or made now.

    A cached one that is damaged is made anew; it is then among the damaged images of the cache.

    Args:
        base: what it is made from.
        payload: what goes into it.
        cache: where it is kept.
        progress: where to show what is going on, and why it is made.
        former: key of the golden image that it takes the place of, to say what changed.

    Raises:
        ImageError: the base has no ext4 root partition at its end, or the payload does not fit into its tree.
        PibakeError: the disk is full, or a file of the payload changed meanwhile.
    """
    if not payload.key:
        return base
    key = key_of(base, payload)
    if found := _cached(key, base, payload, cache, progress):
        return found
    with cache.lock(key, progress):
        if found := _cached(key, base, payload, cache, progress):
            return found
        _say_why(base, payload, cache.pinned(former), progress)
        cache.sweep(key)
        image = cache.partial / f"{key}.img"
        try:
            before = [stamp(file.source) for file in payload.files]
            sha256 = _make(base, payload, image, cache.partial / f"{key}.work", progress)
            for file, known in zip(payload.files, before, strict=True):
                if stamp(file.source) != known:  # the key is that of what it was
                    raise PibakeError(f"{file.source} changed while it was put into an image", "run it again")
            info = {
                "name": f"golden image of {base.name}",
                "base": base.sha256,
                "payload": payload.key,
                "parts": payload.parts(),
                "size": image.stat().st_size,
                "created": base.created,
                "obtained": int(time.time()),
            }
            return _named(base, payload, cache.keep(key, image, sha256, info, progress), sha256)
        finally:
            cache.sweep(key)


def _cached(key: str, base: Base, payload: Payload, cache: Cache, progress: Progress) -> Base | None:
    try:
        found = bases.cached(key, cache, progress)
    except VerificationError as error:
        progress.say(f"warning: the golden image of {base.name} is damaged and made anew: {error}")
        return None
    return _named(base, payload, found.image, found.sha256) if found else None


def _named(base: Base, payload: Payload, image: Path, digest: str) -> Base:
    info = {**base.info, "base_sha256": base.sha256, "golden": payload.key}
    return replace(base, image=image, sha256=digest, info=info)


def _say_why(base: Base, payload: Payload, pin: Mapping[str, Any], progress: Progress) -> None:
    """Say which input changed since the golden image of this pin."""
    if not pin:
        return
    last = pin["info"]
    old, new = last["parts"], payload.parts()
    changed = sorted(part for part in old.keys() | new.keys() if old.get(part) != new.get(part))
    if last["base"] != base.sha256:
        changed.insert(0, "the base")
    listed = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    progress.say(f"golden image of {base.name}: made anew, because {listed or 'pibake itself'} changed")


def _make(base: Base, payload: Payload, image: Path, work: Path, progress: Progress) -> str:
    """Make the golden image in `image` and return its sha256 (hex); everything needed on the way goes into the folder `work`."""
    delete(work)
    work.mkdir()
    root = ext4.root_partition(base.image)
    content = sum(file.source.stat().st_size for file in payload.files) + sum(
        debs.size(deb.path) for deb in payload.debs
    )
    space.need(work, 2 * allocated(base.image) + 3 * content, "make a golden image")
    with (
        progress.task(f"golden image of {base.name}", total=2 * allocated(base.image) + 2 * content) as task,
        space.room(image, "make a golden image"),
    ):
        meter = Meter(task)
        part = RootPart(work / "root.ext4", root.start, table.read(base.image).label, base.created)
        task.update(0, note="copying")
        part.take(base.image, root.size, meter)
        files = Files(part.path)
        # Packages first: their folders may have other modes, and what is given file by file wins.
        packages = [deb.path for deb in payload.debs]
        entries = [*debs.unpack(packages, files, work / "debs", payload.arch), *_entries(payload)]
        task.update(meter.done, note="writing")
        part.fill(files, entries, meter)
        task.update(meter.done, note="putting together")
        part.put_behind_boot(base.image, image, meter)
        delete(work)
        task.update(meter.done, note="computing the digest")
        return digest(image, meter.add)


def _entries(payload: Payload) -> list[Entry]:
    folders = [
        Entry(f.path, Kind.DIRECTORY, mode=f.mode, uid=f.uid, gid=f.gid, claims=f.claims)
        for f in payload.folders
    ]
    files = [Entry(f.path, source=f.source, mode=f.mode, uid=f.uid, gid=f.gid) for f in payload.files]
    links = [Entry(path, Kind.SYMLINK, target=target) for path, target in payload.links.items()]
    return sorted([*folders, *files, *links], key=lambda entry: entry.path)
