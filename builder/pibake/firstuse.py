"""Trust at the first use: the digests of vendors' files that nobody signed, kept when such a file came first.

    first-use/<base>.json      in the cache: file name -> sha256

Pruning leaves them alone: whoever trusted a file once should hear of it when the vendor's server says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pibake.cache import made
from pibake.errors import VerificationError
from pibake.fsys import load, store
from pibake.vendor import OnlyListed

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.progress import Progress
    from pibake.vendor import Release


def check(base: str, release: Release, cache: Cache, progress: Progress) -> bool:
    """Return whether a file that nobody signed comes for the first time, and say what that means.

    Raises:
        VerificationError: its digest was another one when it came first.
    """
    if not isinstance(release.warrant, OnlyListed):
        return False
    path = _path(cache, base)
    known = load(path).get(release.file, "")
    if known == release.sha256:
        return False
    if known:
        raise VerificationError(
            f"the sha256 of {release.file} at {release.origin}",
            expected=known,
            got=release.sha256,
            source=f"its first use, kept in {path}",
            hint="its vendor signs nothing, so this may be another file under the old name. If the vendor says why "
            f"it was made anew, remove {path} and pull again",
        )
    progress.say(
        f"{base}: its vendor signs nothing. {release.file} is trusted on first use, with the sha256 {release.sha256} "
        "that its server gives over https; from now on only that one is taken"
    )
    return True


def remember(base: str, release: Release, cache: Cache) -> None:
    """Keep the digest of a file that has just come, and been verified, for the first time."""
    path = _path(cache, base)
    made(path.parent)
    store(path, {**load(path), release.file: release.sha256})


def _path(cache: Cache, base: str) -> Path:
    return cache.root / "first-use" / f"{base}.json"
