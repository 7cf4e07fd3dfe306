"""A client of NFS version 4.1 and 4.2 in a few operations (RFC 8881, RFC 7862; XDR: RFC 4506, RPC: RFC 5531).

libnfs speaks 4.0 only, and no tool there is takes back what it had open when a server was started again.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

GRACE, BADSESSION, NOENT, ROFS = 10013, 10052, 2, 30
ACCESS, NOTDIR, STALE, SYMLINK, BADCHAR, BADNAME = 13, 20, 70, 10029, 10040, 10041
TO_READ, TO_WRITE = 1, 3
"""OPEN4_SHARE_ACCESS_READ, and _BOTH."""


class NfsError(Exception):
    """An operation's status that is not NFS4_OK; `code` is nfsstat4 of RFC 8881 section 15.1."""

    def __init__(self, operation: int, code: int) -> None:
        super().__init__(f"operation {operation}: status {code}")
        self.code = code


SEQUENCE, EXCHANGE_ID, CREATE_SESSION, RECLAIM_COMPLETE = 53, 42, 43, 58
ROOT, PUT, LOOKUP, GETFH, OPEN, READ, READDIR, WRITE, DEALLOCATE, SEEK = (
    24,
    22,
    15,
    10,
    18,
    25,
    26,
    38,
    62,
    69,
)

LOOKUPP, CREATE, LINK = 16, 6, 5
"""The last is nfs_ftype4's NF4LNK."""

Operation = tuple[int, bytes]


@dataclass(frozen=True)
class Opened:
    """An open file: its handle and stateid."""

    handle: bytes
    state: bytes


