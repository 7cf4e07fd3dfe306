"""Work on several nodes at once, shown as one task, and ended as one."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from pibake.progress import Task

P = ParamSpec("P")
R = TypeVar("R")

SEVERAL = 4
"""Threads at most: more would only wait for the same disk."""


class _Ended(Exception):
    """Another node failed, or the person wants to stop."""


class Crew:
    """Threads that share the bytes of one task; when the block ends early, what they do ends at the next bytes."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = 0.0
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.pool = ThreadPoolExecutor(min(SEVERAL, os.cpu_count() or 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.ended.set()
        self.pool.shutdown(cancel_futures=kind is not None)

    def start(self, action: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Let a thread do something."""
        return self.pool.submit(action, *args, **kwargs)

    def add(self, count: float) -> None:
        """Count so many bytes more."""
        if self.ended.is_set():
            raise _Ended
        with self.lock:
            self.done += count
            self.task.update(self.done)
