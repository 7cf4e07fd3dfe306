"""Keeps one engine running: starts it, reads what it says, and starts it again when it ends."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pibake.errors import CommandFailed, PibakeError
from pibake.log import log
from pibake.run import end, find, spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from pibake.serve.engine import Engine

LOOK = 0.02
"""Seconds between two looks at a process."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before an engine that has ended is started again; each time twice as many."""
SETTLED = 30.0
"""Seconds after which an engine that ends has not failed to start: the next pause is the first again."""
KEPT_LINES = 200

STARTING, READY, WAITING, STOPPED = "starting", "ready", "waiting", "stopped"


@dataclass(frozen=True)
class State:
    """What there is to say of one engine; `since` is the time (seconds since 1970) of the last change."""

    name: str
    state: str
    restarts: int
    since: float
    pid: int
    problem: str


class Keeper:
    """One engine, in a thread of its own.

    The thread that starts a process is its parent to PR_SET_PDEATHSIG, so it lives as long as the process does.
    """

    def __init__(
        self, engine: Engine, on_line: Callable[[str, str], None], say: Callable[[str], None]
    ) -> None:
        self.engine = engine
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._say = say
        self._state = State(engine.name, STARTING, 0, time.time(), 0, "")
        self._child: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._again = threading.Event()
        self._started = threading.Event()
        self._fault: PibakeError | None = None
        self._thread = threading.Thread(target=self._run, name=engine.name, daemon=True)

    @property
    def state(self) -> State:
        """What it is doing."""
        return self._state

    def start(self) -> None:
        """Begin; `wait` says whether it went well."""
        self._thread.start()

    def wait(self) -> None:
        """Wait until the engine serves for the first time.

        Raises:
            PibakeError: it ended instead, or took too long; the error holds the last lines it said.
        """
        self._started.wait()
        if self._fault:
            raise self._fault

    def change(self, engine: Engine) -> None:
        """Go on with another configuration, or with another program under the same name."""
        known, self.engine = self.engine, engine
        child = self._child
        if child and known.same_program(engine) and self._state.state == READY:
            if engine.adapt:
                engine.adapt()
                return
            if engine.reload:
                child.send_signal(engine.reload)
                return
        self._again.set()

    def stop(self) -> None:
        """End the process and the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def tail(self, count: int = 12) -> str:
        """Return the last lines the engine said."""
        return "\n".join(list(self.lines)[-count:])

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                problem = self._live()
            except PibakeError as fault:  # the program is not there, or is not to be made ready
                problem, self._fault = fault.message, self._fault or fault
            except Exception as fault:  # noqa: BLE001 - whoever waits for this engine would wait for ever
                problem = f"{type(fault).__name__}: {fault}"
                self._fault = self._fault or PibakeError(f"cannot start {self.engine.name}: {problem}")
                log.debug("%s: %s", self.engine.name, problem, exc_info=True)
            if self._stop.is_set():
                break
            if not problem:  # it was asked to start again
                pause = FIRST_PAUSE
                continue
            if not self._started.is_set():
                self._started.set()
                break
            pause = FIRST_PAUSE if time.monotonic() - began > SETTLED else pause
            self._note(WAITING, problem=problem, restarts=self._state.restarts + 1)
            self._say(f"{self.engine.name} {problem}; it starts again in {pause:g} s{self._last_line()}")
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._note(STOPPED)
        self._started.set()

    def _live(self) -> str:
        """Run the engine once; return what was wrong when it ended, or "" if it was asked to."""
        self._again.clear()
        engine = self.engine
        self._note(STARTING)
        find(engine.argv[0], f"start {engine.name}")
        with spawn(
            engine.command, why=f"start {engine.name}", env=engine.environment, stderr=subprocess.STDOUT
        ) as child:
            self._child = child
            reader = threading.Thread(target=self._read, args=(child,), daemon=True)
            reader.start()
            try:
                problem = self._watch(engine, child)
            finally:
                self._child = None
                end(child)
                reader.join(1.0)  # its last words
        if problem and not self._started.is_set():
            self._fault = CommandFailed(
                engine.command, child.returncode, self.tail(), why=f"start {engine.name}", hint=problem
            )
        return problem

    def _watch(self, engine: Engine, child: subprocess.Popen[bytes]) -> str:
        """Wait until the process ends or should; return what is wrong with that."""
        deadline = time.monotonic() + engine.patience
        self._note(STARTING, pid=child.pid)
        while not self._stop.wait(LOOK) and not self._again.is_set():
            code = child.poll()
            if code is not None:
                return ended(code)
            if self._state.state == READY:
                continue
            if engine.ready(child.pid):
                again = self._state.restarts and self._started.is_set()
                self._note(READY, pid=child.pid)
                self._started.set()
                if again:
                    self._say(f"{engine.name} serves again")
            elif time.monotonic() > deadline:
                return f"did not serve within {engine.patience:g} s"
        return ""

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        try:
            for raw in child.stdout or ():
                line = raw.decode("utf-8", "replace").rstrip()
                self.lines.append(line)
                self._on_line(self.engine.name, line)
        except (ValueError, OSError):  # the stream was closed with the process
            return

    def _note(self, state: str, *, pid: int = 0, problem: str = "", restarts: int | None = None) -> None:
        count = self._state.restarts if restarts is None else restarts
        self._state = State(self.engine.name, state, count, time.time(), pid, problem)

    def _last_line(self) -> str:
        return f" (it said: {self.lines[-1]})" if self.lines else ""


def ended(code: int) -> str:
    """Say how a process came to its end."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
