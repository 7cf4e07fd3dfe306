"""Networks of the tests' own: a bridge in one namespace, boards and a router in others, nothing outside of them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.tools.netns import ip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BRIDGE, TAP = "br0", "tap0"
COUNT = itertools.count()


@dataclass
class Seat:
    """A place at the bridge: `eth0` in a namespace of its own, and the bridge's `port`."""

    namespace: str
    mac: str
    port: str


@dataclass
class Lab:
    """One bridge, in the namespace of the server, and who is at it."""

    server: str
    stack: ExitStack
    names: Iterator[int] = field(default_factory=itertools.count)
    bridge: str = BRIDGE

    def seat(self, mac: str, address: str = "") -> Seat:
        """Plug a port with this MAC address in."""
        number = next(self.names)
        namespace = f"{self.server}-{number}"
        made_namespace(namespace, self.stack)
        port = f"port{number}"
        peer = ("peer", "name", port, "netns", self.server)
        ip("link", "add", "eth0", "netns", namespace, "address", mac, "type", "veth", *peer)
        ip("-n", self.server, "link", "set", port, "master", self.bridge, "up")
        if address:
            ip("-n", namespace, "address", "add", address, "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
        return Seat(namespace, mac, port)

    @contextmanager
    def tap(self) -> Iterator[str]:
        """A place at the bridge for an emulated machine."""
        ip("-n", self.server, "tuntap", "add", TAP, "mode", "tap")
        ip("-n", self.server, "link", "set", TAP, "master", self.bridge, "up")
        try:
            yield TAP
        finally:
            ip("-n", self.server, "link", "delete", TAP)

    def dnsmasq(self, namespace: str, config: str, folder: Path) -> Path:
        """Run a dnsmasq until the lab is closed; return its log."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dnsmasq.conf").write_text(config)
        log = folder / "dnsmasq.log"
        argv = [
            "ip",
            "netns",
            "exec",
            namespace,
            "dnsmasq",
            "-C",
            str(folder / "dnsmasq.conf"),
            "--user=root",
        ]
        with log.open("wb") as file:
            child = subprocess.Popen([*argv, "--keep-in-foreground"], stdout=file, stderr=file)
        self.stack.callback(ended, child)
        until = time.monotonic() + 5
        while "dnsmasq-dhcp" not in log.read_text() and time.monotonic() < until:
            assert child.poll() is None, log.read_text()
            time.sleep(0.01)
        return log


def ended(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def made_namespace(name: str, stack: ExitStack) -> None:
    ip("netns", "add", name)
    stack.callback(ip, "netns", "delete", name)
    ip("-n", name, "link", "set", "lo", "up")


@contextmanager
def lab(address: str) -> Iterator[Lab]:
    """Make a network whose server has this address on the bridge; everything is gone afterwards."""
    with ExitStack() as stack:
        name = f"pibake-{os.getpid()}-{next(COUNT)}"
        made_namespace(name, stack)
        ip("-n", name, "link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0")
        ip("-n", name, "link", "set", BRIDGE, "up")
        ip("-n", name, "address", "add", address, "dev", BRIDGE)
        yield Lab(name, stack)
