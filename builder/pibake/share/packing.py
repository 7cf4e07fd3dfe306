"""A range of an image as a compressed blob, and back."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

import zstandard

from pibake.errors import ImageError, VerificationError
from pibake.share.artifact import Blob
from pibake.sparse import put

if TYPE_CHECKING:
    from pibake.share.artifact import Piece

LEVEL = 3
"""Part of the format: another level gives other blobs of the same bytes, which registries then keep beside the old ones."""
BLOCK = 1 << 20
WINDOW = 8 << 20
"""Memory in bytes that a blob may ask for when it is unpacked; level 3 needs 2 MiB (RFC 8878, section 3.1.1.1.2)."""


def pack(descriptor: int, start: int, end: int, target: BinaryIO) -> tuple[str, Blob]:
    """Compress the bytes [start, end) of an open file into `target`; return their sha256 (hex) and the blob."""
    raw, packed, size = hashlib.sha256(), hashlib.sha256(), 0
    stream = zstandard.ZstdCompressor(level=LEVEL).compressobj(size=end - start)
    for position in range(start, end, BLOCK):
        block = os.pread(descriptor, min(BLOCK, end - position), position)
        if len(block) < min(BLOCK, end - position):
            raise ImageError("the image became shorter while it was read")
        raw.update(block)
        for data in (stream.compress(block), stream.flush() if position + BLOCK >= end else b""):
            packed.update(data)
            size += target.write(data)
    return raw.hexdigest(), Blob(packed.hexdigest(), size)


def unpack(source: BinaryIO, descriptor: int, piece: Piece, what: str) -> None:
    """Write a piece, which must be zeros or the same so far, to its place in an open file; zeros stay holes.

    Raises:
        VerificationError: what comes out is not the piece.
    """
    total, buffer, position = hashlib.sha256(), memoryview(bytearray(BLOCK)), piece.start
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    try:
        with decompressor.stream_reader(source, closefd=False) as stream:
            while count := _fill(stream, buffer):
                if position + count > piece.end:
                    break
                total.update(buffer[:count])
                put(descriptor, buffer[:count], position)
                position += count
    except zstandard.ZstdError as error:
        raise ImageError(f"{what}: the blob cannot be unpacked: {error}", "push the image again") from error
    if position != piece.end or total.hexdigest() != piece.sha256:
        raise VerificationError(
            f"the content of {what}",
            expected=piece.sha256,
            got=total.hexdigest(),
            source="the manifest",
            hint="the blob is what was pushed, so it was packed wrongly: push the image again",
        )


def _fill(stream: zstandard.ZstdDecompressionReader, buffer: memoryview) -> int:
    """Read until the buffer is full or the stream ends: whole blocks make the best holes."""
    count = 0
    while count < len(buffer) and (more := stream.readinto(buffer[count:])):
        count += more
    return count
