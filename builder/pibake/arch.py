"""For which processor a file is made: executables, and archives of container images.

ELF: elf(5), `e_machine`, and `e_flags` of ELF for the Arm Architecture. Archives: Docker's `manifest.json` (docker
save, image specification 1.2) and the OCI image layout's `index.json` (OCI image specification, image-layout.md); both
name a configuration with an `architecture`.
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

MACHINES = {(3, 1): "i386", (40, 1): "armhf", (62, 2): "amd64", (183, 2): "arm64", (243, 2): "riscv64"}
"""`e_machine` and class (1: 32 bits, 2: 64 bits) -> Debian's name, of those that one meets (elf.h)."""
SOFT_FLOAT = 0x200
"""EF_ARM_ABI_FLOAT_SOFT of `e_flags`, which tells armel from armhf. Its opposite, 0x400, says less: Go sets neither."""
BUILDS = {"arm64": "arm64 (aarch64)", "armhf": "armhf (ARMv7, also called arm)"}
"""Debian's name -> the names under which programs are published."""
PLATFORMS = {"arm64": "linux/arm64", "armhf": "linux/arm/v7"}
"""Debian's name -> the platform of a container image (OCI image specification, image-index.md)."""
SMALL = 4 << 20
"""Largest member of an archive that may be JSON; layers are larger or do not begin with `{` or `[`."""


def check_executable(path: Path, arch: str) -> None:
    """Raise unless a file is a script, or an ELF executable for an architecture.

    Args:
        path: the file.
        arch: Debian's name of the architecture, "arm64" or "armhf".

    Raises:
        PibakeError: it is neither, or for another processor.
    """
    with path.open("rb") as file:
        head = file.read(40)
    if head.startswith(b"#!"):
        return
    if len(head) < 40 or not head.startswith(b"\x7fELF"):
        raise PibakeError(
            f"{path} is no executable: it begins with {head[:8].hex(' ') or 'nothing'}",
            f"an ELF file for {BUILDS[arch]}, or a script with #!, is needed",
        )
    found = _built_for(head)
    if found != arch:
        raise PibakeError(
            f"{path} is made for {found}; the base needs {arch}", f"get the build of it for {BUILDS[arch]}"
        )


def _built_for(head: bytes) -> str:
    """Return Debian's name of the architecture that the head of an ELF file names."""
    order = ">" if head[5] == 2 else "<"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    name = MACHINES.get((machine, head[4]), f"machine {machine} with {32 * head[4]} bits")
    if name == "armhf" and struct.unpack_from(f"{order}I", head, 36)[0] & SOFT_FLOAT:
        return "armel"
    return name


def check_images(path: Path, arch: str) -> None:
    """Raise unless every image in an archive (.tar, .tar.gz, .tar.zst) runs on an architecture.

    Args:
        path: the archive.
        arch: Debian's name of the architecture, "arm64" or "armhf".

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
    wanted = PLATFORMS[arch].split("/")[1]
    for name, architectures in images.items():
        if wanted not in architectures:
            known = ", ".join(sorted(architectures)) or "an unknown processor"
            raise PibakeError(
                f"{path}: the image {name} is made for {known}; the base needs {wanted}",
                f"pull it with `--platform {PLATFORMS[arch]}` and save it again",
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
