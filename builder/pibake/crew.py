"""Threads that work off a list, are shown as one task, and stop together."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pibake.progress import Task

THREADS = max(2, min(4, (os.cpu_count() or 1) + 1))
"""One more than processors: each waits for a disk or the network now and then; more than four would wait for the same one."""
Job = TypeVar("Job")
Result = TypeVar("Result")


class Stopped(Exception):
    """Raised in a thread whose work nobody waits for any more."""


@dataclass
class Crew:
    """Threads that work on one task; what they have done is counted together."""

    task: Task | None = None
    done: float = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def add(self, count: float) -> None:
        """Count so many bytes more; `Stopped` is raised when there is no more use in going on."""
        if self._stop.is_set():
            raise Stopped
        with self._lock:
            self.done += count
            if self.task:
                self.task.update(self.done)

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than there is use in it."""
        if self._stop.wait(seconds):
            raise Stopped

    def each(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield what `work` makes of each job, in their order; an error, or leaving the loop, ends all of them."""
        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(work, job) for job in jobs]
            try:
                for future in futures:
                    yield future.result()
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                self._stop.clear()
