"""Engines are started, watched, restarted, changed and stopped; small real programs play them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools.command import started

from pibake.errors import PibakeError
from pibake.serve.engine import Engine, Listens
from pibake.serve.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops capabilities")

SERVES = """
import signal, socket, sys
def told(*_):
    print("read", open(sys.argv[2]).read(), flush=True)
signal.signal(signal.SIGHUP, told)
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("serving", flush=True)
    while True:
        peer, _ = server.accept()
        peer.close()
"""


def there(path: Path) -> Callable[[int], bool]:
    """Ready when there is something at `path`."""
    return lambda _: path.exists()


def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(name: str, file: Path, number: int, **values: object) -> Engine:
    argv = (sys.executable, "-c", SERVES, str(number), str(file))
    return Engine(name, argv, Listens("tcp", number), **values)  # type: ignore[arg-type]


def until(what: Callable[[], object], limit: float = 5.0) -> None:
    deadline = time.monotonic() + limit
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "configuration"
    path.write_text("one")
    return path


def test_all_engines_serve_when_the_block_is_entered_and_none_is_left_behind(file: Path) -> None:
    numbers = port(), port()
    with Supervisor([serving(f"engine{n}", file, n) for n in numbers]) as supervisor:
        for number in numbers:
            socket.create_connection(("127.0.0.1", number)).close()
        pids = [state.pid for state in supervisor.states()]
        assert [state.state for state in supervisor.states()] == ["ready", "ready"]
    for pid in pids:
        assert not Path("/proc", str(pid)).exists()
    assert [state.state for state in supervisor.states()] == ["stopped", "stopped"]


def test_a_crashed_engine_is_started_again_and_reported_while_the_other_runs_on(file: Path) -> None:
    said: list[str] = []
    with Supervisor(
        [serving("one", file, port()), serving("two", file, port())], say=said.append
    ) as supervisor:
        one, two = supervisor.states()
        os.kill(one.pid, signal.SIGKILL)
        until(lambda: supervisor.states()[0].restarts == 1 and supervisor.states()[0].state == "ready")
        assert supervisor.states()[0].pid != one.pid
        assert supervisor.states()[1] == two
    assert said[0].startswith("one was ended by SIGKILL; it starts again in 0.1 s (it said: serving)")
    assert said[1] == "one serves again"


def test_an_engine_that_keeps_crashing_waits_longer_each_time(file: Path) -> None:
    number = port()
    said: list[str] = []
    with Supervisor([serving("one", file, number)], say=said.append) as supervisor:
        with socket.create_server(("127.0.0.1", port())) as blocker:
            blocked = serving("one", file, blocker.getsockname()[1])
            supervisor.update([blocked])
            until(lambda: supervisor.states()[0].restarts >= 3)
        until(lambda: supervisor.states()[0].state == "ready")
    pauses = [line.split(" again in ")[1].split(" s")[0] for line in said if " again in " in line]
    assert pauses[:3] == ["0.1", "0.2", "0.4"]
    assert "Address already in use" in said[0]


def test_what_an_engine_that_does_not_start_said_is_in_the_error_and_the_others_are_stopped(
    file: Path,
) -> None:
    good = serving("good", file, port())
    supervisor = Supervisor(
        [good, Engine("bad", ("sh", "-c", "echo no such interface; exit 3"), there(file / "x"))]
    )
    with pytest.raises(PibakeError, match=r"no such interface") as caught, supervisor:
        pass
    assert "start bad" in caught.value.message
    assert caught.value.hint == "exited with status 3"
    assert supervisor.states()[0].state == "stopped"


def test_an_engine_that_is_never_ready_is_an_error_after_its_time(tmp_path: Path) -> None:
    slow = Engine("slow", ("sleep", "60"), there(tmp_path / "socket"), patience=0.2)
    with pytest.raises(PibakeError) as caught, Supervisor([slow]):
        pass
    assert caught.value.hint == "did not serve within 0.2 s"


def test_an_engine_that_cannot_be_looked_at_is_an_error_and_is_not_waited_for() -> None:
    def look(_: int) -> bool:
        raise ValueError("this is no table of sockets")

    with (
        pytest.raises(PibakeError, match="cannot start x: ValueError: this is no table of sockets"),
        Supervisor([Engine("x", ("sleep", "60"), look)]),
    ):
        pass


def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(PibakeError, match="no-such-engine is not installed; it is needed to start x"),
        Supervisor([Engine("x", ("no-such-engine",), there(tmp_path / "x"))]),
    ):
        pass


def test_a_changed_configuration_is_reloaded_and_another_program_restarted(file: Path) -> None:
    number, lines = port(), list[str]()
    one = serving("one", file, number, reload=signal.SIGHUP, configuration="one")
    other = serving("other", file, port())
    with Supervisor([one, other], on_line=lambda name, line: lines.append(f"{name}: {line}")) as supervisor:
        first, second = supervisor.states()
        file.write_text("two")
        supervisor.update([serving("one", file, number, reload=signal.SIGHUP, configuration="two"), other])
        until(lambda: "one: read two" in lines)
        assert supervisor.states() == (first, second)
        elsewhere = port()
        supervisor.update([serving("one", file, elsewhere, reload=signal.SIGHUP, configuration="two"), other])
        until(lambda: supervisor.states()[0].state == "ready" and supervisor.states()[0].pid != first.pid)
        socket.create_connection(("127.0.0.1", elsewhere)).close()
        assert supervisor.states()[0].restarts == 0
        assert supervisor.states()[1] == second


def test_engines_come_and_go(file: Path) -> None:
    one, two = serving("one", file, port()), serving("two", file, port())
    with Supervisor([one]) as supervisor:
        pid = supervisor.states()[0].pid
        supervisor.update([one, two])
        assert [state.name for state in supervisor.states()] == ["one", "two"]
        supervisor.update([two])
        assert [state.name for state in supervisor.states()] == ["two"]
        assert not Path("/proc", str(pid)).exists()


def test_an_engine_keeps_only_the_capabilities_it_was_given(tmp_path: Path) -> None:
    show = "grep -E '^(Cap(Inh|Prm|Eff|Bnd)|NoNewPrivs)' /proc/self/status; touch ready; sleep 60"
    lines: list[str] = []
    engine = Engine("one", ("sh", "-c", f"cd {tmp_path}; {show}"), there(tmp_path / "ready"), ("net_raw",))
    with Supervisor([engine], on_line=lambda _, line: lines.append(line)):
        until(lambda: len(lines) == 5)
    values = dict(line.split(":\t") for line in lines)
    net_raw = f"{1 << 13:016x}"  # linux/capability.h
    assert values == {
        "CapInh": f"{0:016x}", "CapPrm": net_raw, "CapEff": net_raw, "CapBnd": net_raw, "NoNewPrivs": "1",
    }  # fmt: skip


def test_a_killed_supervisor_takes_its_engines_along(file: Path, tmp_path: Path) -> None:
    number = port()
    script = tmp_path / "serve.py"
    script.write_text(
        "import sys, time\n"
        "from pibake.serve.engine import Engine, Listens\n"
        "from pibake.serve.supervisor import Supervisor\n"
        f"engine = Engine('one', (sys.executable, '-c', {SERVES!r}, '{number}', '{file}'), Listens('tcp', {number}))\n"
        "with Supervisor([engine]) as supervisor:\n"
        "    print(supervisor.states()[0].pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with started([sys.executable, str(script)], stdout=subprocess.PIPE) as serve:
        assert serve.stdout
        pid = int(serve.stdout.readline())
        assert Path("/proc", str(pid)).exists()
    until(lambda: not Path("/proc", str(pid)).exists())
