"""`pibake boards` and `pibake status`, for real, on a ledger as `pibake serve` leaves it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.tools import wired
from tests.tools.command import run, started

from pibake.rack import adopted
from pibake.rack.adopted import HAND, Adopted
from pibake.rack.ledger import NAME, Ledger
from pibake.rack.values import FAIL, WAIT, Sighting

if TYPE_CHECKING:
    from pathlib import Path

NODES = """\
  - {hostname: node1, address: 10.77.0.11, board: pi4, mac: 'dc:a6:32:00:00:01'}
  - {hostname: node2, address: 10.77.0.12, board: pi3b+, serial: 00abcdef}
  - {hostname: node3, address: 10.77.0.13, board: pi4}
  - {hostname: node4, address: 10.77.0.14, board: pi5}
  - {hostname: node5, address: 10.77.0.15, board: zero2w}
"""
HOSTILE = "\x1b[2J\x1b]0;owned\x07 [red]loud[/red] [bold \r\n\u202eevil"
STAGES = ("root", "cloud-init", "network", "clock", "install", "join", "ready", "scrubbed")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with a cluster.yaml whose `pibake serve` has made the folder for its state."""
    (tmp_path / "cluster.yaml").write_text(wired.cluster(tmp_path / "base.img", "0" * 64, NODES), "utf-8")
    (tmp_path / "base.img").touch()
    (tmp_path / "netboot").mkdir()
    return tmp_path


@pytest.fixture
def served(place: Path) -> Path:
    """Return one where node1 is up, node2 is stuck, and two boards are no nodes."""
    now = time.time()
    ledger = Ledger(place / "netboot" / NAME)
    for began in (now - 9000, now - 300):
        ledger.note("node1", "dhcp", began)
        ledger.note(
            "node1", "tftp", began + 5, files=9, size=30 << 20, seconds=12.0, missing="00000001/start9.elf"
        )
        ledger.note("node1", "kernel", began + 20)
        for place_, stage in enumerate(STAGES):
            ledger.note("node1", stage, began + 30 + place_, detail=f"it did {stage}")
    for ago in (20, 15, 10, 5):
        ledger.note("node2", "dhcp", now - ago)
    ledger.hear(
        Sighting(
            now - 300, "dc:a6:32:00:00:01", "dhcp", "00000001", ("pi4",), 4096, "PXEClient", "10.77.0.11"
        )
    )
    ledger.hear(Sighting(now - 200, "dc:a6:32:00:00:02", "dhcp", "00000002", ("pi5",), 8192))
    ledger.hear(Sighting(now - 100, "dc:a6:32:00:00:03", "dhcp", "00000003", ("pi4", "pi400"), 2048))
    ledger.hear(Sighting(now - 50, "b8:27:eb:ab:cd:ef", "dhcp", "00abcdef", ("pi3b+",)))
    ledger.say(
        "engines",
        [
            {
                "name": "dnsmasq",
                "state": "ready",
                "restarts": 2,
                "since": now,
                "pid": os.getpid(),
                "problem": "",
            }
        ],
    )
    ledger.say("said", [[now - 60, "another DHCP server answers"]])
    ledger.flush()
    return place


