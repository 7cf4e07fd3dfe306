"""What a person sees while work is under way.

Library code is handed a `Progress` and opens a `Task` per piece of work; it never prints. On a terminal that is a
bar with rate and remaining time; on a pipe, a plain line every few seconds; in tests, nothing.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import rich.progress

PLAIN_INTERVAL = 5.0
"""Seconds between two plain lines about the same task."""


class Task(Protocol):
    """One piece of work under way."""

    def update(self, completed: float, *, total: float | None = None, note: str | None = None) -> None:
        """Say how much is done (in the task's unit), out of how much, and what is being done just now."""


class Progress(Protocol):
    """Somewhere to show tasks."""

    def task(
        self, label: str, *, total: float | None = None, unit: str = "B"
    ) -> AbstractContextManager[Task]:
        """Open a task; `unit` is "B" for bytes or "%" for a share of 1."""

    def say(self, line: str) -> None:
        """Show one line that stays."""


class Meter:
    """Bytes moved so far, shown on a task."""

    def __init__(self, task: Task) -> None:
        self.task, self.done = task, 0

    def add(self, count: int) -> None:
        """Count so many bytes more."""
        self.set(self.done + count)

    def set(self, done: int) -> None:
        """Say how many bytes it is in all."""
        self.done = done
        self.task.update(done)


class Silent:
    """Shows nothing."""

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "B") -> Iterator[Task]:  # noqa: ARG002
        """Open a task that nobody sees."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Swallow the line."""


class _SilentTask:
    def update(self, completed: float, *, total: float | None = None, note: str | None = None) -> None:
        pass


class Plain:
    """Plain lines, for pipes and logs: one at the start, one every few seconds, one at the end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "B") -> Iterator[Task]:
        """Open a task; its end line is written only when the work succeeded."""
        task = _PlainTask(self, label, total, unit)
        yield task
        self.say(f"{label}: done{task.amount()} in {time.monotonic() - task.started:.1f} s")

    def say(self, line: str) -> None:
        """Write the line at once."""
        self.stream.write(f"{line}\n")
        self.stream.flush()


class _PlainTask:
    def __init__(self, owner: Plain, label: str, total: float | None, unit: str) -> None:
        self.owner, self.label, self.total, self.unit = owner, label, total, unit
        self.started = self.shown = time.monotonic()
        self.completed = 0.0
        self.note = ""

    def amount(self) -> str:
        return f" ({size(self.completed)})" if self.unit == "B" and self.completed else ""

    def update(self, completed: float, *, total: float | None = None, note: str | None = None) -> None:
        self.completed = completed
        self.total = total if total is not None else self.total
        self.note = note if note is not None else self.note
        now = time.monotonic()
        if now - self.shown < PLAIN_INTERVAL:
            return
        self.shown = now
        elapsed = now - self.started
        parts = [self.label]
        if self.total:
            share = min(completed / self.total, 1.0)
            parts.append(f"{share:.0%}")
            if share > 0:
                parts.append(f"about {elapsed / share - elapsed:.0f} s left")
        if self.unit == "B":
            parts.append(f"{size(completed)} at {size(completed / elapsed)}/s")
        if self.note:
            parts.append(self.note)
        self.owner.say(": ".join([parts[0], ", ".join(parts[1:])]))


class Bars:
    """Live bars with rate and remaining time, for terminals; tasks of several threads stand below each other."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415 - rich is slow to import and pipes never need it

        self.console = Console(file=stream or sys.stderr)
        self.lock = threading.Lock()
        self.bars: rich.progress.Progress | None = None
        self.open = 0

    @contextmanager
    def task(self, label: str, *, total: float | None = None, unit: str = "B") -> Iterator[Task]:
        """Open a task with a bar of its own, which goes when the work is done; a summary line stays."""
        started = time.monotonic()
        with self.lock:
            if self.bars is None:
                self.bars = self._bars()
                self.bars.start()
            self.open += 1
            task = _BarTask(self.bars, self.bars.add_task(label, total=total, note="", amount=""), unit)
        try:
            yield task
        finally:
            with self.lock:
                task.bars.remove_task(task.id)
                self.open -= 1
                if not self.open:
                    task.bars.stop()
                    self.bars = None
        self.say(f"{label}: done in {time.monotonic() - started:.1f} s")

    def say(self, line: str) -> None:
        """Print the line above any bar."""
        self.console.print(line, markup=False, highlight=False)

    def _bars(self) -> rich.progress.Progress:
        from rich import progress  # noqa: PLC0415

        return progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[amount]}", markup=False, style="green"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False, style="dim"),
            console=self.console,
            transient=True,
        )


class _BarTask:
    def __init__(self, bars: rich.progress.Progress, task: rich.progress.TaskID, unit: str) -> None:
        self.bars, self.id, self.unit = bars, task, unit

    def update(self, completed: float, *, total: float | None = None, note: str | None = None) -> None:
        self.bars.update(self.id, completed=completed, total=total, amount=self._amount(completed))
        if note is not None:
            self.bars.update(self.id, note=note)

    def _amount(self, completed: float) -> str:
        task = next((task for task in self.bars.tasks if task.id == self.id), None)
        if task is None:
            return ""
        if self.unit != "B":
            return f"{task.percentage:.0f}%"
        of = f" of {size(task.total)}" if task.total else ""
        return f"{size(completed)}{of}" + (f", {size(task.speed)}/s" if task.speed else "")


def size(count: float) -> str:
    """Return a number of bytes as a person reads it, in binary units: `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def for_stream(stream: TextIO, *, quiet: bool = False) -> Progress:
    """Return the right kind of progress for a stream: bars on a terminal that can draw anew, plain lines elsewhere."""
    if quiet:
        return Silent()
    if not stream.isatty():
        return Plain(stream)
    bars = Bars(stream)
    return Plain(stream) if bars.console.is_dumb_terminal else bars
