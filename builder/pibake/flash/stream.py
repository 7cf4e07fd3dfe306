"""What a flash does from an image's first byte to its last.

One thread reads the image (and computes digests that are not known yet) while another writes; between them are a few
buffers, so that the slower of the two sets the pace and memory stays small.
"""

from __future__ import annotations

import hashlib
import mmap
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from pibake.image.pieces import spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pibake.flash.source import Reader
    from pibake.image.pieces import Piece

CHUNK = 4 << 20
"""Bytes of one read and one write: cards erase in units of up to 4 MiB, and want whole ones."""
BUFFERS = 4


@dataclass(frozen=True)
class Step:
    """Bytes `start` to `end` of an image, at most CHUNK of them."""

    start: int
    end: int


def steps(pieces: Sequence[Piece]) -> tuple[Step, ...]:
    """Return what to copy, in the order of the bytes: neighbouring pieces joined, and cut where CHUNKs of the image end."""
    return tuple(
        Step(max(start, cut), min(end, cut + CHUNK))
        for start, end in spans(pieces)
        for cut in range(start // CHUNK * CHUNK, end, CHUNK)
    )


class Digests:
    """Fills in the digests of pieces from bytes that come in the order of the image."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = list(pieces)
        self._next = 0
        self._hash = hashlib.sha256()

    def update(self, view: memoryview, start: int) -> None:
        """Take the bytes of a step."""
        position, end = start, start + len(view)
        while position < end:
            piece = self.pieces[self._next]
            upto = min(piece.end, end)
            self._hash.update(view[position - start : upto - start])
            position = upto
            if upto == piece.end:
                self.pieces[self._next] = replace(piece, sha256=piece.sha256 or self._hash.hexdigest())
                self._hash = hashlib.sha256()
                self._next += 1


class Ahead:
    """Reads the steps of an image in a thread of its own, a few buffers ahead of whoever takes them.

    Iterating gives each step with its bytes, which are good until the next is taken.

    Args:
        reader: the image, opened.
        todo: all steps.
        skip: steps that end at or before this byte are not given, and are read only for their digests.
        digests: what to compute digests with; None if all are known.
    """

    def __init__(
        self, reader: Reader, todo: Sequence[Step], *, skip: int = 0, digests: Digests | None = None
    ) -> None:
        self.reader, self.todo, self.skip, self.digests = reader, todo, skip, digests
        self._free: queue.SimpleQueue[mmap.mmap | None] = queue.SimpleQueue()
        self._filled: queue.SimpleQueue[tuple[Step, mmap.mmap] | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="pibake-read")

    def __enter__(self) -> Self:
        for _ in range(BUFFERS):
            self._free.put(mmap.mmap(-1, CHUNK))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(queue.Empty):  # the thread stops at the next buffer it asks for
            while True:
                self._free.get_nowait()
        self._free.put(None)
        self._thread.join()

    def __iter__(self) -> Iterator[tuple[Step, memoryview]]:
        while (item := self._filled.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            step, buffer = item
            with memoryview(buffer)[: step.end - step.start] as view:
                yield step, view
            self._free.put(buffer)

    def _read(self) -> None:
        try:
            for step in self.todo:
                if step.end <= self.skip and not self.digests:
                    continue
                if buffer := self._free.get():
                    self._fill(step, buffer)
                else:
                    return
            self._filled.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the steps are taken
            self._filled.put(error)

    def _fill(self, step: Step, buffer: mmap.mmap) -> None:
        with memoryview(buffer)[: step.end - step.start] as view:
            self.reader.read_into(view, step.start)
            if self.digests:
                self.digests.update(view, step.start)
        if step.end > self.skip:
            self._filled.put((step, buffer))
        else:
            self._free.put(buffer)
