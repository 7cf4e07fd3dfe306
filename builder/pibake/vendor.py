"""Which file a vendor offers just now, its digest, and what vouches for that digest."""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import fetch, signature, webindex
from pibake.errors import FetchError, VerificationError
from pibake.proof import ClearsignedSums, Pinned, SignedImage, SignedSums, Unsigned, key_of, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pibake.catalog import Download
    from pibake.proof import Key
    from pibake.web import Policy

    Get = Callable[[str], bytes]


@dataclass(frozen=True)
class Signed:
    """The digest is signed by the key with this fingerprint."""

    fingerprint: str


@dataclass(frozen=True)
class SignedWhole:
    """The file itself is signed: `verify` checks that once it is here."""

    signature: bytes
    key: Key


@dataclass(frozen=True)
class InCatalogue:
    """The digest stands in the catalogue."""


@dataclass(frozen=True)
class OnlyListed:
    """Only the vendor's server says so, over https."""


Warrant = Signed | SignedWhole | InCatalogue | OnlyListed


@dataclass(frozen=True)
class Release:
    """A vendor's file: its name and URL, its digest, where that is from, and what vouches for it."""

    file: str
    url: str
    sha256: str
    origin: str
    warrant: Warrant


def newest(source: Download, policy: Policy | None = None) -> Release:
    """Return the newest file that fits the catalogue's patterns, after checking what can be checked without it.

    Raises:
        VerificationError: what vouches for it is not there, or does not.
        FetchError: a list could not be had, or names no file that fits.
    """
    if key := key_of(source.proof):
        signature.need(key, f"{source.location}{source.file}")
    get = functools.partial(fetch.small, policy=policy)
    match source.proof:
        case SignedSums(sums, signed, key):
            where = f"{source.location}{sums}"
            listed = get(where)
            signer = signature.verify(
                listed, _signature(get, f"{source.location}{signed}", where, key), key, where
            )
            return _listed(source.file, listed, where, Signed(signer))
        case ClearsignedSums(sums, key):
            where = f"{source.location}{sums}"
            listed = signature.opened(_signature(get, where, where, key), key, where)
            return _listed(source.file, listed, where, Signed(key.fingerprint))
        case SignedImage(sums, signed, key):
            folder, file = _offered(get, source)
            where = f"{folder}{named(sums, file)}"
            signed_whole = _signature(get, f"{folder}{named(signed, file)}", f"{folder}{file}", key)
            return _listed(file, get(where), where, SignedWhole(signed_whole, key))
        case Unsigned(sums):
            _need_https(source)
            get = functools.partial(fetch.small, policy=policy, only_https=True)
            folder, file = _offered(get, source)
            where = f"{folder}{named(sums, file)}"
            return _listed(file, get(where), where, OnlyListed())
        case Pinned(sha256):
            folder, file = _offered(get, source)
            return Release(file, f"{folder}{file}", sha256, "the catalogue", InCatalogue())


def verify(release: Release, file: Path) -> None:
    """Check the downloaded file itself, if that is what the vendor signed; its digest is checked on the way in."""
    if isinstance(release.warrant, SignedWhole):
        signature.verify(file, release.warrant.signature, release.warrant.key, release.url)


def parse(sums: str) -> dict[str, str]:
    """Return the digests of a list as `sha256sum` writes it (`<hex> *<file>` or two spaces), by file name."""
    found = re.finditer(r"^([0-9a-fA-F]{64}) [ *](.+?)\r?$", sums, re.MULTILINE)
    return {match[2].removeprefix("./"): match[1].lower() for match in found}


def version(name: str) -> list[list[int]]:
    """Return the versions in a name: 24.04.10 is newer than 24.04.9 and 24.04, whatever number follows later."""
    return [[int(number) for number in found.split(".")] for found in re.findall(r"\d+(?:\.\d+)*", name)]


def _listed(pattern: str, sums: bytes, where: str, warrant: Warrant) -> Release:
    """Return the newest file of a list that fits a pattern."""
    digests = parse(sums.decode("utf-8", "replace"))
    fitting = [name for name in fnmatch.filter(digests, pattern) if "/" not in name]
    if not fitting:
        raise FetchError(
            f"{where} names no file like {pattern}; it names {', '.join(sorted(digests)) or 'none'}",
            "the vendor may have moved this release; a newer pibake may know where",
        )
    file = max(fitting, key=version)
    return Release(file, f"{where.rpartition('/')[0]}/{file}", digests[file], where, warrant)


def _signature(get: Get, url: str, what: str, key: Key) -> bytes:
    try:
        return get(url)
    except FetchError as error:
        raise VerificationError(
            f"the signature of {what}",
            expected=f"a good signature by {key.fingerprint}",
            got=f"none: {error}",
            source=f"the key in {key.file}",
            hint=error.hint,
        ) from error


def _need_https(source: Download) -> None:
    if not source.location.startswith("https://"):
        raise VerificationError(
            f"the digest of {source.location}{source.file}",
            expected="a signature, or at least https",
            got="neither: its vendor signs nothing, and anyone on the way can answer for http",
            source="the catalogue",
            hint="use a mirror with https, or give the file as `url:` with a sha256 you trust",
        )


def _offered(get: Get, source: Download) -> tuple[str, str]:
    """Return the folder, as a URL, and the name of the newest file that fits, by the server's own indexes."""
    parts = [part for part in source.folder.split("/") if part]
    for folder in _folders(get, source.root, parts):
        for file in _names(get, folder, source.file):
            return folder, file
    raise FetchError(
        f"{source.location} holds no file like {source.file}",
        "the vendor may have moved this release; a newer pibake may know where",
    )


def _folders(get: Get, url: str, parts: list[str]) -> Iterator[str]:
    """Yield the URLs of the folders whose path fits, newest first."""
    if not parts:
        yield url
        return
    for name in _names(get, url, f"{parts[0]}/"):
        yield from _folders(get, f"{url}{name}", parts[1:])


def _names(get: Get, url: str, pattern: str) -> list[str]:
    """Return the names in a folder that fit a pattern, newest first; a pattern without wildcards is a name."""
    if not re.search(r"[*?[]", pattern):
        return [pattern]
    names = webindex.names(get(url).decode("utf-8", "replace"), url)
    return sorted(fnmatch.filter(names, pattern), key=version, reverse=True)
