"""Writing an image so that a card is either finished or says that it is not.

The order of the writes is what makes it so (docs/flash.md has a picture):

1. the target's first and last MiB become zeros: the old partition table, both copies of a GPT, and old signatures;
2. its first block becomes a mark of an unfinished card, which says how far it is written (`pibake.flash.mark`);
3. everything that is mapped but the first block, in the order of the bytes;
4. everything is synced, and read back from the medium;
5. the image's first block, with the partition table, takes the mark's place.
"""

from __future__ import annotations

import mmap
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.errors import PibakeError, VerificationError
from pibake.flash import blockdev, faults, mark, stream, zeros
from pibake.flash import source as sources
from pibake.flash.mark import Mark
from pibake.flash.target import Target, opened
from pibake.flash.verify import Bad, Reading
from pibake.image.pieces import Piece
from pibake.progress import size

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pibake.flash.source import Reader, Source
    from pibake.flash.stream import Step
    from pibake.progress import Progress

SYNC_EVERY = 256 << 20
"""Bytes after which the mark says how far the card is written: some ten seconds of a card's work."""


@dataclass(frozen=True)
class Flashed:
    """A finished target: bytes written now, those found written by an earlier run, and seconds of writing and verifying."""

    target: str
    written: int
    resumed: int
    verified: bool
    write_seconds: float
    verify_seconds: float


def write(
    source: Source,
    path: Path,
    progress: Progress,
    *,
    label: str = "",
    verify: bool = True,
    stop: threading.Event | None = None,
) -> Flashed:
    """Write an image to a block device or a regular file, and read it back.

    Args:
        source: the image.
        path: the device or file; whether it may be written has been decided (`pibake.flash.refusals`).
        progress: where to show what is going on.
        label: what the image is called there.
        verify: read everything back and compare.
        stop: set from another thread to give up; what is written by then is kept for the next run.

    Raises:
        PibakeError: the target cannot be written, or is shorter than the image.
        VerificationError: what was read back is not what was written, or the image is damaged.
    """
    with opened(path, secret=source.secret) as target, source.opened() as reader:
        if target.device and target.size < source.length:
            raise PibakeError(
                f"{path} has {target.size} bytes, the image {source.length}", "take a larger card"
            )
        run = _Run(source, reader, target, progress, label or path.name, verify, stop or threading.Event())
        return run.run()


