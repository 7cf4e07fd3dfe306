"""What nodes say of themselves: the last state each has posted, in memory and in one small file per node.

The sender is `pibake-join` on the node (overlays/node/usr/local/lib/pibake/join, `State`), told where by `phone_home`.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pibake.errors import PibakeError
from pibake.fsys import load, store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

LIMIT = 16 << 10
"""Bytes a report may have; a real one has a few hundred."""
TEXT = 1000
"""Characters that are kept of a text in it."""
STAGES = 32
"""That may have been reached; a node has a dozen."""
FILE = "report.json"
LARGEST = 1e15
"""Of a number in it, far beyond any time; Python's JSON has NaN, infinities and endless integers."""
TEXTS = ("stage", "status", "detail")
NUMBERS = ("attempts", "started", "uptime", "time")
"""The values that are kept; `reached` (seconds of uptime by stage) comes beside them."""


class RefusedError(PibakeError):
    """A report that is not one of the node it came from."""


class Reports:
    """The last report of each node.

    Args:
        folder: where files of a node go, by hostname; one that does not exist is made.
        on_report: told of each, with the hostname.
    """

    def __init__(
        self,
        folder: Callable[[str], Path],
        on_report: Callable[[str, Mapping[str, Any]], None] = lambda _, __: None,
    ) -> None:
        self._folder = folder
        self._on_report = on_report
        self._known: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def of(self, hostnames: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the last report of each of these nodes that has made one, also before this process began."""
        with self._lock:
            for hostname in hostnames:
                if hostname not in self._known:
                    self._known[hostname] = load(self._folder(hostname) / FILE)
            return {hostname: self._known[hostname] for hostname in hostnames if self._known[hostname]}

    def receive(self, hostname: str, body: bytes) -> None:
        """Keep what a node has posted, with the time at which it came (`received`, seconds since 1970).

        Raises:
            RefusedError: it is no report, or is another node's.
        """
        report = parsed(body)
        if report.pop("node") != hostname:
            raise RefusedError(f"this is {hostname}'s address, and the report is of another node")
        report["received"] = int(time.time())
        with self._lock:
            self._known[hostname] = report
            folder = self._folder(hostname)
            with suppress(OSError):  # a full disk is no fault of the node's, and is said elsewhere
                folder.mkdir(parents=True, exist_ok=True)
                store(folder / FILE, report)
        self._on_report(hostname, report)


def parsed(body: bytes) -> dict[str, Any]:
    """Return what is kept of a report, with the hostname as `node`.

    Raises:
        RefusedError: it is not a report.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError("not JSON") from error
    if not isinstance(value, dict) or not isinstance(value.get("node"), str):
        raise RefusedError("not a report of a node")
    kept: dict[str, Any] = {"node": value["node"]}
    for name in TEXTS:
        if not isinstance(value.get(name), str):
            raise RefusedError(f"{name} is no text")
        kept[name] = _text(value[name])
    for name in NUMBERS:
        kept[name] = _number(value, name)
    reached = value.get("reached")
    if not isinstance(reached, dict) or len(reached) > STAGES:
        raise RefusedError(f"reached is no mapping of {STAGES} stages at most")
    return kept | {"reached": {_text(stage): _number(reached, stage) for stage in reached}}


def _text(value: str) -> str:
    """Return what is kept of a text: nothing that moves a cursor, and no halves of surrogate pairs, which JSON has and UTF-8 has not."""
    return "".join(char if char.isprintable() else " " for char in value[:TEXT])


def _number(values: dict[str, Any], name: str) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST < value < LARGEST:
        raise RefusedError(f"{name} is no number")
    return value
