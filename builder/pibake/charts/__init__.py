"""Helm charts and remote manifests of add-ons, as files of the cache.

    charts/<sha256>.tgz       a chart, or
    charts/<sha256>.yaml      a manifest; the name is the sha256 of its content

A chart comes from a chart repository (its index.yaml says where: Helm documentation, "The Chart Repository Guide"), from an OCI
registry ("Use OCI-based registries"), or from a file or folder of the user's. Its digest is the catalogue's or cluster.yaml's, or
else what it was when it came first (`pibake.pins`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake import fetch
from pibake.cache import made
from pibake.charts import content, origins
from pibake.errors import PibakeError, about
from pibake.offers import Remote

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.pins import Pins
    from pibake.plan import ChartRef
    from pibake.progress import Progress
    from pibake.web import Policy

INLINE = 1 << 20
"""Bytes that a chart may have, as base64: helm-controller keeps it in a ConfigMap, which takes no more."""


@dataclass(frozen=True)
class Source:
    """What all downloads of one cluster's add-ons share."""

    pins: Pins
    cache: Cache
    progress: Progress
    policy: Policy | None = None

    @property
    def folder(self) -> Path:
        """The folder of the cache, which may not be there yet."""
        return self.cache.root / "charts"


@dataclass(frozen=True)
class Arriving:
    """A file that is to come: whose it is, its version, the digest that somebody vouches for, and how its name ends."""

    addon: str
    version: str
    sha256: str
    ending: str
    source: Source

    @property
    def part(self) -> Path:
        """Where it is while it comes."""
        version = re.sub(r"[^0-9A-Za-z.+-]", "_", self.version)
        return made(self.source.folder) / f"{self.addon}-{version}{self.ending}"

    def download(self, url: str) -> Path:
        """Get it from a web server."""
        source = self.source
        got = fetch.file(
            url, self.part, self.sha256, origin=f"the add-on {self.addon}", progress=source.progress, policy=source.policy
        )  # fmt: skip
        return self.keep(got, url)

    def keep(self, sha256: str, origin: str) -> Path:
        """Put it in its place, once it is settled that it is the right one."""
        try:
            if self.ending == ".tgz":
                _agree(self, origin)
            if not self.sha256:
                self.source.pins.settle(self.addon, self.version, sha256, origin)
        except PibakeError:
            self.part.unlink(missing_ok=True)
            raise
        path = self.source.folder / f"{sha256}{self.ending}"
        self.part.replace(path)
        return path


def _agree(file: Arriving, origin: str) -> None:
    found = content.described(file.part.read_bytes(), origin)["version"]
    if found.removeprefix("v") != file.version.removeprefix("v"):
        raise PibakeError(
            f"{origin} is version {found} of the chart, not {file.version}", "its repository is in disorder"
        )


def chart(addon: str, ref: ChartRef, source: Source) -> bytes:
    """Return an add-on's chart as a .tgz, from the cache, from the user's files, or downloaded.

    Raises:
        FetchError: there is no such chart, or it could not be had.
        VerificationError: it is another one than is vouched for, or than came first.
        PibakeError: it is no chart, or too large for what installs it.
    """
    with about(f"add-on {addon}"):
        data = content.packed(ref.file) if ref.file else _chart(addon, ref, source).read_bytes()
        if (size := 4 * -(-len(data) // 3)) > INLINE:
            raise PibakeError(
                f"the chart {ref.name or ref.file} has {len(data)} bytes, {size} as text, and {INLINE} is what fits into an object",
                "install it from its repository: without `airgap: true` or `chart: {file: ...}`",
            )
        return data


def manifest(addon: str, remote: Remote, source: Source) -> bytes:
    """Return a manifest that somebody publishes; as `chart`."""
    with about(f"add-on {addon}"):
        if found := known(addon, remote, source):
            return found.read_bytes()
        with source.cache.lock(f"manifest-{addon}", source.progress):
            file = Arriving(addon, remote.version, remote.sha256, ".yaml", source)
            return file.download(remote.url).read_bytes()


def known(addon: str, ref: ChartRef | Remote, source: Source) -> Path | None:
    """Return an add-on's chart or manifest if the cache has the right one; it is hashed again only if it was touched."""
    wanted = ref.sha256 or source.pins.get(addon, ref.version)
    path = source.folder / f"{wanted}{'.yaml' if isinstance(ref, Remote) else '.tgz'}"
    return path if wanted and path.is_file() and source.cache.sha256(path) == wanted else None


def _chart(addon: str, ref: ChartRef, source: Source) -> Path:
    """Return the chart of a repository, from the cache or downloaded."""
    if found := known(addon, ref, source):
        return found
    file = Arriving(addon, ref.version, ref.sha256, ".tgz", source)
    with source.cache.lock(f"chart-{addon}", source.progress):
        if ref.repo.startswith("oci://"):
            return origins.from_registry(ref, file)
        return origins.from_repository(ref, file)
