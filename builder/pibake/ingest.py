"""One pass from a compressed stream to a raw image: fetch, hash, unpack, hash again, write with holes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.decompress import Unpacked, Unpacker
from pibake.errors import ImageError, VerificationError
from pibake.fetch import Download, StartOver
from pibake.log import log

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pibake.progress import Progress, Task
    from pibake.web import Policy

CHUNK = 1 << 20


@dataclass(frozen=True)
class Ingested:
    """A raw image beside its final place.

    Attributes:
        image: the sparse file.
        unpacked: its sha256, its length, and the format it came in.
        stream_sha256: digest of the stream as it came.
        created: when the stream's content was made, in Unix time, as far as its source says; else 0.
    """

    image: Path
    unpacked: Unpacked
    stream_sha256: str
    created: int


def from_url(
    url: str, sha256: str, image: Path, *, origin: str, progress: Progress, policy: Policy | None = None
) -> Ingested:
    """Download an image whose stream must have the digest `sha256`; `image`.part keeps what has arrived.

    The part stays when this returns or runs out of room or network, so that nothing is fetched twice; the caller
    removes it when the image is in its place.

    Args:
        url: where it is.
        sha256: digest of the file as the server has it.
        image: the raw image to make.
        origin: where the digest is from, for errors.
        progress: where to show progress.
        policy: how patient to be.
    """
    download = Download(url, image.with_name(f"{image.name}.part"), policy)
    while True:
        try:
            with progress.task(f"download {url.rpartition('/')[2]}") as task:
                made, got = _unpack(
                    download.chunks(task), image, download.part, url, sha256=sha256, origin=origin
                )
            return Ingested(image, made, got, download.modified)
        except StartOver:
            progress.say(f"{url}: the server cannot continue what has arrived; starting over")
        except (ImageError, VerificationError) as error:
            retry = download.resumed  # then the old part may be what is wrong, not the file
            download.discard()
            if not retry:
                raise
            log.debug("%s", error)
            progress.say(f"{url}: what an earlier attempt left is damaged; starting over")


def from_file(path: Path, sha256: str, image: Path, *, progress: Progress) -> Ingested:
    """Unpack a local file, which stays as it is; `sha256`, if given, must be its digest as it stands."""
    before = path.stat()
    with progress.task(f"import {path.name}", total=before.st_size) as task:
        made, got = _unpack(_read(path, task), image, path, str(path), sha256=sha256, origin="cluster.yaml")
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        image.unlink()
        raise ImageError(f"{path} changed while it was read", "wait until whatever writes it is done")
    return Ingested(image, made, got, int(before.st_mtime))


def _unpack(
    chunks: Iterable[bytes], image: Path, whole: Path, source: str, *, sha256: str, origin: str
) -> tuple[Unpacked, str]:
    """Hash a stream while it is unpacked; return what came out and the digest of what went in."""
    stream = hashlib.sha256()
    with Unpacker(image, source=source, whole=whole) as unpacker:
        for chunk in chunks:
            stream.update(chunk)
            unpacker.feed(chunk)
        got = stream.hexdigest()
        if sha256 and got != sha256:  # before `finish`, which might call a short stream merely damaged
            raise VerificationError(f"the sha256 of {source}", expected=sha256, got=got, source=origin,
                                    hint="the file was damaged on its way, or is not the file that is meant")  # fmt: skip
        return unpacker.finish(), got


def _read(path: Path, task: Task) -> Iterable[bytes]:
    done = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            done += len(chunk)
            task.update(done)
            yield chunk
