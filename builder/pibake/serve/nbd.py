"""Disks over NBD: one qemu-storage-daemon exports a qcow2 disk for each node, on top of golden images they share.

Every write is on the server's disk before it is acknowledged (`writethrough`). qcow2 keeps in memory where new data
lies until somebody flushes; were it only on a flush of the node's, a daemon that is killed would take with it what it
had acknowledged, and the node, which lives on with that behind its back, would have a damaged file system.

Sources: qemu-storage-daemon(1), the QEMU QMP Reference Manual (blockdev-add, block-export-add).
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pibake.errors import PibakeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PATIENCE = 30.0
"""Seconds for an answer of the daemon's."""
GREETING = 2.0
"""Seconds for the first one: QEMU may lose what it is told, or hang up, while it cleans up after another connection."""


@dataclass(frozen=True)
class Disk:
    """A node's disk: its export's name, a qcow2 file, and the raw golden image that file is on top of."""

    name: str
    path: Path
    golden: Path


def argv(*, place: Path, monitor: Path) -> tuple[str, ...]:
    """Return the command that listens at the Unix socket `place`, and for QMP at `monitor`, by which it gets its disks."""
    return (
        "qemu-storage-daemon",
        "--chardev", f"socket,id=monitor,path={monitor},server=on,wait=off", "--monitor", "chardev=monitor",
        "--nbd-server", f"addr.type=unix,addr.path={place},max-connections=0",
    )  # fmt: skip


def _ident(kind: str, value: str | Path) -> str:
    """Return a name QEMU takes: 31 characters at most, the first one a letter; hostnames are neither."""
    return kind + hashlib.sha256(str(value).encode()).hexdigest()[:24]


def export_id(hostname: str) -> str:
    """Return what QEMU calls the export of a node's disk."""
    return _ident("export", hostname)


def _nodes(disk: Disk) -> tuple[dict[str, Any], dict[str, Any]]:
    golden = {
        "driver": "file",
        "node-name": _ident("golden", disk.golden),
        "filename": str(disk.golden),
        "read-only": True,
    }
    top = {
        "driver": "qcow2",
        "node-name": _ident("disk", disk.name),
        "discard": "unmap",
        "backing": golden["node-name"],
        "file": {"driver": "file", "filename": str(disk.path), "discard": "unmap"},
    }
    return golden, top


def _export(disk: Disk) -> dict[str, Any]:
    return {
        "type": "nbd",
        "id": export_id(disk.name),
        "node-name": _ident("disk", disk.name),
        "name": disk.name,
        "writable": True,
        "writethrough": True,
    }


class Absent(PibakeError):
    """Nobody listens at the daemon's socket."""


@contextmanager
def monitored(path: Path) -> Iterator[Monitor]:
    """Talk to the daemon that listens at the socket `path`.

    Raises:
        Absent: it does not run, or has not begun to listen.
        PibakeError: it does not answer.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket(socket.AF_UNIX) as link, link.makefile("rb") as lines:
            link.settimeout(GREETING)
            try:
                link.connect(str(path))
            except OSError as error:
                raise Absent(f"the storage daemon does not listen at {path}: {error}") from error
            try:
                monitor = Monitor(link, lines)
            except PibakeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            link.settimeout(PATIENCE)
            yield monitor
        return


class Monitor:
    """A connection to the daemon, by QMP (docs/interop/qmp-spec).

    Raises:
        PibakeError: it does not answer.
    """

    def __init__(self, link: socket.socket, lines: BinaryIO) -> None:
        self._link, self._lines = link, lines
        self._line("a greeting")
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command and return what it returns.

        Raises:
            PibakeError: the daemon refused, does not answer, or has ended.
        """
        try:
            self._link.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise PibakeError(f"the storage daemon cannot be asked for {command}: {error}") from error
        while True:
            answer = json.loads(self._line(command))
            if "error" in answer:
                raise PibakeError(f"the storage daemon refused {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _line(self, wanted: str) -> bytes:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise PibakeError(f"the storage daemon does not answer, asked for {wanted}: {error}") from error
        if not line.endswith(b"\n"):
            raise PibakeError(f"the storage daemon ended while it was asked for {wanted}")
        return line

    def add(self, disks: Iterable[Disk]) -> None:
        """Serve more disks."""
        there = {node["node-name"] for node in self.ask("query-named-block-nodes", flat=True)}
        for disk in disks:
            for node in _nodes(disk):
                if node["node-name"] not in there:
                    self.ask("blockdev-add", **node)
                    there.add(node["node-name"])
            self.ask("block-export-add", **_export(disk))

    def remove(self, export: str, node: str) -> None:
        """Serve a disk no longer, even if its node runs; its I/O waits then. Both names are those of QEMU's.

        Raises:
            PibakeError: the daemon refused, has ended, or does not end what is under way.
        """
        self.ask("block-export-del", id=export, mode="hard")
        deadline = time.monotonic() + PATIENCE
        while any(known["id"] == export for known in self.ask("query-block-exports")):
            if time.monotonic() > deadline:
                raise PibakeError(f"the storage daemon still has {export} in use after {PATIENCE:g} s")
            time.sleep(0.005)
        self.ask("blockdev-del", **{"node-name": node})
