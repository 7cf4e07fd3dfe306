"""What has been heard of boards and nodes, kept in SQLite beside cluster.yaml.

One process writes: it has the boards and each subject's present boot in memory, where many see them at a time, and puts
what has changed on the disk now and then. A disk that is full costs the history, not the wire.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import asdict, astuple, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pibake.errors import PibakeError
from pibake.rack.values import STAGES, Moment, Seen, Sighting, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

T = TypeVar("T", Seen, Moment)

NAME = "rack.sqlite"
BOOTS = 20
"""Boots of a subject that are kept."""
BOARDS = 4096
"""Boards that are kept: whoever can send packets can make some up. Those seen longest ago go first, with what they did."""
QUIET = 60.0
"""Seconds of silence after which a question for an address is a new boot, and not a retry of the last one."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS boards (
  mac TEXT PRIMARY KEY, first REAL, last REAL, asked INTEGER, serial TEXT, boards TEXT, memory INTEGER, vendor TEXT, address TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moments (
  subject TEXT, boot INTEGER, stage TEXT, began REAL, last REAL, status TEXT, detail TEXT, count INTEGER,
  files INTEGER, size INTEGER, seconds REAL, missing TEXT, PRIMARY KEY (subject, boot, stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


class Ledger:
    """The ledger of the process that writes it; `flush` puts on the disk what is new.

    `changes` counts them.

    Raises:
        PibakeError: the file is there, and is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._boards: dict[str, Seen] = {}
        self._boots: dict[str, Timeline] = {}
        self._server: dict[str, str] = {}
        self._new_boards: set[str] = set()
        self._new_moments: dict[tuple[str, int, str], Moment] = {}
        self._new_server = False
        self.changes = 0
        try:
            with closing(sqlite3.connect(path)) as base:
                base.executescript(SCHEMA)
                self._boards = {seen.mac: seen for seen in _boards(base)}
                self._boots = {one.subject: one for one in _present(base)}
        except sqlite3.Error as error:
            raise _damaged(path, error) from error

    def hear(self, sighting: Sighting) -> Seen:
        """Note that a board has asked something, and return all that is known of it now."""
        with self._lock:
            known = self._boards.get(sighting.mac) or Seen(sighting.mac, sighting.time, sighting.time, 0)
            seen = replace(
                known,
                last=sighting.time,
                asked=known.asked + (sighting.asked == "dhcp"),
                serial=sighting.serial or known.serial,
                boards=_narrowed(known.boards, sighting.boards),
                memory=sighting.memory or known.memory,
                vendor=sighting.vendor or known.vendor,
                address=sighting.address or known.address,
            )
            self._boards[sighting.mac] = seen
            self._new_boards.add(sighting.mac)
            while len(self._boards) > BOARDS:
                oldest = min(self._boards.values(), key=lambda one: one.last)
                del self._boards[oldest.mac]
                self._boots.pop(oldest.mac, None)
                self._new_boards.add(oldest.mac)
            self.changes += 1
            return seen

    def note(self, subject: str, stage: str, time: float, **values: Any) -> Moment:
        """Note that a subject was heard of in a stage, and return what is known of the stage now.

        A question for an address begins a new boot, if the last one had come to a kernel or was silent for `QUIET`
        seconds.

        Args:
            subject: a hostname, or the MAC address of a board that is no node.
            stage: one of `STAGES`.
            time: in seconds since 1970.
            values: attributes of `Moment`: `files`, `size` and `seconds` are added up, others take the place of the old.
        """
        with self._lock:
            present = self._boots.get(subject) or Timeline(subject, 0, ())
            if not present.moments or (stage == "dhcp" and _over(present, time)):
                present = Timeline(subject, present.boot + 1, ())
            known = present.stage(stage)
            added = {name: values.pop(name, 0) for name in ("files", "size", "seconds")}
            moment = (
                replace(known, count=known.count + 1, last=max(time, known.last))
                if known
                else Moment(stage, time, time)
            )
            moment = replace(
                moment, **values, **{name: getattr(moment, name) + value for name, value in added.items()}
            )
            others = tuple(one for one in present.moments if one.stage != stage)
            # stages that a report tells of afterwards stand where they belong
            self._boots[subject] = replace(present, moments=_ordered((*others, moment)))
            self._new_moments[subject, present.boot, stage] = moment
            self.changes += 1
            return moment

    def begin(self, subject: str) -> None:
        """Begin another boot of a subject: what is noted next is of that one."""
        with self._lock:
            if present := self._boots.get(subject):
                self._boots[subject] = Timeline(subject, present.boot, ())

    def say(self, name: str, value: Any) -> None:
        """Keep something of the server's own, as JSON, for those who read the file."""
        text = json.dumps(value)
        with self._lock:
            if self._server.get(name) != text:
                self._server[name] = text
                self._new_server = True

    def boards(self) -> list[Seen]:
        """Return every board, in the order of first appearance."""
        with self._lock:
            return sorted(self._boards.values(), key=lambda one: (one.first, one.mac))

    def timelines(self) -> dict[str, Timeline]:
        """Return the present boot of every subject."""
        with self._lock:
            return {name: boot for name, boot in self._boots.items() if boot.moments}

    def timeline(self, subject: str) -> Timeline | None:
        """Return the present boot of a subject; None if it was not heard of."""
        with self._lock:
            present = self._boots.get(subject)
            return present if present and present.moments else None

    def flush(self) -> None:
        """Put what is new on the disk.

        Raises:
            OSError: the disk is full, or cannot be written; the next call tries again.
        """
        with self._lock:
            boards = {mac: self._boards.get(mac) for mac in self._new_boards}
            gone = {mac for mac, seen in boards.items() if seen is None}
            moments = {key: one for key, one in self._new_moments.items() if key[0] not in gone}
            self._new_moments = {}
            server = dict(self._server) if self._new_server else {}
            self._new_boards.clear()
            self._new_server = False
        if not (boards or moments or server):
            return
        try:
            _write(self._path, boards, moments, server)
        except sqlite3.Error as error:
            with self._lock:
                self._new_boards |= boards.keys()
                self._new_moments = moments | self._new_moments
                self._new_server |= bool(server)
            raise OSError(f"{self._path}: {error}") from error


def read(path: Path) -> tuple[list[Seen], dict[str, Timeline], dict[str, Any]]:
    """Return the boards, every subject's present boot, and what the server says, from the file alone.

    Raises:
        PibakeError: it is no ledger, or is not this user's to read.
    """
    if not path.exists():
        return [], {}, {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            server = {
                name: json.loads(value) for name, value in base.execute("SELECT name, value FROM server")
            }
            boards = sorted(_boards(base), key=lambda one: (one.first, one.mac))
            return boards, {one.subject: one for one in _present(base)}, server
    except sqlite3.Error as error:
        raise _damaged(path, error) from error


def history(path: Path, subject: str) -> list[Timeline]:
    """Return the boots of a subject that are kept, the oldest first.

    Raises:
        PibakeError: it is no ledger, or is not this user's to read.
    """
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            return _timelines(base, "WHERE subject = ?", (subject,))
    except sqlite3.Error as error:
        raise _damaged(path, error) from error


def _ordered(moments: Iterable[Moment]) -> tuple[Moment, ...]:
    return tuple(sorted(moments, key=lambda one: (one.began, STAGES.index(one.stage))))


def _over(present: Timeline, time: float) -> bool:
    """Tell whether a boot has come so far, or was silent for so long, that a question for an address is of another one."""
    reached = max(STAGES.index(one.stage) for one in present.moments)
    return reached >= STAGES.index("kernel") or time - present.latest.last > QUIET


def _narrowed(known: tuple[str, ...], told: tuple[str, ...]) -> tuple[str, ...]:
    """Return which boards it may be, after another question: some tell more than others."""
    both = tuple(name for name in told if name in known)
    return both or told or known


def _write(
    path: Path,
    boards: Mapping[str, Seen | None],
    moments: Mapping[tuple[str, int, str], Moment],
    server: Mapping[str, str],
) -> None:
    with closing(sqlite3.connect(path, timeout=5)) as base, base:
        gone = [(mac,) for mac, seen in boards.items() if seen is None]
        base.executemany("DELETE FROM boards WHERE mac = ?", gone)
        base.executemany("DELETE FROM moments WHERE subject = ?", gone)
        rows = [
            tuple(({**asdict(seen), "boards": ",".join(seen.boards)}).values())
            for seen in boards.values()
            if seen
        ]
        base.executemany(_insert("boards", [one.name for one in fields(Seen)]), rows)
        entries = [(subject, boot, *astuple(moment)) for (subject, boot, _), moment in moments.items()]
        base.executemany(
            _insert("moments", ["subject", "boot", *(one.name for one in fields(Moment))]), entries
        )
        oldest = {(subject, boot - BOOTS) for subject, boot, *_ in entries if boot > BOOTS}
        base.executemany("DELETE FROM moments WHERE subject = ? AND boot <= ?", sorted(oldest))
        base.executemany("INSERT OR REPLACE INTO server (name, value) VALUES (?, ?)", server.items())


def _insert(table: str, names: list[str]) -> str:
    return f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - both are ours


def _boards(base: sqlite3.Connection) -> list[Seen]:
    return [
        replace(seen, boards=tuple(filter(None, str(seen.boards).split(","))))
        for seen in _rows(base, Seen, "boards")
    ]


def _rows(base: sqlite3.Connection, kind: type[T], table: str) -> list[T]:
    names = ", ".join(one.name for one in fields(kind))
    return [kind(*row) for row in base.execute(f"SELECT {names} FROM {table}")]  # noqa: S608 - both are ours


def _present(base: sqlite3.Connection) -> list[Timeline]:
    return _timelines(
        base, "NATURAL JOIN (SELECT subject, max(boot) AS boot FROM moments GROUP BY subject)", ()
    )


def _timelines(base: sqlite3.Connection, which: str, values: tuple[str, ...]) -> list[Timeline]:
    names = ", ".join(one.name for one in fields(Moment))
    found: dict[tuple[str, int], list[Moment]] = {}
    query = f"SELECT subject, boot, {names} FROM moments {which} ORDER BY subject, boot"  # noqa: S608 - all of it is ours
    for subject, boot, *row in base.execute(query, values):
        found.setdefault((subject, boot), []).append(Moment(*row))
    return [Timeline(subject, boot, _ordered(moments)) for (subject, boot), moments in found.items()]


def _damaged(path: Path, error: sqlite3.Error) -> PibakeError:
    what = f"{path}, where it is kept what boards have done, cannot be read: {error}"
    if path.exists() and not os.access(path, os.R_OK):
        return PibakeError(what, "it is another user's: try it with sudo")
    return PibakeError(what, "if it is yours to read, remove it: nothing but the history is lost")
