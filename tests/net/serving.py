"""`pibake serve` as a process in a network of its own, for boards of every model on one small base."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.net.lab import Lab, Seat, lab
from tests.tools import layouts, vendor, wired
from tests.tools.httpd import Server
from tests.tools.netns import inside, needs_namespaces
from tests.tools.test_debs import deb
from tests.tools.test_payload import Repository

from pibake import apt
from pibake.bases import Base
from pibake.cache import Cache
from pibake.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NEEDED = [
    needs_namespaces,
    pytest.mark.skipif(
        not all(map(shutil.which, ("dnsmasq", "ganesha.nfsd", "qemu-storage-daemon"))),
        reason="needs dnsmasq, nfs-ganesha and qemu-storage-daemon",
    ),
]
"""What every test needs that serves."""
SUBNET = "192.168.10"
ADDRESS = f"{SUBNET}.2"
PROGRAMS = {
    "shim-signed": {"usr__lib__shim__shimaa64_dot_efi_dot_signed": "MZ shim"},
    "grub-efi-arm64-signed": {
        "usr__lib__grub__arm64-efi-signed__grubnetaa64_dot_efi_dot_signed": "MZ grub",
    },
}
SOURCES = (
    "Types: deb\nURIs: http://deb.example.org/debian/\nSuites: /\nSigned-By: /usr/share/keyrings/d.gpg\n"
)


@dataclass(frozen=True)
class Ground:
    """A base, the cache it is in with all that is downloaded for it, and the environment that finds both."""

    base: Path
    digest: str
    env: Mapping[str, str]


def ground(folder: Path) -> Ground:
    """Make a base of Debian's packages, and put what UEFI machines load into the cache, from a repository that is gone then."""
    with vendor.keyring() as keys, Server() as server:
        key = keys.make("d@example.org")
        root: dict[str, layouts.Content | None] = {
            "etc/apt/sources.list.d/debian.sources": SOURCES,
            "usr/share/keyrings/d.gpg": keys.export(key),
            "var/lib/dpkg/arch": "arm64\n",
            "var/lib/dpkg/status": "Package: cloud-init\nStatus: install ok installed\nMaintainer: A <a@example.org>\n"
            "Architecture: arm64\nVersion: 25.1.4-1\nDescription: x\n",
        }
        image, digest = wired.base(folder / "base.img", root=root)
        Repository(folder, keys, key, server).publish(
            "debian/", [deb(folder, name, **files) for name, files in PROGRAMS.items()]
        )
        env = {"XDG_CACHE_HOME": str(folder / "cache"), "PIBAKE_APT_URL": server.url}
        os.environ["PIBAKE_APT_URL"] = server.url
        try:
            apt.obtain(
                apt.Wanted(names=tuple(PROGRAMS)),
                Base(image, digest, image.name, 0),
                "arm64",
                Cache(folder / "cache/pibake"),
                Silent(),
            )
        finally:
            del os.environ["PIBAKE_APT_URL"]
    return Ground(image, digest, env)


@dataclass
class Serving:
    """One cluster.yaml, and the process that serves it."""

    folder: Path
    ground: Ground
    lab: Lab
    said: list[str] = field(default_factory=list)
    child: subprocess.Popen[str] | None = None

    @property
    def netboot(self) -> Path:
        return self.folder / "netboot"

    def write(self, *nodes: str, more: str = "") -> None:
        lines = "".join(f"  - {line}\n" for line in nodes)
        self.put(wired.cluster(self.ground.base, self.ground.digest, lines, more, SUBNET))

    def put(self, text: str) -> None:
        """Replace cluster.yaml, as an editor does."""
        part = self.folder / "cluster.yaml.new"
        part.write_text(text)
        part.replace(self.folder / "cluster.yaml")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pibake serve` to its end."""
        return subprocess.run(
            self._argv(*arguments), cwd=self.folder, env=self._env,
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip

    def start(self, *arguments: str, limit: float = 20.0) -> float:
        """Start it, and wait until it serves; return the seconds it took."""
        began = time.monotonic()
        self.child = subprocess.Popen(
            self._argv(*arguments), cwd=self.folder, env=self._env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._read, args=(self.child,), daemon=True).start()
        self.until("serving with ", limit)
        return time.monotonic() - began

    def until(self, text: str, limit: float = 10.0) -> str:
        """Wait until it says this, and return that line."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            if found := [line for line in self.said if text in line]:
                return found[-1]
            assert self.child is None or self.child.poll() is None or time.monotonic() < deadline - 1, (
                self.said
            )
            time.sleep(0.02)
        raise AssertionError(f"it did not say {text!r}, but: {self.said}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit code."""
        if self.child is None:
            return 0
        child, self.child = self.child, None
        child.send_signal(number)
        try:
            return child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise

    @property
    def pid(self) -> int:
        assert self.child
        return self.child.pid

    def engines(self) -> dict[str, int]:
        """Return the process ids of its children by name."""
        pids = {
            pid
            for task in Path(f"/proc/{self.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        }
        return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in pids}

    def get(self, path: str, seat: Seat | None = None) -> tuple[int, bytes]:
        """Ask for a path as it is written, from the server's own place, where /status is open, or a board's."""
        host = ADDRESS if seat else "127.0.0.1"

        def ask() -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(f"http://{host}:8069{path}", timeout=10) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as refusal:
                with refusal:
                    return refusal.code, refusal.read()

        return inside(seat.namespace if seat else self.lab.server, ask)

    def _read(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout
        with child.stdout:
            for line in child.stdout:
                self.said.append(line.rstrip())

    def _argv(self, *arguments: str) -> list[str]:
        entered = ["nsenter", f"--net=/run/netns/{self.lab.server}"]
        return [*entered, sys.executable, "-m", "pibake", "serve", *arguments]

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.ground.env}


@contextmanager
def serving(folder: Path, on: Ground, address: str = f"{ADDRESS}/24") -> Iterator[Serving]:
    """Make a network for `pibake serve`, which is ended with it."""
    with ExitStack() as stack:
        made = stack.enter_context(lab(address))
        one = Serving(folder, on, made)
        stack.callback(one.end)
        yield one
