"""What turns a compressed stream into an image, format by format: generators from chunks to blocks.

gzip and zstd are unpacked faster inside this process than by a tool. A zip file has its directory at the end, so it
is unpacked when it is whole. xz is in `pibake.decompress`: it needs a tool to use every processor.
"""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

import zstandard

from pibake.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BLOCK = 1 << 20

MAGIC = (
    (b"\xfd7zXZ\0", "xz"),
    (b"\x1f\x8b", "gz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
"""First bytes of each format: the xz, gzip (RFC 1952), zstd (RFC 8878) and PKWARE specifications."""


def detect(head: bytes) -> str:
    """Return the format of a stream that begins with `head`: xz, gz, zst, zip or raw."""
    return next((name for magic, name in MAGIC if head.startswith(magic)), "raw")


def raw(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an uncompressed stream in whole blocks, which makes better holes than a network's chunks."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= BLOCK:
            yield bytes(buffer[:BLOCK])
            del buffer[:BLOCK]
    yield bytes(buffer)


def gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what gzip members unpack to; zeros may follow the last one, as on tapes, and nothing else."""
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    started = False
    for chunk in chunks:
        data = chunk
        while data:
            if member.eof:
                data = data.lstrip(b"\0")
                if not data:
                    break
                member, started = zlib.decompressobj(zlib.MAX_WBITS | 16), False
            try:
                yield member.decompress(data, BLOCK)
            except zlib.error as error:
                raise ImageError(_damage(error, at_start=not started)) from error
            started = True
            data = member.unused_data if member.eof else member.unconsumed_tail
    yield member.flush()  # what the limit of the last call held back
    if not member.eof:
        raise ImageError("the gzip stream ends too early")


def unzstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what zstd frames unpack to."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    started = False
    for chunk in chunks:
        data = chunk
        while data:
            if frame.eof:
                frame, started = zstandard.ZstdDecompressor().decompressobj(), False
            # A block of 4 bytes may stand for 128 KiB: small bites bound the memory that a bomb can take.
            bite, data = data[:4096], data[4096:]
            try:
                yield frame.decompress(bite)
            except zstandard.ZstdError as error:
                raise ImageError(_damage(error, at_start=not started)) from error
            started = True
            data = frame.unused_data + data if frame.eof else data
    if not frame.eof:
        raise ImageError("the zstd stream ends too early")


def _damage(error: Exception, *, at_start: bool) -> str:
    return f"something that is not part of it follows ({error})" if at_start else str(error)


def unzip(path: Path) -> Iterator[bytes]:
    """Yield the one image inside a zip file."""
    try:
        with zipfile.ZipFile(path) as archive:
            images = [m for m in archive.infolist() if m.filename.lower().endswith(".img") and not m.is_dir()]
            if len(images) != 1:
                inside = ", ".join(m.filename for m in images or archive.infolist()) or "nothing"
                raise ImageError(
                    f"a zip file must hold one .img, this one holds {len(images)}: {inside}",
                    "unpack it yourself and give the image as `base: {file: ...}`",
                )
            with archive.open(images[0]) as member:
                while block := member.read(BLOCK):
                    yield block
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ImageError(str(error)) from error


STREAMED = {"raw": raw, "gz": gunzip, "zst": unzstd}
"""Formats that are unpacked in a thread of this process while they arrive."""
