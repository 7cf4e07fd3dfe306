"""Reading back what was written, from the medium itself, and comparing every mapped byte's digest."""

from __future__ import annotations

import hashlib
import mmap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.flash import faults
from pibake.flash.target import ALIGN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pibake.flash.target import Target
    from pibake.image.pieces import Piece

CHUNK = 2 << 20
THREADS = 3
"""Some read while others compute: hashlib lets other threads run meanwhile."""


@dataclass(frozen=True)
class Bad:
    """A piece that came back as other bytes: `sha256` is theirs, "" if the target ended before."""

    piece: Piece
    sha256: str


@dataclass
class Reading:
    """A target being read back.

    Args:
        target: what to read.
        head: bytes that stand for the target's first ones, which are written after everything is verified.
        on_bytes: told how many bytes have been compared.
        stop: set from another thread to give up.
    """

    target: Target
    head: bytes
    on_bytes: Callable[[int], None]
    stop: threading.Event
    done: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def bad(self, pieces: Sequence[Piece]) -> list[Bad]:
        """Return the pieces that are not on the target as they should be, in order."""
        groups = _groups(pieces)
        with ThreadPoolExecutor(THREADS, "pibake-verify") as pool:
            futures = [pool.submit(self._some, groups) for _ in range(THREADS)]
            found = [bad for future in futures for bad in future.result()]
        return sorted(found, key=lambda bad: bad.piece.start)

    def _some(self, groups: Iterator[list[Piece]]) -> list[Bad]:
        """Take groups of pieces until none is left."""
        found: list[Bad] = []
        view = memoryview(mmap.mmap(-1, CHUNK))
        while True:
            with self._lock:
                group = next(groups, None)
            faults.stop_if(self.stop, self.target.path)
            if group is None:
                return found
            found += self._compare(group, view)

    def _compare(self, group: list[Piece], view: memoryview) -> Iterator[Bad]:
        """Read a group of neighbouring pieces, which is one longer than a CHUNK or some that fit into one."""
        position, end = group[0].start, group[-1].end
        digests = [hashlib.sha256() for _ in group]
        while position < end:
            upto = min(position + CHUNK, end)
            wanted = -(-(upto - position) // ALIGN) * ALIGN
            count = min(self.target.read_into(view[:wanted], position), upto - position)
            if position < len(self.head):
                own = min(len(self.head), upto) - position
                view[:own] = self.head[position : position + own]
            for piece, digest in zip(group, digests, strict=True):
                low, high = max(piece.start, position), min(piece.end, position + count)
                if low < high:
                    digest.update(view[low - position : high - position])
            self._count(upto - position)
            position = upto
        for piece, digest in zip(group, digests, strict=True):
            if (got := digest.hexdigest()) != piece.sha256:
                yield Bad(piece, got)

    def _count(self, count: int) -> None:
        with self._lock:
            self.done += count
            self.on_bytes(self.done)


def _groups(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield runs of neighbouring pieces, each as long as fits into one CHUNK."""
    group: list[Piece] = []
    for piece in pieces:
        if group and (group[-1].end != piece.start or piece.end - group[0].start > CHUNK):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
