"""Manifests of images: which of them is for a board, and what it is made of (OCI image specification, manifest.md, image-index.md)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pibake.errors import FetchError
from pibake.share.artifact import INDEXES, MANIFEST, Blob

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PLATFORMS = {"arm64": ("linux/arm64/v8", "linux/arm64"),
             "armhf": ("linux/arm/v7", "linux/arm", "linux/arm/v6", "linux/arm/v5")}  # fmt: skip
"""Debian's name of an architecture -> the platforms whose images run on it, the best first."""
NO_IMAGE = "take a base of another architecture, leave the add-on out, or name another image (`values:` and `images:`)"


def parse(data: bytes) -> dict[str, Any]:
    """Return a manifest or an index.

    Raises:
        FetchError: it is neither.
    """
    try:
        found = json.loads(data)
        if isinstance(found.get("manifests"), list):
            digests = [one["digest"] for one in found["manifests"]]
        else:
            digests = [one["digest"] for one in (found["config"], *found["layers"])]
        for one in digests:
            _hex(one)
        return dict(found)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FetchError(
            "what is there is no container image, or one of a kind that is no longer made",
            "is it the right name? A chart is no image, for one",
        ) from error


def chosen(index: Mapping[str, Any], arch: str) -> str | None:
    """Return the digest (hex) of the manifest for an architecture; None if this is no index, but a manifest itself.

    Raises:
        FetchError: there is none for it.
    """
    if "manifests" not in index:
        return None
    there: dict[str, str] = {}
    for one in index["manifests"]:
        there.setdefault(platform(one.get("platform") or {}), _hex(one["digest"]))
    for wanted in PLATFORMS[arch]:
        if wanted in there:
            return there[wanted]
    raise missing(arch, there)


def platform(facts: Mapping[str, Any]) -> str:
    """Return a platform as people write it, of a descriptor's `platform` or of an image's configuration."""
    return "/".join(str(facts[key]) for key in ("os", "architecture", "variant") if facts.get(key))


def missing(arch: str, there: Iterable[str]) -> FetchError:
    """Return the error for an image that is made for other platforms only."""
    known = (
        ", ".join(sorted(one for one in there if not one.startswith("unknown"))) or "none that says for what"
    )
    return FetchError(
        f"there is no image for {PLATFORMS[arch][-1 if arch == 'arm64' else 0]}, only for {known}", NO_IMAGE
    )


def blobs(manifest: Mapping[str, Any]) -> tuple[Blob, ...]:
    """Return the configuration and the layers of an image, each once."""
    return tuple(
        dict.fromkeys(
            Blob(_hex(one["digest"]), int(one["size"])) for one in (manifest["config"], *manifest["layers"])
        )
    )


def kind(manifest: Mapping[str, Any]) -> str:
    """Return the media type of a manifest; OCI's own may leave it out."""
    return str(manifest.get("mediaType") or (INDEXES[0] if "manifests" in manifest else MANIFEST))


def _hex(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{digest[:80]!r} is no sha256")
    return value
