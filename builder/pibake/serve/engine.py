"""An engine: a program that serves one protocol, what it may do, and how to tell that it serves."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pibake.serve import watched

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping

LISTENING = {"tcp": "0A", "udp": "07"}
"""The state of a socket that waits for anybody (Linux, include/net/tcp_states.h): TCP_LISTEN, TCP_CLOSE."""


@dataclass(frozen=True)
class Engine:
    """One program to keep running.

    Attributes:
        name: for people, and to find it again in `Supervisor.update`.
        argv: program and arguments; it stays in the foreground.
        ready: told its process id, whether it serves now.
        capabilities: all that it keeps, such as `net_raw` (capabilities(7), lower case, without `cap_`).
        reload: the signal that makes it read a changed configuration; None restarts it.
        adapt: makes the program that runs follow a changed configuration, instead of a signal.
        environment: variables added to the clean environment.
        configuration: what its files say, or a digest of it: it is reloaded when this differs.
        fixed: what those of its files say that it reads only when it starts: it is restarted when this differs.
        patience: for how many seconds it may start: 500 exports on a busy Raspberry Pi take a while.
        handles: the Unix socket at which it asks whether it may open a file by a handle (`serve.handles`); None lets it.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[int], bool]
    capabilities: tuple[str, ...] = ()
    reload: signal.Signals | None = None
    adapt: Callable[[], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: str = ""
    fixed: str = ""
    patience: float = 60.0
    handles: Path | None = None

    @property
    def command(self) -> list[str]:
        """What is run: the program with no more rights than it needs, and not for longer than this process.

        It stays the superuser to the kernel's eyes: a change of user would clear the signal of the parent's death
        (prctl(2), PR_SET_PDEATHSIG). Root without capabilities is only the owner of root's files.
        """
        kept = ",".join(["-all", *(f"+{name}" for name in self.capabilities)])
        watching = [sys.executable, "-I", "-S", watched.__file__, str(self.handles)] if self.handles else []
        return [
            "setpriv", "--pdeathsig", "KILL", "--inh-caps", "-all", "--bounding-set", kept, "--no-new-privs",
            *watching, *self.argv,
        ]  # fmt: skip

    def same_program(self, other: Engine) -> bool:
        """Whether only the configuration differs, and the program that runs can be told to read it."""
        mine = (self.argv, self.capabilities, dict(self.environment), self.fixed, self.handles)
        return mine == (
            other.argv, other.capabilities, dict(other.environment), other.fixed, other.handles,
        )  # fmt: skip


@dataclass(frozen=True)
class Listens:
    """Ready when the process has a socket that waits at `port`; `protocol` is "tcp" or "udp"."""

    protocol: str
    port: int

    def __call__(self, pid: int) -> bool:
        """Look at the kernel's table of sockets (proc(5), /proc/net/tcp), and whose they are."""
        inodes = sockets(self.protocol, self.port)
        try:
            return bool(inodes & owned(pid))
        except PermissionError:  # a process that has changed its user hides what it holds
            return bool(inodes)
        except FileNotFoundError:
            return False


def sockets(protocol: str, port: int) -> set[int]:
    """Return the inodes of all sockets that wait at a port, at whatever address."""
    found = set()
    for table in (protocol, f"{protocol}6"):
        try:
            rows = Path("/proc/net", table).read_text("ascii").splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == LISTENING[protocol] and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[9]))
    return found


def owned(pid: int) -> set[int]:
    """Return the inodes of the sockets a process holds.

    Raises:
        PermissionError: it does not show them to us.
        FileNotFoundError: it has ended.
    """
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found
