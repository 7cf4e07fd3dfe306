"""What a node tells the server before its own programs do: the initramfs leaves it, and bash sends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.tools.test_serve_web import port

from pibake import resources
from pibake.netboot import initramfs
from pibake.rack.states import Rack
from pibake.serve import http
from pibake.serve.access import Access
from pibake.serve.page import Desk
from pibake.serve.reports import Reports
from pibake.serve.web import Sources, application

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
KLIBC = Path("/usr/lib/klibc/bin")
FOLDER = resources.path("netboot", "initramfs")
LEAVE = """
set -eu
mount -t tmpfs run /run
mkdir -p "$1/pibake"
mount --bind "$2" /proc/cmdline
cp "$3"/* "$1/pibake"
mkdir -p "$1/run" "$1/proc" "$1/dev"
mount --bind /run "$1/run"
mount --rbind /proc "$1/proc"
mount --bind /dev "$1/dev"
printf 'set -- none\\n. /pibake/mount\\nleave\\n' > "$1/pibake/test"
chroot "$1" /bin/sh /pibake/test
cp -r /run/. "$4"
"""
"""Runs the initramfs's program, as far as it leaves things in /run, with klibc's programs only."""


@dataclass(frozen=True)
class Told:
    """A server that takes the reports of one node, at 127.0.0.1."""

    folder: Path
    port: int
    reports: Reports
    program: Path = FOLDER / "tell"

    def tell(self, *arguments: str, name: str = "node3") -> subprocess.CompletedProcess[str]:
        """Run the program with a kernel command line of its own."""
        line = self.folder / "cmdline"
        line.write_text(
            f"quiet pibake.server=127.0.0.1 pibake.http={self.port} pibake.name={name} -- single\n"
        )
        script = 'mount --bind "$1" /proc/cmdline && shift && exec bash "$@"'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", line, self.program, *arguments],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    @property
    def last(self) -> dict[str, Any]:
        return self.reports.of(["node3"]).get("node3", {})


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    reports = Reports(lambda hostname: tmp_path / hostname)
    sources = Sources(
        engines=lambda: (),
        nodes=lambda: {"node3": {"address": "127.0.0.1"}},
        reports=reports,
        files=lambda _, __: None,
    )
    desk = Desk(lambda: Rack("lab", 0.0, (), (), ()), lambda: 0, Access("x" * 32))
    number = port()
    with http.serving(application(sources, desk), number, IPv4Address("127.0.0.1")):
        yield Told(tmp_path, number, reports)


@needs_root
def test_a_root_file_system_that_is_there_is_told_with_the_seconds_since_the_kernel_started(
    told: Told,
) -> None:
    done = told.tell("root")
    assert done.returncode == 0, done.stderr
    assert (told.last["stage"], told.last["status"], told.last["detail"]) == ("root", "ok", "")
    assert told.last["reached"] == {"root": told.last["uptime"]}
    assert 0 <= float(Path("/proc/uptime").read_text().split()[0]) - told.last["uptime"] < 10


@needs_root
def test_what_went_wrong_is_told_whatever_characters_it_has(told: Told) -> None:
    done = told.tell(
        "root", "failed", 'the "state" of\tC:\\node3 is damaged; e2fsck says: \x1b[31mno' + "!" * 2000
    )
    assert done.returncode == 0, done.stderr
    assert told.last["status"] == "failed"
    assert told.last["detail"].startswith("the state of C:node3 is damaged; e2fsck says:  [31mno!!!")
    assert told.last["reached"] == {}


@needs_root
def test_a_server_that_refuses_it_is_asked_again_and_then_left_alone(told: Told, tmp_path: Path) -> None:
    hasty = tmp_path / "tell"
    hasty.write_text(told.program.read_text().replace('sleep "$try"', "echo again"))
    done = replace(told, program=hasty).tell("root", name="other")
    assert (done.returncode, done.stdout) == (1, "again\n" * 5)
    assert told.last == {}


@needs_root
@pytest.mark.skipif(not KLIBC.exists(), reason="needs klibc-utils")
def test_the_initramfs_leaves_it_in_run_with_no_more_programs_than_klibcs(tmp_path: Path) -> None:
    root, line, kept = tmp_path / "ird", tmp_path / "cmdline", tmp_path / "run"
    for folder in ("bin", "lib", "proc"):
        (root / folder).mkdir(parents=True)
    kept.mkdir()
    for program in ("sh", "mkdir", "mount", "chroot"):
        shutil.copy2(KLIBC / program, root / "bin")
    for library in Path("/lib").glob("klibc-*.so"):
        shutil.copy2(library, root / "lib")
    line.write_text("pibake.server=10.77.0.1 pibake.ip=10.77.0.13/24 pibake.name=node3\n")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", LEAVE, "sh", root, line, FOLDER, kept],
        capture_output=True, text=True, check=False, timeout=30, env={"PATH": "/bin:/usr/bin:/usr/sbin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = {path.relative_to(kept).as_posix(): path for path in kept.rglob("*") if path.is_file()}
    places = {"pibake/tell": "tell"} | {
        f"systemd/system/{where}{name}": name
        for name in initramfs.TOLD[1:]
        for where in ["sysinit.target.d/" if name.endswith(".conf") else ""]
    }
    assert left.keys() == places.keys()
    for place, name in places.items():
        assert left[place].read_bytes() == (FOLDER / name).read_bytes()
