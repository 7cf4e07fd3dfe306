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

    from pibake.pins import Downloads
    from pibake.plan import ChartRef

INLINE = 1 << 20
"""Bytes that a chart may have, as base64: helm-controller keeps it in a ConfigMap, which takes no more."""


@dataclass(frozen=True)
class Arriving:
    """A file that is to come: whose it is, its version, the digest that somebody vouches for, and how its name ends."""

    addon: str
    version: str
    sha256: str
    ending: str
    downloads: Downloads

    @property
    def part(self) -> Path:
        """Where it is while it comes."""
        version = re.sub(r"[^0-9A-Za-z.+-]", "_", self.version)
        return made(_folder(self.downloads)) / f"{self.addon}-{version}{self.ending}"

    def download(self, url: str) -> Path:
        """Get it from a web server."""
        got = fetch.file(
            url, self.part, self.sha256, origin=f"the add-on {self.addon}",
            progress=self.downloads.progress, policy=self.downloads.policy,
        )  # fmt: skip
        return self.keep(got, url)

    def keep(self, sha256: str, origin: str) -> Path:
        """Put it in its place, once it is settled that it is the right one."""
        try:
            if self.ending == ".tgz":
                _agree(self, origin)
            if not self.sha256:
                self.downloads.pins.settle(self.addon, self.version, sha256, origin)
        except PibakeError:
            self.part.unlink(missing_ok=True)
            raise
        path = _folder(self.downloads) / f"{sha256}{self.ending}"
        self.part.replace(path)
        return path


def _agree(file: Arriving, origin: str) -> None:
    found = content.described(file.part.read_bytes(), origin)["version"]
    if found.removeprefix("v") != file.version.removeprefix("v"):
        raise PibakeError(
            f"{origin} is version {found} of the chart, not {file.version}", "its repository is in disorder"
        )


def chart(addon: str, ref: ChartRef, downloads: Downloads) -> bytes:
    """Return an add-on's chart as a .tgz, from the cache, from the user's files, or downloaded.

    Raises:
        FetchError: there is no such chart, or it could not be had.
        VerificationError: it is another one than is vouched for, or than came first.
        PibakeError: it is no chart, or too large for what installs it.
    """
    with about(f"add-on {addon}"):
        data = content.packed(ref.file) if ref.file else _obtained(addon, ref, downloads).read_bytes()
        if (size := 4 * -(-len(data) // 3)) > INLINE:
            raise PibakeError(
                f"the chart {ref.name or ref.file} has {len(data)} bytes, {size} as text, and {INLINE} is what fits into an object",
                "install it from its repository: without `airgap: true` or `chart: {file: ...}`",
            )
        return data


def manifest(addon: str, remote: Remote, downloads: Downloads) -> bytes:
    """Return a manifest that somebody publishes; as `chart`."""
    with about(f"add-on {addon}"):
        return _obtained(addon, remote, downloads).read_bytes()


def known(addon: str, ref: ChartRef | Remote, downloads: Downloads) -> Path | None:
    """Return an add-on's chart or manifest if the cache has the right one; it is hashed again only if it was touched."""
    wanted = ref.sha256 or downloads.pins.get(addon, ref.version)
    path = _folder(downloads) / f"{wanted}{_ending(ref)}"
    return path if wanted and path.is_file() and downloads.cache.sha256(path) == wanted else None


def _obtained(addon: str, ref: ChartRef | Remote, downloads: Downloads) -> Path:
    """Return a chart of a repository, or a manifest, from the cache or downloaded."""
    if found := known(addon, ref, downloads):
        return found
    file = Arriving(addon, ref.version, ref.sha256, _ending(ref), downloads)
    with downloads.cache.lock(f"addon-{addon}", downloads.progress):
        if found := known(addon, ref, downloads):  # another run got it meanwhile
            return found
        if isinstance(ref, Remote):
            return file.download(ref.url)
        if ref.repo.startswith("oci://"):
            return origins.from_registry(ref, file)
        return origins.from_repository(ref, file)


def _ending(ref: ChartRef | Remote) -> str:
    return ".yaml" if isinstance(ref, Remote) else ".tgz"


def _folder(downloads: Downloads) -> Path:
    """Return the folder of the cache, which may not be there yet."""
    return downloads.cache.root / "charts"
