"""`pibake probe` as people run it: on the server's bridge, and through a macvlan on another machine's port."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.net.lab import BRIDGE
from tests.net.walks import boards, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.net.lab import Lab

(PI5,) = boards(["pi5"])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with served(tmp_path_factory.mktemp("lab"), [PI5.client()]) as made:
        yield made


def probe(namespace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [
        "ip",
        "netns",
        "exec",
        namespace,
        sys.executable,
        "-m",
        "pibake",
        "probe",
        "--as",
        "pi5",
        *arguments,
    ]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)


def links(namespace: str) -> str:
    argv = ["ip", "-n", namespace, "-br", "link"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return " ".join(line.split()[0] for line in shown.splitlines())


def ours(*arguments: str) -> tuple[str, ...]:
    return ("--serial", PI5.serial, "--mac", PI5.mac, *arguments)


def test_a_board_on_another_machine_s_port_says_what_it_got_and_leaves_the_port_alone(
    lab: Lab, tmp_path: Path
) -> None:
    person = lab.seat("02:00:00:00:00:09", "192.168.10.200/24").namespace
    before = links(person)
    done = probe(person, *ours("--interface", "eth0", "--save", str(tmp_path)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ DISCOVER" in done.stdout
    assert f"✓ {PI5.serial}/kernel_2712.img" in done.stdout
    assert "it would boot" in done.stdout
    assert (tmp_path / PI5.serial / "kernel_2712.img").stat().st_size
    assert links(person) == before


def test_a_board_on_the_server_s_own_bridge_is_one_more_port_of_it(lab: Lab) -> None:
    done = probe(lab.server, *ours("--interface", BRIDGE, "--json"))
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["boots"]
    assert said["address"] == f"{PI5.address}/24"
    assert {"asked": "DISCOVER", "verdict": "ok"}.items() <= said["steps"][0].items()


def test_a_board_that_would_not_boot_exits_with_1_and_names_what_is_missing(lab: Lab) -> None:
    person = lab.seat("02:00:00:00:00:0a", "192.168.10.201/24").namespace
    broken = "import sys; from pibake.probe import models; from dataclasses import replace; from pibake import cli; "
    broken += "m = models.MODELS['pi5']; a = replace(m.stages[0].asking, tries=1, wait=0.3); "
    broken += (
        "models.MODELS['pi5'] = replace(m, stages=(replace(m.stages[0], asking=a),)); cli.main(sys.argv[1:])"
    )
    argv = [
        "ip",
        "netns",
        "exec",
        person,
        sys.executable,
        "-c",
        broken,
        "probe",
        "--as",
        "pi5",
        "--serial",
        "00000001",
    ]
    done = subprocess.run(
        [*argv, "--interface", "eth0"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert "✗ DISCOVER" in done.stdout
    assert "a pi5 would not boot here" in done.stderr
    assert "on another machine" in done.stderr


def test_an_interface_that_is_not_there_or_not_known_is_an_error_with_a_hint(lab: Lab) -> None:
    absent = probe(lab.server, *ours("--interface", "nowhere0"))
    assert absent.returncode == 1
    assert "there is no interface nowhere0" in absent.stderr
    nameless = probe(lab.server, *ours())
    assert "no default route" in nameless.stderr
    assert "--interface" in nameless.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_board_is_gone_with_the_command_however_it_ends(lab: Lab, number: signal.Signals) -> None:
    # the kernel takes its time with what belonged to a namespace that is gone
    assert eventually(lambda: "pibake" not in links(lab.server))
    before = links(lab.server)
    argv = [
        "ip",
        "netns",
        "exec",
        lab.server,
        "env",
        "--default-signal=INT",  # a shell's background job has it ignored
        sys.executable,
        "-m",
        "pibake",
        "probe",
        "--as",
        "pi5",
        "--serial",
        "00000001",
    ]
    child = subprocess.Popen(
        [*argv, "--interface", BRIDGE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert eventually(lambda: "pibake" in links(lab.server))
    child.send_signal(number)
    assert child.wait(60) == (130 if number == signal.SIGINT else -number)
    assert eventually(lambda: links(lab.server) == before)


def eventually(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 120
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