def pibake(place: Path, *arguments: str) -> str:
    done = run(*arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    return done.stdout


def line(text: str, word: str) -> str:
    return next(one for one in text.splitlines() if word in one)


def test_status_shows_each_node_with_its_state(served: Path) -> None:
    said = pibake(served, "status")
    for node, state in {
        "node1": "✓ up",
        "node2": "✗ stuck",
        "node3": "+ free",
        "node4": "+ free",
        "node5": "- card",
    }.items():
        assert line(said, f" {node} ").startswith(state), said
    assert "●●●●●●●●●●● scrubbed" in line(said, "node1")
    assert "it did scrubbed" in line(said, "node1")
    assert "5 min ago" in line(said, "node1") or "4 min ago" in line(said, "node1")
    assert "●··········" in line(said, " node2 ")


def test_below_the_nodes_stands_what_is_stuck_and_what_the_server_says(served: Path) -> None:
    said = pibake(served, "status")
    assert "asked 4 times" in line(said, "node2 is stuck at dhcp")
    assert "portfast" in said
    assert "engines: dnsmasq ready, started again 2 times" in said
    assert (
        line(said, "2 boards are no node yet")
        == "2 boards are no node yet: 00000003, 00000002; `pibake boards` says more"
    )
    assert "another DHCP server answers" in said


def test_status_of_one_node_shows_its_stages_and_its_boots_before(served: Path) -> None:
    said = pibake(served, "status", "node1")
    assert "Raspberry Pi 4 Model B" in said
    assert "9 files, 30.0 MiB, 2.5 MiB/s; there is no 00000001/start9.elf" in line(said, "tftp")
    assert [one.split()[0] for one in said.splitlines()[2:13]] == ["dhcp", "tftp", "kernel", *STAGES]
    before = said.splitlines()[-1]
    assert before.startswith("1 ")
    assert "scrubbed: ok" in before
    stuck = pibake(served, "status", "node2.lab.example")
    assert "4 times" in line(stuck, "dhcp ")
    assert "node2 is stuck at dhcp" in stuck


def test_a_node_that_is_not_there_is_an_error_with_a_hint(served: Path) -> None:
    done = run("status", "nod1", cwd=served)
    assert done.returncode == 1
    assert "did you mean `node1`" in done.stderr


def test_status_as_json_is_whole(served: Path) -> None:
    value = json.loads(pibake(served, "status", "--json"))
    assert [(node["hostname"], node["state"]) for node in value["nodes"]] == [
        ("node1", "up"), ("node2", "stuck"), ("node3", "free"), ("node4", "free"), ("node5", "card"),
    ]  # fmt: skip
    assert value["nodes"][1]["stuck"]["at"] == "dhcp"
    assert value["engines"][0]["name"] == "dnsmasq"
    one = json.loads(pibake(served, "status", "node1", "--json"))
    assert [boot["boot"] for boot in one["boots"]] == [1, 2]
    assert one["boots"][0]["stages"][1]["files"] == 9


def test_boards_that_are_no_nodes_come_first_with_the_command_that_adopts_them(served: Path) -> None:
    said = pibake(served, "boards")
    rows = said.splitlines()
    assert [next(word for word in row.split() if word.startswith(("0000", "00ab"))) for row in rows[1:5]] == [
        "00000003", "00000002", "00000001", "00abcdef",
    ]  # fmt: skip
    assert rows[1].startswith("Raspberry Pi 4 Model B, 2GiB")
    assert "node1" in rows[3]
    assert rows[5:] == ["pibake adopt 00000003 --as node3", "pibake adopt 00000002 --as node4"]
    listed = json.loads(pibake(served, "boards", "--json"))
    assert {board["serial"]: board["node"] for board in listed} == {
        "00000001": "node1", "00000002": "", "00000003": "", "00abcdef": "node2",
    }  # fmt: skip


def test_an_adopted_board_is_its_node_and_another_one_finds_no_room(served: Path) -> None:
    one = Adopted("dc:a6:32:00:00:02", "00000002", "pi5", HAND, time.time())
    adopted.write(served / "netboot", {"node3": one})
    said = pibake(served, "boards")
    assert "it asks as a Raspberry Pi 5 does, and node3 is a Raspberry Pi 4 Model B in cluster.yaml" in line(
        said, "dc:a6:32:00:00:02: "
    )
    assert line(said, "00000003: ").startswith("00000003: no node in cluster.yaml")


def test_before_anything_was_served_it_says_so(place: Path) -> None:
    assert "no board has been heard of yet" in pibake(place, "boards")
    said = pibake(place, "status")
    assert "○ off" in line(said, "node1")
    assert "nothing has been served here yet" in said


def test_a_server_that_was_killed_does_not_serve(served: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    ledger = Ledger(served / "netboot" / NAME)
    ledger.say(
        "engines", [{"name": "dnsmasq", "state": "ready", "restarts": 0, "pid": gone.pid, "problem": ""}]
    )
    ledger.flush()
    assert "nothing serves now" in pibake(served, "status")


def test_what_a_board_says_moves_no_cursor_and_is_no_markup(served: Path) -> None:
    ledger = Ledger(served / "netboot" / NAME)
    ledger.note("node2", "network", time.time(), status=FAIL, detail=HOSTILE)
    ledger.hear(Sighting(time.time(), "dc:a6:32:00:00:09", "dhcp", vendor=HOSTILE))
    ledger.say("said", [[time.time(), HOSTILE]])
    ledger.flush()
    for command in (("status",), ("status", "node2"), ("boards",)):
        said = pibake(served, *command)
        assert "[red]loud[/red] [bold ??" in said
        assert not set(said) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "\x1b" not in pibake(served, "status", "--json")


@pytest.mark.parametrize("command", ["status", "boards"])
def test_a_file_that_is_no_ledger_is_an_error_that_names_it(place: Path, command: str) -> None:
    (place / "netboot" / NAME).write_bytes(b"no database" * 100)
    done = run(command, cwd=place)
    assert done.returncode == 1
    assert str(place / "netboot" / NAME) in done.stderr
    assert "remove it" in done.stderr


@pytest.mark.parametrize("name", [NAME, "adopted.json"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_who_may_not_read_it_is_told_to_try_sudo(served: Path, name: str) -> None:
    (served / "netboot" / name).touch(0o600)
    (served / "netboot" / name).chmod(0o600)
    script = (
        "import os, sys; os.setuid(65534); from pibake import cli; cli.main(['status', '-c', sys.argv[1]])"
    )
    for parent in (served, *served.parents):
        if parent.stat().st_uid == os.geteuid() and parent.name.startswith(("popen", "pytest", "test")):
            parent.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(served / "cluster.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert name in done.stderr
    assert "sudo" in done.stderr


def test_watching_through_a_pipe_prints_a_line_for_each_change(served: Path) -> None:
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "pibake", "status", "--watch", "node2"]
    with started(argv, cwd=served, stdout=subprocess.PIPE, process_group=0) as watching:
        assert watching.stdout
        assert "node2: stuck: dhcp" in watching.stdout.readline()
        ledger = Ledger(served / "netboot" / NAME)
        ledger.note("node2", "network", time.time(), status=WAIT, detail="waits")
        ledger.flush()
        assert watching.stdout.readline().endswith(" node2: booting: network: waits\n")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
        assert not watching.stdout.read()


@pytest.mark.parametrize(("term", "told"), [("xterm", "stuck at dhcp"), ("dumb", "node2: stuck: dhcp: ")])
def test_watching_on_a_terminal_draws_the_table_until_ctrl_c(served: Path, term: str, told: str) -> None:
    watch = f"exec env --default-signal=INT {sys.executable} -m pibake status --watch"
    argv = ["script", "-qec", watch, "/dev/null"]
    environment = {**os.environ, "TERM": term}
    with started(
        argv, cwd=served, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as watching:
        assert watching.stdin
        assert watching.stdout
        seen = ""
        while told not in seen:
            seen += watching.stdout.readline()
            assert watching.poll() is None, seen
        watching.stdin.write("\x03")
        watching.stdin.flush()
        assert watching.wait(10) == 0


def test_watching_as_json_is_refused(served: Path) -> None:
    assert run("status", "--watch", "--json", cwd=served).returncode == 2


def test_a_rack_of_500_is_shown_in_less_than_a_second(place: Path) -> None:
    rows = "".join(
        f"  - {{hostname: node{n}, address: 10.77.{n // 250}.{n % 250 + 1}, board: pi4, mac: '{mac(n)}'}}\n"
        for n in range(500)
    )
    text = wired.cluster(place / "base.img", "0" * 64, rows).replace(".0/24", ".0/16")
    (place / "cluster.yaml").write_text(text, "utf-8")
    now, ledger = time.time(), Ledger(place / "netboot" / NAME)
    for n in range(500):
        ledger.hear(Sighting(now, mac(n), "dhcp", f"{n:08x}", ("pi4",)))
        for stage in ("dhcp", "tftp", "kernel", *STAGES[: n % 9]):
            ledger.note(f"node{n}", stage, now - 100, detail="it goes on")
    ledger.flush()
    from pibake.cli import rack, statusview

    look = rack.Look(place / "cluster.yaml")
    began = time.process_time()  # others may be busy on this machine
    rack.show(statusview.parts(look, ""))
    assert time.process_time() - began < 1


def mac(number: int) -> str:
    return f"dc:a6:32:00:{number >> 8:02x}:{number & 255:02x}"