def opaque(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + bytes(-len(data) % 4)


def word(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


class Reader:
    """What is left of a reply."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def word(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def long(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def opaque(self) -> bytes:
        length = self.word()
        data = self.take(length)
        self.take(-length % 4)
        return data


class Client:
    """One client with one session of one slot; `owner` is what the server knows it by after a restart."""

    def __init__(self, connection: socket.socket, owner: str, verifier: bytes = b"boot-one") -> None:
        self.socket = connection
        self.xid = self.sequence = 0
        reply = self._compound((EXCHANGE_ID, verifier + opaque(owner.encode()) + word(0, 0, 0)))
        self.client_id, sequence = reply.take(8), reply.word()
        channel = word(0, 1 << 20, 1 << 20, 1 << 14, 16, 1, 0)
        session = self.client_id + word(sequence, 0) + channel * 2 + word(0x40000000, 1, 0)
        self.session = self._compound((CREATE_SESSION, session)).take(16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def reclaimed(self) -> None:
        """Say that nothing more is to be taken back (RFC 8881 section 18.51)."""
        self._call((RECLAIM_COMPLETE, word(0)))

    def handle(self, path: str) -> bytes:
        return self._call(*_walk(path), (GETFH, b"")).opaque()

    def open(self, path: str, access: int, *, create: bool = False) -> Opened:
        folder, _, name = path.rpartition("/")
        how = word(1, 0, 0, 0) if create else word(0)  # UNCHECKED4 without attributes
        return self._open(_walk(folder), access, how + word(0) + opaque(name.encode()))

    def reclaim(self, opened: Opened, access: int) -> Opened:
        """Open a file again that was open before the server was started again (CLAIM_PREVIOUS)."""
        return self._open([(PUT, opaque(opened.handle))], access, word(0, 1, 0))

    def look(self, handle: bytes) -> bytes:
        """Use a handle that was kept; return what the server makes of it."""
        return self._call((PUT, opaque(handle)), (GETFH, b"")).opaque()

    def within(self, handle: bytes, *names: str) -> bytes:
        """Go down from a handle; return where that leads."""
        return self._call((PUT, opaque(handle)), *_down(names), (GETFH, b"")).opaque()

    def above(self, path: str) -> bytes:
        """Go to a folder, and up from there."""
        return self._call(*_walk(path), (LOOKUPP, b""), (GETFH, b"")).opaque()

    def open_at(self, handle: bytes, name: str, access: int) -> Opened:
        return self._open([(PUT, opaque(handle))], access, word(0, 0) + opaque(name.encode()))

    def symlink(self, folder: str, name: str, target: str) -> None:
        what = word(LINK) + opaque(target.encode()) + opaque(name.encode()) + word(0, 0)
        self._call(*_walk(folder), (CREATE, what))

    def read(self, opened: Opened, offset: int = 0, count: int = 4096) -> bytes:
        reply = self._at(opened, READ, struct.pack(">QI", offset, count))
        reply.word()
        return reply.opaque()

    def write(self, opened: Opened, data: bytes, offset: int = 0) -> None:
        self._at(opened, WRITE, struct.pack(">QI", offset, 2) + opaque(data))

    def deallocate(self, opened: Opened, offset: int, length: int) -> None:
        self._at(opened, DEALLOCATE, struct.pack(">QQ", offset, length))

    def seek_data(self, opened: Opened, offset: int) -> int:
        reply = self._at(opened, SEEK, struct.pack(">QI", offset, 0))
        reply.word()
        return reply.long()

    def names(self, path: str) -> set[str]:
        """List a folder that fits one reply."""
        reply = self._call(*_walk(path), (READDIR, bytes(16) + word(8192, 8192, 0)))
        reply.take(8)
        found = set()
        while reply.word():
            reply.take(8)
            found.add(reply.opaque().decode())
            reply.take(4 * reply.word())
            reply.opaque()
        return found

    def _open(self, where: list[Operation], access: int, what: bytes) -> Opened:
        arguments = word(0, access, 0) + self.client_id + opaque(b"opener") + what
        reply = self._call(*where, (OPEN, arguments), (GETFH, b""))
        return Opened(reply.opaque(), self.state)

    def _at(self, opened: Opened, operation: int, arguments: bytes) -> Reader:
        return self._call((PUT, opaque(opened.handle)), (operation, opened.state + arguments))

    def _call(self, *operations: Operation) -> Reader:
        self.sequence += 1
        return self._compound((SEQUENCE, self.session + word(self.sequence, 0, 0, 0)), *operations)

    def _compound(self, *operations: Operation) -> Reader:
        """Send operations; return what the last of them answers behind its status."""
        self.xid += 1
        credential = word(0) + opaque(b"tests") + word(0, 0, 0)  # AUTH_SYS as root
        call = word(self.xid, 0, 2, 100003, 4, 1, 1) + opaque(credential) + word(0, 0)
        call += (
            opaque(b"") + word(2, len(operations)) + b"".join(word(code) + data for code, data in operations)
        )
        self.socket.sendall(word(len(call) | 1 << 31) + call)
        reply = Reader(self._received())
        reply.take(24)  # xid, REPLY, MSG_ACCEPTED, a verifier of two words, SUCCESS
        reply.word(), reply.opaque(), reply.word()  # status of all, tag, number of results
        for code, _ in operations:
            if (operation := reply.word(), status := reply.word())[1]:
                raise NfsError(operation, status)
            if code == operations[-1][0]:
                break
            self._skip(code, reply)
        return reply

    def _skip(self, code: int, reply: Reader) -> None:
        """Read past a result that is not the last."""
        if code == SEQUENCE:
            reply.take(36)
        elif code == OPEN:
            self.state = reply.take(16)
            reply.take(24)  # change_info4, flags
            reply.take(4 * reply.word())  # attributes set
            if reply.word() == 3 and reply.word() in (1, 2):  # OPEN_DELEGATE_NONE_EXT and why not
                reply.word()

    def _received(self) -> bytes:
        data, last = b"", False
        while not last:
            head = int.from_bytes(self._exactly(4), "big")
            last = bool(head >> 31)
            data += self._exactly(head & 0x7FFFFFFF)
        return data

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionResetError("the server hung up")
            data += piece
        return data


def _walk(path: str) -> list[Operation]:
    return [(ROOT, b""), *_down([name for name in path.split("/") if name])]


def _down(names: Iterable[str]) -> list[Operation]:
    return [(LOOKUP, opaque(name.encode())) for name in names]
