"""For which processor a file is made: executables, and archives of container images.

ELF: elf(5), `e_machine`. Archives: Docker's `manifest.json` (docker save, image specification 1.2) and the OCI image
layout's `index.json` (OCI image specification, image-layout.md); both name a configuration with an `architecture`.
"""

from __future__ import annotations

import gzip
import json
import struct
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import zstandard

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

AARCH64 = 183
MACHINES = {3: "i386", 40: "arm", 62: "amd64", AARCH64: "arm64", 243: "riscv64"}
"""Names of the values of `e_machine` that one meets (elf.h)."""
SMALL = 4 << 20
"""Largest member of an archive that may be JSON; layers are larger or do not begin with `{` or `[`."""


def check_executable(path: Path) -> None:
    """Raise unless a file is a script or an ELF executable for arm64.

    Raises:
        PibakeError: it is neither, or for another processor.
    """
    with path.open("rb") as file:
        head = file.read(20)
    if head.startswith(b"#!"):
        return
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        raise PibakeError(
            f"{path} is no executable: it begins with {head[:8].hex(' ') or 'nothing'}",
            "an ELF file for arm64 (aarch64), or a script with #!, is needed",
        )
    order = ">" if head[5] == 2 else "<"
    machine = struct.unpack_from(f"{order}H", head, 18)[0]
    if machine != AARCH64 or head[4] != 2:
        raise PibakeError(
            f"{path} is made for {MACHINES.get(machine, f'machine {machine}')}; the boards need arm64",
            "get the arm64 (aarch64) build of it",
        )


def check_images(path: Path) -> None:
    """Raise unless every image in an archive (.tar, .tar.gz, .tar.zst) runs on arm64.

    Raises:
        PibakeError: it is no archive of images, or one of them is for other processors only.
    """
    try:
        with _opened(path) as file, tarfile.open(fileobj=file, mode="r|") as archive:
            parts = _json_members(archive)
    except (tarfile.TarError, zstandard.ZstdError, EOFError, OSError) as error:
        raise PibakeError(f"{path} is damaged, or no archive of container images: {error}") from error
    images = dict(_docker(parts)) or dict(_oci(parts))
    if not images:
        raise PibakeError(
            f"{path} holds no container image: neither manifest.json nor index.json names one",
            "`docker save` and `ctr images export` make such archives",
        )
    for name, architectures in images.items():
        if "arm64" not in architectures:
            known = ", ".join(sorted(architectures)) or "an unknown processor"
            raise PibakeError(
                f"{path}: the image {name} is made for {known}; the boards need arm64",
                "pull it with `--platform linux/arm64` and save it again",
            )


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        head = raw.read(4)
        raw.seek(0)
        if head[:2] == b"\x1f\x8b":
            with gzip.open(raw) as file:
                yield file  # type: ignore[misc]  # a GzipFile has all that tarfile uses of an IO
        elif head == b"\x28\xb5\x2f\xfd":
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as reader:
                yield reader
        else:
            yield raw


def _json_members(archive: tarfile.TarFile) -> dict[str, Any]:
    """Return the members that are JSON, by name: their order in the archive is free."""
    found = {}
    for member in archive:
        reader = archive.extractfile(member) if member.isfile() and member.size <= SMALL else None
        content = reader.read() if reader else b""
        if content[:1] in {b"{", b"["}:
            try:
                found[member.name.removeprefix("./")] = json.loads(content)
            except ValueError:
                continue
    return found


def _docker(parts: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    listed = parts.get("manifest.json", [])
    for entry in listed if isinstance(listed, list) else []:
        config = parts.get(entry.get("Config", ""), {})
        yield (entry.get("RepoTags") or [entry.get("Config", "?")])[0], _architecture(config)


def _oci(parts: Mapping[str, Any]) -> Iterator[tuple[str, set[str]]]:
    for entry in parts.get("index.json", {}).get("manifests", []):
        name = entry.get("annotations", {}).get("io.containerd.image.name") or entry["digest"]
        yield name, _of_descriptor(entry, parts)


def _of_descriptor(descriptor: Mapping[str, Any], parts: Mapping[str, Any]) -> set[str]:
    """Return the processors of a manifest, or of all manifests of an index, as far as they are in the archive."""
    found = parts.get("blobs/" + descriptor["digest"].replace(":", "/", 1), {})
    if "manifests" in found:
        return {a for entry in found["manifests"] for a in _of_descriptor(entry, parts)}
    config = parts.get("blobs/" + found.get("config", {}).get("digest", "").replace(":", "/", 1), {})
    return _architecture(config)


def _architecture(config: Mapping[str, Any]) -> set[str]:
    return {config["architecture"]} if "architecture" in config else set()