@dataclass
class _Run:
    source: Source
    reader: Reader
    target: Target
    progress: Progress
    label: str
    verify: bool
    stop: threading.Event
    identity: str = ""
    written: int = 0
    pieces: Sequence[Piece] = ()
    page: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, mark.SIZE))

    def run(self) -> Flashed:
        started = time.monotonic()
        self.identity = sources.identity(self.source)
        resumed = self._begin()
        self._copy(stream.steps(self.source.pieces), resumed)
        written = time.monotonic()
        if self.verify:
            self._verify(resumed)
        self._finish()
        return Flashed(
            str(self.target.path),
            self.written,
            sum(max(0, min(piece.end, resumed) - piece.start) for piece in self.source.pieces),
            self.verify,
            written - started,
            time.monotonic() - written,
        )

    def _begin(self) -> int:
        """Return the byte to go on from: after what an earlier run left, or 0 with the target cleared."""
        if self.target.device or self.target.size == self.source.length:
            with memoryview(self.page) as view:
                self.target.read_into(view[: mark.SIZE], 0)
            found = mark.decode(self.page[: mark.SIZE])
            if found and found.image == self.identity:
                self.progress.say(
                    f"{self.label}: going on at {size(found.synced)}, where an earlier run stopped"
                )
                return min(found.synced, self.source.length)
        self._clear()
        self._mark(0)
        return 0

    def _clear(self) -> None:
        """Take away what the target held: a file's content, a device's first and last MiB."""
        if not self.target.device:
            self.target.empty(self.source.length)
            return
        zeros.clear_edges(self.target)
        self.target.sync()

    def _mark(self, synced: int) -> None:
        """Say on the target that all before `synced` is written."""
        self.target.sync()
        if self.identity:
            self._put_head(Mark(self.identity, synced).encode())

    def _put_head(self, block: bytes) -> None:
        self.page[: len(block)] = block
        with memoryview(self.page) as view:
            self.target.write(view[: len(block)], 0)

    def _copy(self, todo: Sequence[Step], resumed: int) -> None:
        """Copy what is mapped from byte `resumed` on; afterwards all of it is synced."""
        unknown = self.verify and not all(piece.sha256 for piece in self.source.pieces)
        digests = stream.Digests(self.source.pieces) if unknown else None
        total = sum(step.end - step.start for step in todo)
        done = sum(step.end - step.start for step in todo if step.end <= resumed)
        due = resumed + SYNC_EVERY
        with (
            self.progress.task(f"write {self.label}", total=total) as task,
            stream.Ahead(self.reader, todo, skip=resumed, digests=digests) as steps,
        ):
            task.update(done)
            for step, view in steps:
                if step.end > due or self.stop.is_set():
                    self._mark(step.start)
                    due = step.start + SYNC_EVERY
                faults.stop_if(self.stop, self.target.path)
                self._step(step, view)
                done += step.end - step.start
                task.update(done)
            self._mark(self.source.length)
        self.pieces = digests.pieces if digests else self.source.pieces

    def _step(self, step: Step, view: memoryview) -> None:
        skipped = max(0, mark.SIZE - step.start)  # the first block is the last to be written
        if len(view) > skipped:
            self.target.write(view[skipped:], step.start + skipped)
        self.written += len(view)

    def _verify(self, resumed: int) -> None:
        """Read everything back; what an earlier run wrote and somebody changed since is written once more."""
        bad = self._read_back(self.pieces, "verify")
        if bad and resumed:
            self.progress.say(
                f"{self.label}: {len(bad)} pieces changed since the earlier run; writing them again"
            )
            again = [each.piece for each in bad]
            self._copy_pieces(again)
            bad = self._read_back(again, "verify again")
        if bad:
            self._put_head(bytes(mark.SIZE))  # the next run begins anew
            self.target.sync()
            raise self._mismatch(bad)

    def _copy_pieces(self, pieces: Sequence[Piece]) -> None:
        with stream.Ahead(self.reader, stream.steps(pieces)) as steps:
            for step, view in steps:
                self._step(step, view)
        self.target.sync()

    def _read_back(self, pieces: Sequence[Piece], verb: str) -> list[Bad]:
        blockdev.drop_cache(self.target.descriptor)
        total = sum(piece.end - piece.start for piece in pieces)
        with self.progress.task(f"{verb} {self.label}", total=total) as task:
            return Reading(self.target, self._head(), task.update, self.stop).bad(pieces)

    def _head(self) -> bytes:
        """Return the image's first block."""
        head = bytearray(mark.SIZE)
        if self.source.pieces and self.source.pieces[0].start == 0:
            upto = min(mark.SIZE, self.source.pieces[0].end)
            self.reader.read_into(memoryview(head)[:upto], 0)
        return bytes(head)

    def _finish(self) -> None:
        """Let the image's first block take the mark's place, and have the kernel look at the new partition table."""
        head = self._head()
        self._put_head(head)
        self.target.sync()
        if self.verify:
            blockdev.drop_cache(self.target.descriptor)
            with memoryview(self.page) as view:
                view[: mark.SIZE] = bytes(mark.SIZE)
                self.target.read_into(view[: mark.SIZE], 0)
            if self.page[: mark.SIZE] != head:
                raise faults.lies(self.target.path, [(0, mark.SIZE)], head.hex()[:32], self.page[:16].hex())
        blockdev.read_table(self.target.descriptor)

    def _mismatch(self, bad: Sequence[Bad]) -> VerificationError:
        """Return the error for pieces that came back as other bytes: is it the card's fault, or the image's?"""
        first = bad[0]
        probe = stream.Digests([Piece(first.piece.start, first.piece.end, "")])
        with stream.Ahead(self.reader, stream.steps([first.piece]), digests=probe) as steps:
            for _ in steps:
                pass
        own = probe.pieces[0].sha256
        if own != first.piece.sha256:
            return VerificationError(
                f"the image for {self.target.path}, bytes {first.piece.start} to {first.piece.end},",
                expected=first.piece.sha256, got=own, source="its list of digests",
                hint="the image was damaged or changed since that list was made; make or get it again",
            )  # fmt: skip
        where = [(each.piece.start, each.piece.end) for each in bad]
        return faults.lies(self.target.path, where, f"sha256 {first.piece.sha256}", first.sha256)
