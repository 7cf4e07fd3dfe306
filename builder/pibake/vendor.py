"""Which file a vendor offers just now, by the signed list of digests beside it."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import fetch, signature
from pibake.errors import FetchError, VerificationError

if TYPE_CHECKING:
    from pibake.catalog import Download
    from pibake.web import Policy


@dataclass(frozen=True)
class Release:
    """A vendor's file: its name and URL, its digest, where that is from, and whose signature vouches for it."""

    file: str
    url: str
    sha256: str
    origin: str
    signed_by: str


def newest(source: Download, policy: Policy | None = None) -> Release:
    """Return the newest file that fits the catalogue's pattern, after checking the signature of the list.

    Raises:
        VerificationError: the list is not signed, or not by the right key.
        FetchError: the list could not be had, or names no file that fits.
    """
    where = f"{source.location}{source.sums}"
    sums = fetch.small(where, policy)
    try:
        signed = fetch.small(f"{source.location}{source.signature}", policy)
    except FetchError as error:
        raise VerificationError(
            f"the signature of {where}",
            expected=f"a good signature by {source.fingerprint}",
            got=f"none: {error}",
            source=f"the key in {source.keyring}",
            hint=error.hint,
        ) from error
    signer = signature.verify(
        sums, signed, keyring=source.keyring, fingerprint=source.fingerprint, what=where
    )
    digests = parse(sums.decode("utf-8", "replace"))
    fitting = [name for name in fnmatch.filter(digests, source.file) if "/" not in name]
    if not fitting:
        raise FetchError(
            f"{where} names no file like {source.file}; it names {', '.join(sorted(digests)) or 'none'}",
            "the vendor may have moved this release; a newer pibake may know where",
        )
    file = max(fitting, key=version)
    return Release(file, f"{source.location}{file}", digests[file], where, signer)


def parse(sums: str) -> dict[str, str]:
    """Return the digests of a list as `sha256sum` writes it (`<hex> *<file>` or two spaces), by file name."""
    found = re.finditer(r"^([0-9a-fA-F]{64}) [ *](.+?)\r?$", sums, re.MULTILINE)
    return {match[2].removeprefix("./"): match[1].lower() for match in found}


def version(name: str) -> list[int]:
    """Return the first version in a file's name, so that 24.04.10 is newer than 24.04.9 and 24.04."""
    found = re.search(r"\d+(\.\d+)*", name)
    return [int(number) for number in found[0].split(".")] if found else []
