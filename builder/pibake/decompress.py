"""Unpack an image while its bytes arrive.

The caller feeds the compressed stream, from the network or from a file; a thread takes what is unpacked, hashes it
and writes it to a sparse file. The format is told by the first bytes, never by a name.
"""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import IO, TYPE_CHECKING, Protocol, Self, cast

from pibake import run, space
from pibake.decoders import BLOCK, STREAMED, detect, unzip
from pibake.errors import ImageError
from pibake.sparse import SparseWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import BufferedReader
    from pathlib import Path

LIMIT = 64 << 30
"""Longest image made, in bytes: more is a bomb or a mistake, since no card that boots a Pi needs it."""


@dataclass(frozen=True)
class Unpacked:
    """What came out: the raw image's sha256 and length in bytes, and the format it was in."""

    sha256: str
    size: int
    format: str


class Unpacker:
    """Unpacks a stream into `target`; if the block is left before `finish` has returned, `target` is removed.

    Args:
        target: the sparse file to make.
        source: what the stream is, for errors.
        whole: the file that holds the whole stream once it has been fed; a zip file is unpacked from there.
        limit: longest image to make.
    """

    def __init__(self, target: Path, *, source: str, whole: Path, limit: int = LIMIT) -> None:
        self._target, self._source, self._whole = target, source, whole
        self._out = SparseWriter(target, limit)
        self._head = b""
        self._format = ""
        self._engine: _Engine | None = None
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine:
            self._engine.close()
        self._out.close()
        if not self._finished:
            self._target.unlink(missing_ok=True)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream; raises as soon as what came before proved bad."""
        if self._engine is None:
            self._head += chunk
            if len(self._head) < 8:
                return
            chunk = self._head
        with self._explained():
            self._started().feed(chunk)

    def finish(self) -> Unpacked:
        """Say that the stream has ended; wait for the last bytes and return what came out."""
        with self._explained():
            if self._engine is None:
                self._started().feed(self._head)
            self._started().finish()
            self._out.finish()
        self._finished = True
        return Unpacked(self._out.digest(), self._out.size, self._format)

    def _started(self) -> _Engine:
        if self._engine is None:
            self._format = detect(self._head)
            if self._format == "xz":
                self._engine = _Xz(self._source, self._out)
            elif self._format == "zip":
                self._engine = _Zip(self._whole, self._out)
            else:
                self._engine = _Thread(STREAMED[self._format], self._out)
        return self._engine

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what an engine's failure is about."""
        try:
            with space.room(self._target, f"unpack {self._source}"):
                yield
        except ImageError as error:
            hint = error.hint or "get it again; if it fails again, the file itself is damaged"
            raise ImageError(f"{self._source} cannot be unpacked: {error.message}", hint) from error


class _Engine(Protocol):
    """What unpacks one format. `feed` and `finish` raise what went wrong; `close` may be called at any time."""

    def feed(self, chunk: bytes) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class _Thread:
    """Unpacks in a thread of this process, through a short queue that makes a fast source wait."""

    def __init__(self, decode: Callable[[Iterable[bytes]], Iterator[bytes]], out: SparseWriter) -> None:
        self.queue: Queue[bytes] = Queue(maxsize=16)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._work, args=(decode, out), daemon=True)
        self.thread.start()

    def _work(self, decode: Callable[[Iterable[bytes]], Iterator[bytes]], out: SparseWriter) -> None:
        chunks = iter(self.queue.get, b"")
        try:
            for block in decode(chunks):
                out.write(block)
        except BaseException as error:  # noqa: BLE001 - raised again by the feeding thread
            self.failure = error
            for _ in chunks:  # so that the feeding thread never waits for a full queue
                pass

    def feed(self, chunk: bytes) -> None:
        if self.failure:
            raise self.failure
        if chunk:
            self.queue.put(chunk)

    def finish(self) -> None:
        self.close()
        if self.failure:
            raise self.failure

    def close(self) -> None:
        if self.thread.is_alive():
            self.queue.put(b"")
        self.thread.join()


class _Xz:
    """Unpacks in the `xz` tool, which uses every processor where Python's own module has one thread.

    The feeding thread writes to the tool, another one reads from it.
    """

    def __init__(self, source: str, out: SparseWriter) -> None:
        argv = ["xz", "--decompress", "--stdout", "--threads=0", "--quiet"]
        self.stack = ExitStack()
        self.child = self.stack.enter_context(run.spawn(argv, why=f"unpack {source}", stdin=subprocess.PIPE))
        self.stdin = cast("IO[bytes]", self.child.stdin)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._work, args=(out,), daemon=True)
        self.thread.start()

    def _work(self, out: SparseWriter) -> None:
        stdout, stderr = cast("BufferedReader", self.child.stdout), cast("IO[bytes]", self.child.stderr)
        buffer = memoryview(bytearray(BLOCK))
        try:
            while count := stdout.readinto(buffer):
                out.write(buffer[:count])
            if self.child.wait():
                said = stderr.read().decode("utf-8", "replace").strip()
                self.failure = ImageError(f"xz says: {said.removeprefix('xz: (stdin): ')}")
        except BaseException as error:  # noqa: BLE001 - raised again by the feeding thread
            self.failure = error
            self.child.kill()  # so that a write of the feeding thread ends, too

    def feed(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            while (
                view
            ):  # straight to the pipe: bytes kept in a buffer would raise once more when it is closed
                view = view[os.write(self.stdin.fileno(), view) :]
        except BrokenPipeError:
            self.thread.join()
            raise self.failure or ImageError("xz ended before the stream did") from None

    def finish(self) -> None:
        self.stdin.close()
        self.thread.join()
        if self.failure:
            raise self.failure

    def close(self) -> None:
        run.end(self.child)
        self.thread.join()
        self.stack.close()


class _Zip:
    """Unpacks a zip file once it is whole."""

    def __init__(self, whole: Path, out: SparseWriter) -> None:
        self.whole, self.out = whole, out

    def feed(self, chunk: bytes) -> None:
        """Ignore the chunk: it is in the file."""

    def finish(self) -> None:
        for block in unzip(self.whole):
            self.out.write(block)

    def close(self) -> None:
        """Do nothing: nothing was started."""
