"""Boards become nodes by themselves: with `adopt: auto` the next that appears, and always the first with a node's serial.

What people do by `pibake adopt` is written to the same file, under the same lock; `Service.follow` serves what is in it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pibake.errors import PibakeError
from pibake.fsys import load
from pibake.lock import held
from pibake.rack import adopted, binding
from pibake.rack.ledger import BOARDS
from pibake.rack.values import STAGES
from pibake.serve.reports import FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from pibake.plan import Plan
    from pibake.progress import Progress
    from pibake.rack.adopted import Adopted
    from pibake.rack.values import Seen, Timeline
    from pibake.serve.folders import Folders
    from pibake.serve.prepare import Served

LOCK = "adopted"
"""Held, in the folder of `adopted.NAME`, by whoever changes it."""
BY = {
    adopted.HAND: "adopted by hand",
    adopted.AUTO: "the next board that appeared",
    adopted.SERIAL: "the first with its serial",
}
GATHER = 1.0
"""Seconds for which boards are gathered before they become nodes: a rack that is switched on changes what is served once."""


class Adoption:
    """Makes boards nodes; `plan` is replaced by whoever serves another one.

    Args:
        folders: where the file is.
        plan: the cluster.
        progress: told what is odd about boards.
        timelines: the present boot of every node that has been heard of.
        gather: seconds.
    """

    def __init__(
        self,
        folders: Folders,
        plan: Plan,
        progress: Progress,
        timelines: Callable[[], Mapping[str, Timeline]] = dict,
        gather: float = GATHER,
    ) -> None:
        self.plan = plan
        self._folders = folders
        self._progress = progress
        self._timelines = timelines
        self._gather = gather
        self._began = time.monotonic()
        self._served: Mapping[str, Adopted] = {}
        self._known: Collection[str] = ()
        self._waiting: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._stopped = False
        self._said: set[str] = set()

    def board(self, seen: Seen) -> None:
        """Note that a board has asked for an address; from any thread, for boards that are nodes as well.

        Each board that is to become a node does so about `gather` seconds after the first of them has asked.
        """
        with self._lock:
            if self._stopped or seen.mac in self._known or len(self._waiting) >= BOARDS:
                return
            self._waiting[seen.mac] = seen
            if self._timer is None:
                self._timer = threading.Timer(self._gather, self._run)
                self._timer.daemon = True
                self._timer.start()

    def serve(self, served: Served) -> Mapping[str, Adopted]:
        """Note what is served from now on, for `pibake adopt` as well, and return which boards were nodes before."""
        before, self._served = self._served, served.adopted
        self._known = {client.mac for client in served.clients}
        adopted.write(self._folders.run, served.adopted)
        return before

    def stop(self) -> None:
        """Adopt nothing any more; what is under way is waited for."""
        with self._lock:
            self._stopped = True
            timer, self._timer = self._timer, None
        if timer:
            timer.cancel()
            timer.join()

    def _run(self) -> None:
        with self._lock:
            boards, self._waiting = list(self._waiting.values()), {}
            self._timer = None
        try:
            self._bind(boards)
        except (OSError, PibakeError) as error:  # a full disk, perhaps: the board asks again
            self._say_once("", f"warning: boards are not adopted: {error}")

    def _bind(self, boards: list[Seen]) -> None:
        """Make nodes of boards, the first that was ever seen first."""
        boards.sort(key=lambda one: (one.first, one.mac))
        with held(self._folders.root, LOCK, self._progress):
            known = adopted.read(self._folders.root)
            new = self._pins(boards, known)
            new |= self._next(boards, known | new)
            if new:
                adopted.write(self._folders.root, known | new)

    def _pins(self, boards: Iterable[Seen], known: Mapping[str, Adopted]) -> dict[str, Adopted]:
        """Return the nodes that are known by a serial and have got a MAC address; say of a serial that two boards have."""
        counting, _ = binding.counted(self.plan, known)
        new: dict[str, Adopted] = {}
        for seen in boards:
            nodes = binding.all_identified(self.plan, counting | new)
            if found := binding.pinned(nodes, counting | new, seen, time.time()):
                new[found[0]] = found[1]
            elif other := binding.double(nodes, seen):
                self._say_once(
                    seen.serial,
                    f"warning: two boards have the serial {seen.serial}: {other} and {seen.mac}; only the first is served;"
                    " one of them is a clone, or its EEPROM holds a mistake",
                )
        return new

    def _next(self, boards: Iterable[Seen], known: Mapping[str, Adopted]) -> dict[str, Adopted]:
        """Return the boards that are the next nodes."""
        netboot = self.plan.netboot
        if netboot.adopt != "auto" or time.monotonic() > self._began + netboot.adopt_window:
            return {}
        counting, _ = binding.counted(self.plan, known)
        nodes = binding.all_identified(self.plan, counting)
        strange = [
            seen
            for seen in boards
            if not binding.owner(nodes, seen.mac, seen.serial) and not binding.double(nodes, seen)
        ]
        waiting = []
        for node in binding.free(self.plan, counting) if strange else ():
            if booted(node.hostname, self._folders, self._timelines()):
                self._say_once(
                    node.hostname,
                    f"note: {node.hostname} has booted as another board, and is not given to the next by itself:"
                    f" `pibake adopt SERIAL --as {node.hostname} --replace` does",
                )
            else:
                waiting.append(node)
        return binding.appointed(waiting, strange, time.time())

    def _say_once(self, about: str, sentence: str) -> None:
        """Say it, but for the first time only: boards can repeat themselves for ever, and be many."""
        if about not in self._said:
            self._said.add(about)
            self._progress.say(sentence)


def booted(hostname: str, folders: Folders, timelines: Mapping[str, Timeline]) -> bool:
    """Tell whether a node has come to a kernel, by what was heard of it or by what it has told of itself."""
    timeline = timelines.get(hostname)
    kernel = STAGES.index("kernel")
    if timeline and any(STAGES.index(moment.stage) >= kernel for moment in timeline.moments):
        return True
    return bool(load(folders.node(hostname) / FILE))


def told(served: Served, before: Mapping[str, Adopted]) -> Iterator[str]:
    """Yield a sentence about each node that has got a board or lost one, and about each adoption that does not count."""
    for hostname in sorted(before.keys() | served.adopted.keys()):
        board = served.adopted.get(hostname)
        if board is None:
            yield f"{hostname} has no board any more, or the one that cluster.yaml gives it"
        elif board != before.get(hostname):
            yield f"{hostname} is the {board.board} {binding.name(board)}: {BY[board.by]}"
    yield from (f"warning: {sentence}" for sentence in served.ignored)
