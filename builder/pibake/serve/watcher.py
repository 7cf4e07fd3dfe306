"""Puts together what is heard of boards, what engines say and what nodes report, and keeps it in the ledger."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pibake.rack import ledger
from pibake.rack.case import PROBES
from pibake.rack.ledger import Ledger
from pibake.rack.sighting import PATH_LENGTH, printable
from pibake.rack.values import LOADING, TOLD
from pibake.serve.background import Background
from pibake.serve.tftplog import MISSING, SENT, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pibake.netboot.values import Client
    from pibake.progress import Progress
    from pibake.rack.values import Seen, Sighting
    from pibake.serve.folders import Folders
    from pibake.serve.keeper import State
    from pibake.serve.tftplog import Transfer

EVERY = 0.5
"""Seconds between two times that what is new goes to the disk."""
WORDS = 50
"""Sentences of the server's that are kept."""
ADDRESSES = 4096
"""Boards under way whose addresses are remembered; whoever can send packets can make some up."""
SLACK = 5.0
"""Seconds by which the times of one boot may differ: those of reports are whole, and clocks are set. No board boots as fast."""
OPEN = 8
"""Requests of one board that have no end yet; a board loads one file at a time, and gives some up."""


class Watcher(Background):
    """Writes the ledger while its block is entered; its methods are called from many threads.

    `engines` is asked what they do, and `on_board` told of each board that asks for an address.

    Args:
        folders: where the ledger is, and what TFTP serves.
        say: told in a sentence when the disk does not take what is new.
    """

    def __init__(self, folders: Folders, say: Callable[[str], None]) -> None:
        super().__init__()
        self.ledger = Ledger(folders.root / ledger.NAME)
        self.engines: Callable[[], Sequence[State]] = tuple
        self.on_board: Callable[[Seen], None] = lambda _: None
        self._tftp = folders.tftp
        self._say = say
        self._words: deque[tuple[float, str]] = deque(maxlen=WORDS)
        self._lock = threading.Lock()
        self._macs: dict[str, str] = {}
        self._serials: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._under_way: dict[str, _UnderWay] = {}

    def update(self, clients: Iterable[Client]) -> None:
        """Go on with these nodes."""
        known = list(clients)
        self._macs = {client.mac: client.hostname for client in known if client.mac}
        self._serials = {
            client.serial: client.hostname for client in known if client.serial and not client.mac
        }
        self._addresses = {str(client.address): client.hostname for client in known}

    def sighted(self, sighting: Sighting) -> None:
        """Note a question of a board's."""
        seen = self.ledger.hear(sighting)
        subject = self._subject(seen.mac, seen.serial)
        self.ledger.note(subject, sighting.asked, sighting.time)
        if sighting.asked == "dhcp":
            self.on_board(seen)
            return
        with self._lock:
            under_way = self._under_way.setdefault(sighting.address, _UnderWay(subject))
            under_way.subject = subject
            under_way.asked.append((sighting.path, sighting.time))
            if len(self._under_way) > ADDRESSES:
                del self._under_way[next(iter(self._under_way))]

    def line(self, engine: str, text: str) -> None:
        """Note what an engine has said, if it is of a transfer."""
        if engine == "dnsmasq" and (ended := transfer(text)):
            self._ended(ended, time.time())

    def connected(self, address: str, _: int) -> None:
        """Note that a kernel runs: nothing else opens a connection to a root file system, the first of a boot."""
        hostname = self._addresses.get(address)
        if hostname is None:
            return
        present = self.ledger.timeline(hostname)
        if present is None or all(one.stage in LOADING for one in present.moments):
            self.ledger.note(hostname, "kernel", time.time())

    def reported(self, hostname: str, report: Mapping[str, Any]) -> None:
        """Note what a node says of itself just now: a report as `reports.parsed` leaves it."""
        now = time.time()
        kernel = now - min(max(report["uptime"], 0.0), now)
        self._begun(hostname, kernel)
        present = self.ledger.timeline(hostname)
        for stage, reached in report["reached"].items():
            if stage in TOLD and stage != report["stage"] and not (present and present.stage(stage)):
                self.ledger.note(hostname, stage, min(kernel + max(reached, 0.0), now))
        if report["stage"] in TOLD:
            status, detail, count = report["status"], report["detail"], int(report["attempts"])
            self.ledger.note(hostname, report["stage"], now, status=status, detail=detail, count=count)

    def said(self, sentence: str) -> None:
        """Keep what people were told."""
        self._words.append((time.time(), sentence))

    def server(self) -> dict[str, Any]:
        """Return what there is to say of this server, as JSON values: its engines and its last words."""
        return {
            "engines": [asdict(state) for state in self.engines()],
            "said": [list(one) for one in self._words.copy()],
        }

    def _subject(self, mac: str, serial: str) -> str:
        return self._macs.get(mac) or self._serials.get(serial) or mac

    def _begun(self, hostname: str, kernel: float) -> None:
        """Begin another boot if the kernel has started after the last one had come to its own: nobody heard it ask."""
        present = self.ledger.timeline(hostname)
        if present and any(
            one.stage not in LOADING and one.began < kernel - SLACK for one in present.moments
        ):
            self.ledger.begin(hostname)
            self.ledger.note(hostname, "kernel", kernel)

    def _ended(self, ended: Transfer, now: float) -> None:
        """Note how a transfer ended, for whoever asked for the file: a router may have lent it another node's address."""
        with self._lock:
            under_way = self._under_way.get(ended.address)
            began = under_way.end(ended.path) if under_way else None
        subject = under_way.subject if under_way else self._addresses.get(ended.address)
        if not subject:
            return
        name = ended.path.rpartition("/")[2]
        if ended.end == SENT:
            size, seconds = self._size(ended.path), max(now - began, 0.0) if began else 0.0
            # whatever was not there, the board went on without it
            self.ledger.note(subject, "tftp", now, files=1, size=size, seconds=seconds, missing="")
        elif ended.end == MISSING and name.lower() not in PROBES:
            self.ledger.note(subject, "tftp", now, missing=self._shown(ended.path))

    def _shown(self, path: str) -> str:
        """Return a path as a board has asked for it, without where it is on this server."""
        shown = path.removeprefix(f"{self._tftp}/")
        return printable(shown.encode("ascii", "ignore"), PATH_LENGTH)

    def _size(self, path: str) -> int:
        """Return the bytes of a file that was sent."""
        try:
            found = Path(path).resolve()
            return found.stat().st_size if found.is_relative_to(self._tftp.parent.resolve()) else 0
        except (OSError, ValueError):
            return 0

    def _run(self) -> None:
        """Put what is new on the disk now and then; one that is full costs the history, not the wire."""
        trouble = False
        while True:
            over = self._stop.wait(EVERY)
            for name, value in self.server().items():
                self.ledger.say(name, [] if over and name == "engines" else value)
            try:
                self.ledger.flush()
            except OSError as error:
                if not trouble:
                    self._tell(
                        f"what boards do cannot be kept: {error}; boards are served all the same, and it is tried again"
                    )
                trouble = True
            else:
                if trouble:
                    self._tell("what boards do is kept again")
                trouble = False
            if over:
                return

    def _tell(self, sentence: str) -> None:
        self._say(sentence)
        self.said(sentence)


class _UnderWay:
    """A board that loads files: what its boot is kept under, and what it has asked for, with the times."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.asked: deque[tuple[str, float]] = deque(maxlen=OPEN)

    def end(self, path: str) -> float | None:
        """Return when a file was asked for that has come to its end; what was asked for before was given up."""
        for index in range(len(self.asked) - 1, -1, -1):
            asked, began = self.asked[index]
            if path.endswith(asked.lstrip("/\\").replace("\\", "/")):
                for _ in range(index + 1):
                    self.asked.popleft()
                return began
        return None


class Noted:
    """A `Progress` that also keeps what it says."""

    def __init__(self, progress: Progress, watcher: Watcher) -> None:
        self.task = progress.task
        self._progress = progress
        self._watcher = watcher

    def say(self, line: str) -> None:
        """Show one line that stays, and keep it."""
        self._progress.say(line)
        self._watcher.said(line)
