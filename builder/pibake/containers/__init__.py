"""Container images from registries, each as an archive that k3s and `ctr images import` take.

    containers/manifests/<sha256>         manifests and configurations, so that a second run asks nobody
    containers/layers/<sha256>            what of an image has arrived, until it is packed
    containers/<sha256>-<names>.tar       an image for one platform: its manifest's digest, and a hash of its names

An archive is an OCI image layout in a tar (OCI image specification, image-layout.md), whose index names the image as containerd
does, by `io.containerd.image.name`. It leads to the image for one platform and not to an index, as importing an index whose other
images are missing fails.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from pibake import space
from pibake.cache import made
from pibake.containers import manifest as manifests
from pibake.containers.name import Name
from pibake.crew import Crew
from pibake.errors import FetchError, about
from pibake.fsys import delete, sync, write
from pibake.share.artifact import LARGEST, Blob

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pibake.pins import Downloads
    from pibake.share.registry import Repository

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
INDEX = "application/vnd.oci.image.index.v1+json"
NAMED = "io.containerd.image.name"
"""What containerd calls an image that it imports (containerd, images/annotations.go)."""


@dataclass(frozen=True)
class Archive:
    """An image in a file: what to call the file on a node, where it is, and its sha256 (hex)."""

    file_name: str
    path: Path
    sha256: str


def obtain(names: Iterable[str], arch: str, downloads: Downloads) -> tuple[Archive, ...]:
    """Return images for an architecture, from the cache or from their registries.

    A tag can be moved: what it stood for when it came first is pinned, and from then on that is taken.

    Args:
        names: of the images.
        arch: Debian's name of the architecture, "arm64" or "armhf".
        downloads: what all of a run share.

    Raises:
        FetchError: there is no such image, or none for this architecture, or it could not be had.
        VerificationError: what comes is not what was asked for.
        PibakeError: a name is none, or there is no room.
    """
    found = []
    for name in dict.fromkeys(map(Name.parse, names)):
        with (
            about(f"image {name.written}"),
            downloads.cache.lock(f"image-{name.repository}", downloads.progress),
        ):
            found.append(_Image(name, arch, downloads).obtain())
    return tuple(found)


def known(name: str, downloads: Downloads) -> bool:
    """Return whether an image has been packed before, for one architecture at least, so that nobody need be asked for it."""
    found = Name.parse(name)
    pinned = found.reference.sha256 or downloads.pins.get(found.repository, found.reference.tag)
    return bool(pinned) and any(downloads.cache.root.glob(f"containers/*-{_key(found)}.tar"))


def _key(name: Name) -> str:
    return hashlib.sha256("\0".join(name.known_as).encode()).hexdigest()[:12]


@dataclass
class _Image:
    """One image on its way."""

    name: Name
    arch: str
    downloads: Downloads
    crew: Crew = field(default_factory=Crew)

    def folder(self, *parts: str) -> Path:
        """Return a folder of the cache."""
        return made(self.downloads.cache.root.joinpath("containers", *parts))

    def obtain(self) -> Archive:
        digest, manifest = self.platform(*self.meant())
        path = self.folder() / f"{digest}-{_key(self.name)}.tar"
        if not path.is_file():
            self.pack(path, digest, manifest)
        return Archive(self.name.file_name, path, self.downloads.cache.sha256(path))

    def meant(self) -> tuple[str, dict[str, Any]]:
        """Return digest and content of the manifest that the name stands for: an image's, or an index."""
        reference, pins = self.name.reference, self.downloads.pins
        if reference.sha256:
            return reference.sha256, self.manifest(reference.sha256)
        if pinned := pins.get(self.name.repository, reference.tag):
            try:
                return pinned, self.manifest(pinned)
            except FetchError as error:
                raise FetchError(
                    f"{error.message} ({pins.path.name} has it as sha256:{pinned})",
                    f"{error.hint}. If it is gone for good, remove the line `{self.name.repository} {reference.tag} ...`",
                ) from error
        data = self.repository().manifest()
        digest = hashlib.sha256(data).hexdigest()
        found = manifests.parse(data)
        self.keep(digest, data)
        pins.settle(self.name.repository, reference.tag, digest, reference.registry)
        return digest, found

    def platform(self, digest: str, found: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return digest and content of the manifest of the image for the architecture."""
        if inner := manifests.chosen(found, self.arch):
            return inner, self.manifest(inner)
        said = manifests.platform(json.loads(self.configuration(manifests.blobs(found)[0])))
        if said not in manifests.PLATFORMS[self.arch]:
            raise manifests.missing(self.arch, [said])
        return digest, found

    def manifest(self, digest: str) -> dict[str, Any]:
        """Return a manifest by its digest."""
        data = self.kept(digest)
        if data is None:
            data = self.repository(digest).manifest()
            self.keep(digest, data)
        return manifests.parse(data)

    def configuration(self, blob: Blob) -> bytes:
        """Return the configuration of an image, as JSON."""
        data = self.kept(blob.sha256)
        if data is None:
            if blob.size > LARGEST:
                raise FetchError(f"its configuration has {blob.size} bytes, which none should have")
            buffer = io.BytesIO()
            self.repository().get(blob, buffer, "the configuration", lambda _: None)
            data = buffer.getvalue()
            self.keep(blob.sha256, data)
        return data

    def kept(self, digest: str) -> bytes | None:
        """Return a small blob that came before, if it is sound."""
        path = self.folder("manifests") / digest
        data = path.read_bytes() if path.is_file() else b""
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def keep(self, digest: str, data: bytes) -> None:
        """Keep a small blob."""
        write(self.folder("manifests") / digest, data)

    def repository(self, digest: str = "") -> Repository:
        """Return the image's repository, to be asked for one manifest."""
        from pibake.share.registry import Repository  # noqa: PLC0415 - two tenths of a second that only pulling should cost

        reference = replace(self.name.reference, sha256=digest) if digest else self.name.reference
        return Repository(reference, self.crew, self.downloads.policy, ours=False)

    def pack(self, path: Path, digest: str, manifest: dict[str, Any]) -> None:
        """Get what the image is made of, and put it into an archive."""
        config, *layers = manifests.blobs(manifest)
        small = {digest: self.kept(digest) or b"", config.sha256: self.configuration(config)}
        # the repository's own, as the lock is: the image of another may have some of these layers as well
        folder = self.folder("layers", quote(self.name.repository, safe=""))
        why = f"pull {self.name.written}"
        missing = [layer for layer in layers if not (folder / layer.sha256).is_file()]
        space.need(folder, sum(layer.size for layer in (*layers, *missing)), why)
        part = path.with_name(f".{path.name}.part")
        with (
            self.downloads.progress.task(why, total=sum(layer.size for layer in missing)) as task,
            space.room(part, why),
        ):
            self.crew.task, self.crew.done = task, 0
            repository = self.repository()
            for _ in self.crew.each(lambda layer: self.layer(layer, folder, repository), missing):
                pass
            entries = {"oci-layout": LAYOUT, "index.json": self.index(digest, len(small[digest]), manifest)}
            with part.open("wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
                for name, data in (
                    *entries.items(),
                    *((f"blobs/sha256/{one}", data) for one, data in small.items()),
                ):
                    _add(archive, name, len(data), io.BytesIO(data))
                for layer in layers:
                    with (folder / layer.sha256).open("rb") as source:
                        _add(
                            archive, f"blobs/sha256/{layer.sha256}", os.fstat(source.fileno()).st_size, source
                        )
        sync(part)
        part.replace(path)
        delete(folder)

    def layer(self, layer: Blob, folder: Path, repository: Repository) -> None:
        """Get one layer; it has its name once it is whole and right."""
        part = folder / f".{layer.sha256}.{os.getpid()}"
        try:
            with part.open("w+b") as target:
                repository.get(layer, target, "a layer", self.crew.add)
            part.replace(folder / layer.sha256)
        finally:
            part.unlink(missing_ok=True)

    def index(self, digest: str, size: int, manifest: dict[str, Any]) -> bytes:
        """Return the index of the archive: the image, under each name that containerd has to know it by."""
        image = {"mediaType": manifests.kind(manifest), "digest": f"sha256:{digest}", "size": size}
        named = [{**image, "annotations": {NAMED: name}} for name in self.name.known_as]
        return json.dumps(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": named}, sort_keys=True
        ).encode()


def _add(archive: tarfile.TarFile, name: str, size: int, source: BinaryIO) -> None:
    """Add a file with nothing of this host to it."""
    entry = tarfile.TarInfo(name)
    entry.size = size
    archive.addfile(entry, source)
