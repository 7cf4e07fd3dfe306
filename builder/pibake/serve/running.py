"""All that runs while a cluster is served: engines, HTTP, and what hears, answers and adopts boards."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from pibake.log import log
from pibake.rack import status
from pibake.serve import http, secrets
from pibake.serve.access import Access, token
from pibake.serve.adoption import Adoption
from pibake.serve.disks import socket_of
from pibake.serve.ear import Ear
from pibake.serve.engines import engines, handles, monitor
from pibake.serve.files import Files
from pibake.serve.folders import Folders
from pibake.serve.gate import Gate
from pibake.serve.handles import Handles
from pibake.serve.late import Late
from pibake.serve.page import Desk
from pibake.serve.reports import Reports
from pibake.serve.supervisor import Supervisor
from pibake.serve.watcher import Noted, Watcher
from pibake.serve.web import Sources, application
from pibake.serve.wire import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pibake.plan import Plan
    from pibake.progress import Progress
    from pibake.rack.adopted import Adopted
    from pibake.rack.states import Known, Rack
    from pibake.serve.files import Boot
    from pibake.serve.prepare import Served

LOCAL = IPv4Address("127.0.0.1")
TOKEN = "token"  # noqa: S105 - the name of a file


@dataclass
class Running:
    """What runs; `progress` shows what is said, and keeps it for those who ask later."""

    folders: Folders
    plan: Plan
    served: Served
    progress: Progress
    supervisor: Supervisor
    files: Files
    watcher: Watcher
    late: Late
    adoption: Adoption
    known: tuple[Known, ...]

    def update(self, plan: Plan, served: Served) -> Mapping[str, Adopted]:
        """Go on with what has been got ready now; return which boards were nodes before.

        Raises:
            PibakeError: an engine does not start with it.
        """
        # first: what Ganesha opens for a node that is new is asked of these
        self.files.boots, self.files.key = served.boots, served.key
        self.supervisor.update(engines(served, self.folders))
        self.plan, self.served = plan, served
        self.known = status.known(plan, served.adopted)
        self.late.update(served.clients)
        self.watcher.update(served.clients)
        self.adoption.plan = plan
        return self.adoption.serve(served)

    def disks_of(self, address: str) -> tuple[str, ...]:
        """Return the disks that an address may open: a node's own."""
        return tuple(
            boot.client.hostname
            for boot in self.files.boots.values()
            if boot.client.root == "nbd" and str(boot.client.address) == address
        )

    def exported(self) -> list[Path]:
        """Return the folders that somebody may mount."""
        mounting = [boot.client for boot in self.files.boots.values() if boot.client.root == "nfs"]
        folders = Folders(self.folders.root.resolve())
        return [folders.golden, *(folders.node(one.hostname) / "export" for one in mounting)]

    def reported(self, hostname: str, report: Mapping[str, Any]) -> None:
        """Take what a node says of itself."""
        self.watcher.reported(hostname, report)
        boot = self.files.boots.get(hostname)
        if boot:
            secrets.withdraw(boot.client, report, self.folders)

    def rack(self) -> Rack:
        """Return the rack as it stands."""
        ledger = self.watcher.ledger
        boards, timelines, server = ledger.boards(), ledger.timelines(), self.watcher.server()
        return status.rack(self.plan.cluster, self.known, boards, timelines, server, time.time())


@contextmanager
def running(plan: Plan, served: Served, folders: Folders, progress: Progress) -> Iterator[Running]:
    """Serve what has been got ready while the block runs.

    Raises:
        PibakeError: an engine does not start, or the ledger of an earlier run is damaged.
    """
    site = served.site
    watcher = Watcher(folders, progress.say)
    noted = Noted(progress, watcher)
    supervisor = Supervisor(engines(served, folders), say=noted.say, on_line=_logged(watcher))
    adoption = Adoption(folders, plan, noted, watcher.ledger.timelines)
    files = Files(served.boots, folders, served.key)
    late = Late(site, served.clients, noted.say)
    known = status.known(plan, served.adopted)
    made = Running(folders, plan, served, noted, supervisor, files, watcher, late, adoption, known)
    watcher.update(served.clients)
    watcher.engines = supervisor.states
    watcher.on_board = adoption.board
    adoption.serve(served)
    path = folders.root / TOKEN
    desk = Desk(made.rack, lambda: watcher.ledger.changes, Access(token(path)))
    sources = Sources(
        supervisor.states, lambda: facts(files.boots), Reports(folders.node, made.reported), files
    )
    with ExitStack() as stack:
        stack.enter_context(watcher)
        stack.enter_context(http.serving(application(sources, desk), site.ports.http, site.address.ip, LOCAL))
        stack.enter_context(Handles(handles(folders), made.exported))
        stack.enter_context(supervisor)
        stack.enter_context(Gate(site, socket_of(monitor(folders)), made.disks_of))
        stack.enter_context(Watch(site, folders.root, noted.say))
        stack.enter_context(late)
        stack.callback(adoption.stop)
        stack.enter_context(Ear(site, watcher.sighted, watcher.connected, noted.say))
        noted.say(
            f"the rack is shown at http://localhost:{site.ports.http}; elsewhere the token in {path} is asked for"
        )
        yield made


def _logged(watcher: Watcher) -> Callable[[str, str], None]:
    """Return what takes the lines of engines."""

    def take(engine: str, line: str) -> None:
        log.debug("%s: %s", engine, line)
        watcher.line(engine, line)

    return take


def facts(boots: Mapping[str, Boot]) -> dict[str, dict[str, str]]:
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
