"""k3s' releases: the executable and the air-gap images, checked against the release's own list of digests.

Assets of a release, for each architecture: the executable, an archive of images, and a list of digests with lines
`<hex>  <asset>` (k3s' install.sh and scripts/package-airgap). k3s signs none of them; that the list is the project's
own rests on HTTPS.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pibake import arch as processor
from pibake import fetch, vendor
from pibake.cache import made
from pibake.errors import FetchError, PibakeError
from pibake.fsys import load, stamp, store

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.web import Policy

URL = "https://github.com/k3s-io/k3s/releases/download"


@dataclass(frozen=True)
class Names:
    """What k3s calls its assets for one architecture."""

    binary: str
    images: str
    sums: str


NAMES = {
    "arm64": Names("k3s-arm64", "k3s-airgap-images-arm64.tar.zst", "sha256sum-arm64.txt"),
    "armhf": Names("k3s-armhf", "k3s-airgap-images-arm.tar.zst", "sha256sum-arm.txt"),
}
"""Debian's name of an architecture -> k3s' names."""


@dataclass(frozen=True)
class Asset:
    """A file of a release in the cache, and its verified digest."""

    path: Path
    sha256: str


def k3s(
    version: str,
    names: tuple[str, ...],
    arch: str,
    cache: Cache,
    progress: Progress,
    *,
    policy: Policy | None = None,
) -> tuple[Asset, ...]:
    """Return assets of a release of k3s, from the cache or downloaded.

    Args:
        version: the release, such as v1.31.4+k3s1.
        names: which of its assets.
        arch: Debian's name of the architecture they are for.
        cache: where they are kept.
        progress: where to show progress.
        policy: how patient to be with the network.

    Raises:
        FetchError: there is no such release, or it could not be had.
        VerificationError: a file is not the one in the release's list.
    """
    # In a URL a plus sign may mean a space
    where = f"{os.environ.get('PIBAKE_K3S_URL', URL).rstrip('/')}/{quote(version, safe='')}"
    folder = made(cache.root / "kubernetes" / f"k3s-{version}")
    with cache.lock(f"k3s-{version}", progress):
        origin, kept = f"{where}/{NAMES[arch].sums}", folder / f"sums-{arch}.json"
        sums = _sums(version, arch, origin, kept, policy)
        missing = [name for name in names if name not in sums]
        if missing:
            raise FetchError(
                f"{origin} does not name {missing[0]}; it names {', '.join(sorted(sums)) or 'nothing'}",
                f"does k3s {version} have a build for {arch}?",
            )
        try:
            return tuple(
                _Wanted(f"{where}/{name}", folder / name, sums[name], origin, arch).obtain(progress, policy)
                for name in names
            )
        except PibakeError:
            kept.unlink(missing_ok=True)  # a mirror may be put right: the next run asks for the list again
            raise


def _sums(version: str, arch: str, url: str, kept: Path, policy: Policy | None) -> dict[str, str]:
    """Return the release's digests by asset; a release never changes, so they are asked for once."""
    if sums := load(kept):
        return sums
    try:
        text = fetch.small(url, policy).decode("utf-8", "replace")
    except FetchError as error:
        if " 404 " not in f"{error} ":
            raise
        raise FetchError(
            f"there is no k3s {version} for {arch}: {error.message}",
            "https://update.k3s.io/v1-release/channels names the current releases; write the whole version, "
            "such as v1.31.4+k3s1; PIBAKE_K3S_URL points at a mirror",
        ) from error
    sums = vendor.parse(text)
    if sums:
        store(kept, sums)
    return sums


@dataclass(frozen=True)
class _Wanted:
    """A file that must have a certain digest: where it is and goes, where the digest is from, what it is for."""

    url: str
    path: Path
    sha256: str
    origin: str
    arch: str

    def obtain(self, progress: Progress, policy: Policy | None) -> Asset:
        """Return the file, downloaded if it is not there; it is hashed again only if it was touched."""
        record = self.path.with_name(f"{self.path.name}.verified.json")
        now = stamp(self.path)
        if not now or load(record) != {"sha256": self.sha256, "verified": now}:
            if not (now and _digest(self.path, progress) == self.sha256):
                fetch.file(
                    self.url, self.path, self.sha256, origin=self.origin, progress=progress, policy=policy
                )
            if self.path.name == NAMES[self.arch].binary:
                processor.check_executable(self.path, self.arch)
            store(record, {"sha256": self.sha256, "verified": stamp(self.path)})
        return Asset(self.path, self.sha256)


def _digest(path: Path, progress: Progress) -> str:
    total, done = hashlib.sha256(), 0
    with path.open("rb") as file, progress.task(f"verify {path.name}", total=path.stat().st_size) as task:
        while chunk := file.read(1 << 20):
            total.update(chunk)
            done += len(chunk)
            task.update(done)
    return total.hexdigest()
