"""Networks of a test's own: namespaces with virtual Ethernet between them, gone when the test is."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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
        return inside(self.name, work)


def inside(namespace: str, work: Callable[[], T], limit: float = 90) -> T:
    """Return what `work` returns in a thread of its own in a network namespace; sockets it makes stay there.

    `limit` is how many seconds it may take.
    """
    done: Future[T] = Future()

    def alone() -> None:
        try:
            enter(namespace)
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            done.set_exception(error)

    threading.Thread(target=alone, daemon=True).start()
    return done.result(limit)


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Let this thread, and what it starts, be in a network namespace."""
    with Path("/proc/thread-self/ns/net").open("rb") as own:
        enter(namespace)
        try:
            yield
        finally:
            assert ctypes.CDLL(None).setns(own.fileno(), CLONE_NEWNET) == 0


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
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
