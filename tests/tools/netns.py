"""Networks of a test's own: namespaces with virtual Ethernet between them, gone when the test is."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
COUNT = itertools.count()

needs_namespaces = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")


@dataclass(frozen=True)
class Place:
    """A network namespace with one interface, `eth0`."""

    name: str

    def argv(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def ip(self, *arguments: str) -> None:
        ip("-n", self.name, *arguments)

    def inside(self, work: Callable[[], T]) -> T:
        """Run a function in a thread that is in this namespace; sockets it makes stay there."""
        results: list[T] = []
        faults: list[BaseException] = []

        def run() -> None:
            try:
                enter(self.name)
                results.append(work())
            except BaseException as fault:  # noqa: BLE001 - raised again by the caller
                faults.append(fault)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if faults:
            raise faults[0]
        return results[0]


def enter(name: str) -> None:
    """Move this thread into a network namespace (`os.setns` is of Python 3.12)."""
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {name}")
    finally:
        os.close(descriptor)


@contextmanager
def places(*addresses: str) -> Iterator[list[Place]]:
    """Make namespaces behind one bridge, each with an address (`10.77.0.1/24`), or "" for none."""
    number = next(COUNT)
    names = [f"pb{os.getpid()}-{number}-{index}" for index in range(len(addresses) + 1)]
    switch, made = names[0], list[str]()
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", switch, "link", "add", "name", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        for index, (name, address) in enumerate(zip(names[1:], addresses, strict=True)):
            port = f"port{index}"
            ip(
                "-n",
                switch,
                "link",
                "add",
                "name",
                port,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                name,
            )
            ip("-n", switch, "link", "set", port, "master", "br0", "up")
            if address:
                ip("-n", name, "addr", "add", address, "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield [Place(name) for name in names[1:]]
    finally:
        for name in made:
            ip("netns", "del", name)


def switch(place: Place) -> Place:
    """Return the namespace of the bridge `br0` that a place is behind."""
    return Place(place.name.rpartition("-")[0] + "-0")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
