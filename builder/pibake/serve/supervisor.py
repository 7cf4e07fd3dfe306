"""All engines of the wire: started together, kept running, changed while the others go on, and stopped in order."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pibake.serve.keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pibake.serve.engine import Engine
    from pibake.serve.keeper import State


class Supervisor:
    """Runs engines while its block is entered.

    Args:
        engines: in the order they start; they stop in the reverse order.
        say: told in a sentence what happens to them (a crash, a restart).
        on_line: told each line of an engine's log, after the engine's name. Both are called from other threads.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        say: Callable[[str], None] = lambda _: None,
        on_line: Callable[[str, str], None] = lambda _, __: None,
    ) -> None:
        self._say = say
        self._on_line = on_line
        self._keepers = {engine.name: self._keeper(engine) for engine in engines}

    def __enter__(self) -> Self:
        """Start all, and wait until all serve.

        Raises:
            PibakeError: one of them did not start; the others are stopped again.
        """
        with ExitStack() as stack:
            stack.callback(self._stop)
            for keeper in self._keepers.values():
                keeper.start()
            for keeper in self._keepers.values():
                keeper.wait()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def update(self, engines: Sequence[Engine]) -> None:
        """Go on with these engines: what has not changed runs on, the rest is reloaded, restarted, started or stopped.

        Raises:
            PibakeError: one that is new did not start; it is not kept, and the others run on.
        """
        wanted = {engine.name: engine for engine in engines}
        for name in [name for name in self._keepers if name not in wanted]:
            self._keepers.pop(name).stop()
        for name, engine in wanted.items():
            keeper = self._keepers.get(name)
            if keeper is None:
                self._add(engine)
            elif keeper.engine != engine:
                keeper.change(engine)

    def states(self) -> tuple[State, ...]:
        """Return what each engine is doing, in order."""
        return tuple(keeper.state for keeper in self._keepers.values())

    def _add(self, engine: Engine) -> None:
        keeper = self._keeper(engine)
        keeper.start()
        try:
            keeper.wait()
        except BaseException:
            keeper.stop()
            raise
        self._keepers[engine.name] = keeper

    def _keeper(self, engine: Engine) -> Keeper:
        return Keeper(engine, self._on_line, self._say)

    def _stop(self) -> None:
        for keeper in reversed(self._keepers.values()):
            keeper.stop()
