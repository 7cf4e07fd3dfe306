"""The storage daemon as an engine: it starts with no disk, and is given the nodes' over its monitor."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake.serve import nbd
from pibake.serve.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pibake.serve.nbd import Disk

NAME = "qemu-storage-daemon"


@dataclass(frozen=True)
class Serves:
    """Ready when the daemon listens and has every disk; also what brings a running one to another list of disks."""

    disks: tuple[Disk, ...]
    monitor: Path
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    def __call__(self, _: int) -> bool:
        """Give it the disks as soon as it listens: a socket that was left behind is replaced first."""
        try:
            self.give()
        except nbd.Absent:
            return False
        return True

    def give(self) -> None:
        """Let the daemon serve these disks and no others; those that it serves already are not interrupted."""
        wanted = {nbd.export_id(disk.name): disk for disk in self.disks}
        with self._lock, nbd.monitored(self.monitor) as monitor:
            there = {export["id"]: export["node-name"] for export in monitor.ask("query-block-exports")}
            for export in there.keys() - wanted.keys():
                monitor.remove(export, there[export])
            monitor.add(disk for export, disk in wanted.items() if export not in there)


def socket_of(monitor: Path) -> Path:
    """Return the Unix socket at which the daemon with this monitor serves disks."""
    return monitor.with_name(f"{monitor.name}.disks")


def engine(disks: Sequence[Disk], monitor: Path) -> Engine:
    """Return the engine that serves the nodes' disks; it needs no right but to be the owner of their files."""
    monitor.parent.mkdir(0o700, parents=True, exist_ok=True)
    argv = nbd.argv(place=socket_of(monitor), monitor=monitor)
    serves = Serves(tuple(disks), monitor)
    return Engine(NAME, argv, serves, adapt=serves.give, configuration=repr(disks))
