"""A network interface of a board's own on somebody's real network, in a network namespace that goes with the work.

The namespace belongs to one thread (unshare(2) works on threads) and the interface in it to the namespace, so both are
gone when the thread is, even if this process is killed; the host's own interface and address are never touched.

Sources: unshare(2), network_namespaces(7), ip-link(8).
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from pibake.errors import CommandFailed, PibakeError
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
INTERFACE = "board0"
"""What the board's interface is called in its namespace."""
PEER = "pibake"
"""What the other end of a pair begins with, before the thread's number."""


def apart(interface: str, mac: str, work: Callable[[str], T]) -> T:
    """Return what `work` returns, run where the only interface is one of this MAC address on `interface`'s network.

    On a bridge the board is one more port; on anything else it is a macvlan, which this host's own programs cannot be
    reached from.

    Raises:
        PibakeError: not root, or there is no such interface.
        CommandFailed: the kernel knows no macvlan, or the interface takes none.
    """
    if os.geteuid():
        raise PibakeError(
            "playing a board needs root: it gets a network interface of its own", "sudo pibake probe ..."
        )
    bridge = is_bridge(interface)
    ready: Future[int] = Future()
    go = threading.Event()
    done: Future[T] = Future()

    def alone() -> None:
        try:
            _unshare()
            ready.set_result(threading.get_native_id())
            go.wait()
            done.set_result(work(INTERFACE))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the work was asked for
            (done if ready.done() else ready).set_exception(error)

    thread = threading.Thread(target=alone, daemon=True)
    thread.start()
    try:
        _plug(interface, mac, ready.result(), bridge=bridge)
    except BaseException:
        done.cancel()
        raise
    go.set()
    return done.result()


def is_bridge(interface: str) -> bool:
    """Tell whether an interface is a bridge."""
    try:
        shown = run(["ip", "-details", "-json", "link", "show", "dev", interface]).stdout
    except CommandFailed as error:
        raise PibakeError(
            f"there is no interface {interface}", "`ip link` lists them; name one with --interface"
        ) from error
    return any(link.get("linkinfo", {}).get("info_kind") == "bridge" for link in json.loads(shown))


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        number = ctypes.get_errno()
        raise PibakeError(
            f"a network namespace cannot be made: {os.strerror(number)}", "run it as root on the host itself"
        )


def _plug(interface: str, mac: str, thread: int, *, bridge: bool) -> None:
    """Make the board's interface in a thread's network namespace, which it goes with."""
    own = [INTERFACE, "netns", str(thread), "address", mac]
    if not bridge:
        argv = ["ip", "link", "add", "link", interface, "name", *own, "type", "macvlan", "mode", "bridge"]
        run(argv, why=f"put a board on the network of {interface}")
        return
    peer = f"{PEER}{thread}"
    run(
        ["ip", "link", "add", "name", peer, "type", "veth", "peer", "name", *own],
        why=f"put a board on {interface}",
    )
    run(["ip", "link", "set", peer, "master", interface, "up"], why=f"put a board on {interface}")
