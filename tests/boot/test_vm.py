"""What `pibake boot` does when a machine does not come up, and how it finds out what runs here."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pibake import accel

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    argv = ["env", "--default-signal=INT", sys.executable, "-m", "pibake", *arguments]
    return subprocess.Popen(
        argv,
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def pibake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    child = start(folder, *arguments)
    out, err = child.communicate()
    return subprocess.CompletedProcess(arguments, child.returncode, out, err)


def machines(folder: Path) -> list[str]:
    """The QEMU processes whose disks are below `folder`."""
    lines = (path.read_bytes().decode("utf-8", "replace") for path in commands())
    return [line for line in lines if "qemu-system" in line and str(folder) in line]


def commands() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            path.read_bytes()
            yield path


@pytest.fixture
def silent(small_base: Path, tmp_path: Path) -> Path:
    """A folder with the image of a node whose kernel does nothing."""
    digest = hashlib.sha256(small_base.read_bytes()).hexdigest()
    built = pibake(
        tmp_path, "build", "--hostname", "n1", "--base", f"{small_base}#sha256={digest}", "--address", "10.1.0.5/24",
        "--gateway", "10.1.0.1", "--ssh-key", KEY,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return tmp_path


def test_a_kernel_that_says_nothing_is_given_up_after_the_time_limit(silent: Path) -> None:
    done = pibake(silent, "boot", "n1", "--timeout", "5")
    assert done.returncode == 1
    assert "n1.img: no health report within 5 s" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(silent.glob("pibake-boot-*"))
    assert not machines(silent)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("config.txt", "arm_64bit=1\nkernel=vmlinuz\n", "without an initramfs in the image"),
        ("vmlinuz", "Linux version 6.12.47+rpt-rpi-v8 (serge)", "6.12.47+rpt-rpi-v8 cannot boot in QEMU"),
    ],
)
def test_an_image_that_no_test_boot_can_judge_is_refused_at_once(
    silent: Path, name: str, text: str, reason: str
) -> None:
    (silent / name).write_text(text)
    image = silent / "images/out/n1.img"
    subprocess.run(["mcopy", "-o", "-i", f"{image}@@1M", silent / name, "::"], check=True)
    done = pibake(silent, "boot", "n1", "--timeout", "60")
    assert done.returncode == 1
    assert f"n1.img: {reason}" in done.stderr.replace("Linux 6", "6")
    assert "hint: only a board can judge this card" in done.stderr
    assert not machines(silent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_boot_ends_its_machine(silent: Path, number: signal.Signals) -> None:
    child = start(silent, "boot", "n1", "--timeout", "60")
    deadline = time.monotonic() + 30
    while not machines(silent) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(machines(silent)) == 1
    child.send_signal(number)
    _, err = child.communicate()
    assert "Traceback" not in err
    time.sleep(0.5)
    assert not machines(silent)


def test_an_image_that_was_not_built_is_an_error_with_the_command_that_builds_it(tmp_path: Path) -> None:
    done = pibake(tmp_path, "boot", "node7")
    assert done.returncode == 1
    assert "there is no images/out/node7.img" in done.stderr
    assert "pibake build --hostname node7" in done.stderr


@pytest.mark.parametrize("machine", ["aarch64", "x86_64"])
def test_the_probe_hears_a_guest_that_runs(machine: str) -> None:
    assert accel.probe("tcg", machine, limit=20).works


def test_the_probe_gives_up_on_a_guest_that_hangs() -> None:
    verdict = accel.probe("tcg", "aarch64", limit=0.0)
    assert not verdict.works
    assert "could not say one character" in verdict.reason


def test_a_machine_that_stands_still_is_started_again_and_given_up_in_the_end(silent: Path) -> None:
    fake = silent / "bin/qemu-system-aarch64"
    fake.parent.mkdir()
    fake.write_text(
        f"#!/bin/sh\necho start >> {silent}/starts\necho '[!!!!!!] Failed to start up manager.'\n"
        "echo '[ 107.4] systemd[1]: Freezing execution.'\nexec sleep 60\n"
    )
    fake.chmod(0o755)
    env = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "TMPDIR": str(silent)}
    argv = [sys.executable, "-m", "pibake", "boot", "n1", "--timeout", "60"]
    done = subprocess.run(argv, cwd=silent, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("stood still for too long: starting it again") == 2
    assert "the machine stood still, and systemd gave up" in done.stderr
    assert (silent / "starts").read_text().split() == ["start"] * 3
