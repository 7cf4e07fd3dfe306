"""What stands under one tag of a repository: images, and deltas that need them.

The manifest is that of the OCI image specification, version 1.1 (manifest.md, "Guidelines for Artifact Usage"); its config
holds what the cache records about each image, its layers are pieces of images and delta files.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pibake.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
"""Manifests that name one manifest for each platform (OCI image specification, image-index.md; Docker's "Manifest List")."""
KIND = "application/vnd.pibake.golden.v1"
CONFIG = "application/vnd.pibake.golden.v1+json"
PIECE = "application/vnd.pibake.piece.v1+zstd"
DELTA = "application/vnd.pibake.delta.v1"
LARGEST = 4 << 20
"""Bytes of a manifest or config: what registries must take at least (distribution-spec, "Pushing Manifests")."""
LONGEST = 1 << 40
"""Bytes of an image that a manifest may speak of."""
DELTA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,127}\.delta")

_TITLE = "org.opencontainers.image.title"
_IMAGE, _START, _END, _SHA256 = (f"io.pibake.{name}" for name in ("image", "start", "end", "sha256"))
_HEX = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,127}")


@dataclass(frozen=True)
class Blob:
    """Bytes as a registry keeps them: their sha256 (hex) and their number."""

    sha256: str
    size: int

    @property
    def digest(self) -> str:
        """Return the digest as registries write it."""
        return f"sha256:{self.sha256}"


@dataclass(frozen=True)
class Piece:
    """The bytes [start, end) of an image, their sha256 (hex), and the blob they are in."""

    start: int
    end: int
    sha256: str
    blob: Blob


@dataclass(frozen=True)
class Image:
    """An image of the cache: what is not in its pieces is zeros.

    Attributes:
        sha256: of all of it, holes included.
        length: in bytes.
        pins: what it is known as in the cache, and what the cache records of it.
        pieces: those that hold data, in order.
    """

    sha256: str
    length: int
    pins: Mapping[str, Mapping[str, Any]]
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Return what to call it."""
        return str(next(iter(self.pins.values()))["name"])


@dataclass(frozen=True)
class Delta:
    """A delta file: its name, the sha256 (hex) of the image that it needs, and the blob it is."""

    name: str
    image: str
    blob: Blob


@dataclass(frozen=True)
class Artifact:
    """Everything under one tag."""

    images: tuple[Image, ...]
    deltas: tuple[Delta, ...] = ()

    def config(self) -> bytes:
        """Return the config blob: what the cache records about the images."""
        images = [{"sha256": i.sha256, "length": i.length, "pins": i.pins} for i in self.images]
        return json.dumps({"images": images}, indent=1, sort_keys=True).encode()

    def manifest(self, config: Blob) -> bytes:
        """Return the manifest; the same images and deltas give the same bytes."""
        layers = [
            _layer(
                PIECE,
                piece.blob,
                {_IMAGE: image.sha256, _START: piece.start, _END: piece.end, _SHA256: piece.sha256},
            )
            for image in self.images
            for piece in image.pieces
        ]
        layers += [_layer(DELTA, d.blob, {_TITLE: d.name, _IMAGE: d.image}) for d in self.deltas]
        value = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": KIND,
            "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
            "layers": layers,
        }
        return json.dumps(value, indent=1, sort_keys=True).encode()


def config_of(manifest: bytes, source: str) -> Blob:
    """Return the blob with the config of a manifest.

    Raises:
        FetchError: `source` is something else than images of pibake's.
    """
    try:
        value = json.loads(manifest)
        config = value["config"]
        kind = str(value.get("artifactType") or config["mediaType"])
        if config["mediaType"] == CONFIG:
            return _blob(config)
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError):
        kind = "unknown"
    raise FetchError(
        f"{source} holds no images of pibake's: its kind is {kind[:80]!r}",
        f"pibake's are {KIND!r}; is it the right repository and tag, or does it need a newer pibake?",
    )


def parse(manifest: bytes, config: bytes, source: str) -> Artifact:
    """Return what a manifest and its config say.

    Raises:
        FetchError: they are damaged, contradict themselves, or name files elsewhere.
    """
    try:
        layers = json.loads(manifest)["layers"]
        images = tuple(_image(facts, layers) for facts in json.loads(config)["images"])
        deltas = tuple(_delta(layer) for layer in layers if layer["mediaType"] == DELTA)
        known = {image.sha256 for image in images}
        for delta in deltas:
            _demand(delta.image in known, f"{delta.name} needs an image that is not there")
        _demand(len({delta.name for delta in deltas}) == len(deltas), "two deltas have one name")
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise FetchError(
            f"{source} is damaged: {error}", "push it again, or update pibake if another release pushed it"
        ) from error
    return Artifact(images, deltas)


def _layer(kind: str, blob: Blob, notes: Mapping[str, str | int]) -> dict[str, Any]:
    annotations = {key: str(value) for key, value in notes.items()}
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size, "annotations": annotations}


def _image(facts: dict[str, Any], layers: list[dict[str, Any]]) -> Image:
    sha256, length = _hex(facts["sha256"]), int(facts["length"])
    _demand(0 < length <= LONGEST, f"image {sha256} has {length} bytes")
    _demand(bool(facts["pins"]), f"image {sha256} has no name")
    for key, info in facts["pins"].items():
        _demand(bool(_KEY.fullmatch(key)), f"{key!r} is no name in the cache")
        _demand(
            isinstance(info["name"], str) and isinstance(info["created"], int), f"{key} has no name or date"
        )
        if key.startswith("golden@"):
            _demand(
                isinstance(info["parts"], dict) and bool(_hex(info["base"])),
                f"{key} does not say what is in it",
            )
    pieces, end = [], 0
    for layer in layers:
        if layer["mediaType"] == PIECE and layer["annotations"][_IMAGE] == sha256:
            notes = layer["annotations"]
            piece = Piece(int(notes[_START]), int(notes[_END]), _hex(notes[_SHA256]), _blob(layer))
            _demand(end <= piece.start < piece.end <= length, f"byte {piece.start} is out of order")
            end = piece.end
            pieces.append(piece)
    return Image(sha256, length, facts["pins"], tuple(pieces))


def _delta(layer: dict[str, Any]) -> Delta:
    name = layer["annotations"][_TITLE]
    _demand(bool(DELTA_NAME.fullmatch(name)), f"{name!r} is no name of a delta")
    return Delta(name, _hex(layer["annotations"][_IMAGE]), _blob(layer))


def _blob(descriptor: dict[str, Any]) -> Blob:
    kind, _, value = descriptor["digest"].partition(":")
    _demand(kind == "sha256" and descriptor["size"] >= 0, f"{descriptor['digest']!r} is no digest")
    return Blob(_hex(value), int(descriptor["size"]))


def _hex(value: str) -> str:
    _demand(bool(_HEX.fullmatch(value)), f"{value[:80]!r} is no sha256")
    return value


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
