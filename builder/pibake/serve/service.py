"""The wire of one cluster, served until it is told to stop, and following its cluster.yaml meanwhile."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from pibake import catalog, config
from pibake.errors import PibakeError
from pibake.fsys import stamp
from pibake.lock import held, is_held
from pibake.log import log
from pibake.plan import plan
from pibake.rack import adopted, binding, status
from pibake.rack.ledger import Ledger
from pibake.run import find
from pibake.serve import dhcp, host, http
from pibake.serve.access import Access, token
from pibake.serve.adoption import Adoption, told
from pibake.serve.clients import wired
from pibake.serve.engines import engines
from pibake.serve.files import Files
from pibake.serve.folders import NAME, Folders
from pibake.serve.late import Late
from pibake.serve.page import Desk
from pibake.serve.prepare import prepare
from pibake.serve.reports import Reports
from pibake.serve.site import site
from pibake.serve.supervisor import Supervisor
from pibake.serve.web import Sources, application
from pibake.serve.wire import Watch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from pibake.cache import Cache
    from pibake.netboot.values import Ports
    from pibake.plan import Plan
    from pibake.progress import Progress
    from pibake.rack.states import Known, Rack
    from pibake.serve.files import Boot
    from pibake.serve.prepare import Served

LOCK = "serve"
LOCAL = IPv4Address("127.0.0.1")
OLD_TFTP = 65535 * 1024
"""Bytes of the largest file that some Pi 4 fetches by TFTP: 65535 blocks of 1024 bytes, until the release of 2022-10-03 asked
for larger ones (rpi-eeprom, release notes)."""
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


@dataclass(frozen=True)
class Running:
    """What serves at the moment; `adoption` is told of boards that are no node, or no node yet."""

    supervisor: Supervisor
    files: Files
    late: Late
    adoption: Adoption


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
    _cluster: str = ""
    _known: tuple[Known, ...] = ()

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
        boards = adopted.read(folders.root)
        served = prepare(decided, where, folders, self.cache, self.progress, renew=renew, adopted=boards)
        self._cluster, self._known = decided.cluster, status.known(decided, boards)
        return served

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
            with ExitStack() as stack:
                supervisor = Supervisor(engines(served, folders), say=self.progress.say, on_line=_log)
                files = Files(served.boots, folders, served.key)
                reports = Reports(folders.node)
                sources = Sources(supervisor.states, lambda: _known(files.boots), reports, files)
                where = served.site
                desk = self.desk(Ledger(folders.root / "rack.sqlite"), supervisor, where.ports.http)
                stack.enter_context(
                    http.serving(application(sources, desk), where.ports.http, where.address.ip, LOCAL)
                )
                stack.enter_context(supervisor)
                stack.enter_context(Watch(where, folders.root, self.progress.say))
                late = stack.enter_context(Late(where, served.clients, self.progress.say))
                adoption = Adoption(folders, decided, self.progress)
                adoption.serve(served)
                stack.callback(adoption.stop)
                self.report(served)
                yield Running(supervisor, files, late, adoption)

    def desk(self, ledger: Ledger, supervisor: Supervisor, port: int) -> Desk:
        """Return what the page shows, and say where it is."""

        def rack() -> Rack:
            server = {"engines": [asdict(state) for state in supervisor.states()]}
            boards, timelines = ledger.boards(), ledger.timelines()
            return status.rack(self._cluster, self._known, boards, timelines, server, time.time())

        path = self.folders.root / "token"
        desk = Desk(rack, lambda: ledger.changes, Access(token(path)))
        self.progress.say(
            f"the rack is shown at http://localhost:{port}; elsewhere the token in {path} is asked for"
        )
        return desk

    def follow(self, running: Running) -> None:
        """Follow cluster.yaml and what is adopted until told to stop; what is wrong is said, and the last good state is served."""
        while not self.stop.wait(LOOK):
            written = any(stamp(path) != seen for path, seen in self._seen.items())
            if not written and stamp(self.folders.root / adopted.NAME) == self._seen_adopted:
                continue
            what = self.source.name if written else adopted.NAME
            try:
                decided = self.plan() if written else running.adoption.plan
                served = self.prepare(decided)
                running.supervisor.update(engines(served, self.folders))
                running.late.update(served.clients)
                running.files.boots, running.files.key = served.boots, served.key
                before, running.adoption.plan = running.adoption.serve(served), decided
            except (PibakeError, OSError) as error:
                self.progress.say(
                    f"{what} was changed, and cannot be served; what was served goes on: {error}"
                )
                continue
            if written:
                self.progress.say(f"{what} was changed, and is served as it is now")
                self.report(served)
            for sentence in told(served, before):
                self.progress.say(sentence)

    def report(self, served: Served) -> None:
        """Say what is served, and what is not."""
        for hostname, reason in served.left_out:
            self.progress.say(f"note: {hostname} boots from a card only: {reason}")
        for sentence in served.ignored:
            self.progress.say(f"warning: {sentence}")
        if served.free:
            self.progress.say(
                f"note: {', '.join(served.free)} wait{'s' if len(served.free) == 1 else ''} for a board:"
                f" `pibake boards` lists those that ask, `pibake adopt SERIAL --as {served.free[0]}` gives it one"
            )
        for path in sorted(large(served.boots.values())):
            self.progress.say(
                f"warning: {path.name} has {path.stat().st_size >> 20} MiB; a Pi 4 whose EEPROM is older than 2022-10-03 fetches 64 MiB by TFTP:"
                " update it (docs/netboot-firmware.md), or take HTTP boot"
            )
        for hostname in served.behind:
            self.progress.say(
                f"note: {hostname} stays on the golden image it has; `pibake serve --renew {hostname}` starts it anew on the newest"
            )
        for hostname in served.outdated:
            self.progress.say(
                f"note: {hostname} keeps its disk, on which is what cluster.yaml said when that was made;"
                f" `pibake serve --renew {hostname}` starts it anew"
            )


def _log(engine: str, line: str) -> None:
    log.debug("%s: %s", engine, line)


def large(boots: Iterable[Boot]) -> set[Path]:
    """Return the files that some Pi 4 among the nodes cannot fetch by TFTP."""
    places = {boot.tftp for boot in boots if boot.client.board.netboot == "eeprom-2711"}
    return {
        path
        for place in places
        for path in place.rglob("*")
        if path.is_file() and path.stat().st_size > OLD_TFTP
    }


def _known(boots: Mapping[str, Boot]) -> dict[str, dict[str, str]]:
    """Return what the status says of each node beside its own report."""
    return {
        hostname: {
            "address": str(boot.client.address),
            "mac": boot.client.mac,
            "serial": boot.client.serial,
            "board": boot.client.board.name,
            "root": boot.client.root,
            "golden": boot.tftp.name.partition("-")[0],
        }
        for hostname, boot in boots.items()
    }
