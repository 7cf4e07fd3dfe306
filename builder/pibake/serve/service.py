"""The wire of one cluster, served until it is told to stop, and following its cluster.yaml meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pibake import catalog, config, vault
from pibake.errors import PibakeError
from pibake.fsys import stamp
from pibake.lock import held, is_held
from pibake.plan import plan
from pibake.rack import adopted, binding
from pibake.run import find
from pibake.serve import dhcp, host
from pibake.serve.adoption import told
from pibake.serve.clients import wired
from pibake.serve.folders import NAME, Folders
from pibake.serve.prepare import prepare
from pibake.serve.running import running
from pibake.serve.site import site
from pibake.serve.telling import sentences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.netboot.values import Ports
    from pibake.plan import Plan
    from pibake.progress import Progress
    from pibake.serve.prepare import Served
    from pibake.serve.running import Running

LOCK = "serve"
MOVE = "stop what has them; NFS, NBD and HTTP can be moved by options"
TOOLS = {
    "dnsmasq": "answer boards",
    "ganesha.nfsd": "serve root file systems",
    "qemu-storage-daemon": "serve disks",
    "setpriv": "take rights away from the engines",
}
"""What serving runs, and what for."""
LOOK = 0.25
"""Seconds between two looks at whether cluster.yaml or what was adopted has changed."""


@dataclass
class Service:
    """What is to be served, and how to say what happens.

    Attributes:
        source: the cluster.yaml.
        cache: where bases and golden images are.
        progress: where to show what is going on, and to say what happens.
        interface: instead of the one in cluster.yaml.
        ports: where engines listen, if not where they usually do.
        renew: hostnames of nodes to start anew.
    """

    source: Path
    cache: Cache
    progress: Progress
    interface: str = ""
    ports: Ports | None = None
    renew: Collection[str] = ()
    stop: threading.Event = field(default_factory=threading.Event)
    _seen: Mapping[Path, list[int] | None] = field(default_factory=dict)
    _seen_adopted: list[int] | None = None
    _seen_secrets: Sequence[list[int] | None] = ()
    _uefi: bool = True

    @property
    def folders(self) -> Folders:
        """Where everything is kept: beside cluster.yaml."""
        return Folders(self.source.resolve().parent / NAME)

    def plan(self) -> Plan:
        """Read cluster.yaml, and note as of when, and of which other files it comes from.

        Raises:
            ConfigError: it has mistakes.
        """
        self._seen = {path: stamp(path) for path in (self.source.absolute(), *self._seen)}
        decided = plan(config.load(self.source, bases=catalog.names()))
        self._seen = {
            path: self._seen[path] if path in self._seen else stamp(path) for path in decided.sources
        }
        return decided

    def prepare(self, decided: Plan) -> Served:
        """Get ready what is to be served; nodes to start anew are started anew once."""
        renew, self.renew = self.renew, ()
        where = site(decided, self.interface, self.ports)
        folders = self.folders
        self._seen_adopted = stamp(folders.root / adopted.NAME)
        self._seen_secrets = self._secrets()
        boards = adopted.read(folders.root)
        served = prepare(
            decided, where, folders, self.cache, self.progress, renew=renew, adopted=boards, uefi=self._uefi
        )
        self._uefi = not served.uefi_failed
        self._seen_secrets = self._secrets()  # with what was issued just now
        return served

    def _secrets(self) -> Sequence[list[int] | None]:
        """Return what changes when secrets of the cluster are rotated."""
        folder = self.source.resolve().parent / vault.FOLDER
        return [stamp(folder / name) for name in (vault.PLAIN, vault.ENCRYPTED)]

    def check(self) -> Iterator[str]:
        """Yield what has been found good, check by check, and start nothing.

        Raises:
            PibakeError: something is not as it has to be.
        """
        decided = self.plan()
        yield f"{self.source.name}: {len(decided.nodes)} nodes"
        where = site(decided, self.interface, self.ports)
        yield f"{where.interface}: {where.address}, DHCP as {where.dhcp}"
        counting, _ = binding.counted(decided, adopted.read(self.folders.root))
        clients, left_out, free = wired(decided, counting)
        if clients:
            yield f"{len(clients)} nodes boot from the wire: {', '.join(client.hostname for client in clients)}"
        if free:
            yield f"without a board yet: {', '.join(free)}"
        for hostname, reason in left_out:
            yield f"{hostname} boots from a card only: {reason}"
        serving = self.folders.run.exists() and is_held(self.folders.run, LOCK)
        if not serving and (found := host.taken(where)):
            raise PibakeError("\n".join(found), MOVE)
        for tool, why in TOOLS.items():
            find(tool, why)
        dhcp.check(where, clients, self.folders.tftp)
        yield "every engine is there, and dnsmasq takes its configuration"

    @contextmanager
    def serving(self) -> Iterator[Running]:
        """Serve while the block runs.

        Raises:
            PibakeError: this is not root, something cannot be got ready, an engine does not start, or the folder is served already.
        """
        if os.geteuid():
            raise PibakeError(
                "boards ask at ports that only root may listen at, and files of their root file systems are root's",
                "sudo pibake serve",
            )
        decided = self.plan()
        folders = self.folders
        folders.make()
        if is_held(folders.run, LOCK):
            raise PibakeError(
                f"another `pibake serve` serves {folders.root} already", "stop it first: its log says more"
            )
        with held(folders.run, LOCK, self.progress):
            served = self.prepare(decided)
            if found := host.taken(served.site):
                raise PibakeError("\n".join(found), MOVE)
            with running(decided, served, folders, self.progress) as made:
                for sentence in sentences(served):
                    made.progress.say(sentence)
                yield made

    def follow(self, made: Running) -> None:
        """Follow cluster.yaml, secrets and what is adopted until told to stop; what is wrong is said, and the last good state is served."""
        say = made.progress.say
        while not self.stop.wait(LOOK):
            written = any(stamp(path) != seen for path, seen in self._seen.items())
            rotated = self._secrets() != self._seen_secrets
            if not written and not rotated and stamp(self.folders.root / adopted.NAME) == self._seen_adopted:
                continue
            what = self.source.name if written else f"{vault.FOLDER}/" if rotated else adopted.NAME
            try:
                decided = self.plan() if written else made.plan
                before = made.update(decided, self.prepare(decided))
            except (PibakeError, OSError) as error:
                say(f"{what} was changed, and cannot be served; what was served goes on: {error}")
                continue
            if written or rotated:
                say(f"{what} was changed, and is served as it is now")
                for sentence in sentences(made.served):
                    say(sentence)
            for sentence in told(made.served, before):
                say(sentence)
