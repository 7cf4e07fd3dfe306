"""Boards in number: many played at the same moment, each with a MAC address and a network interface of its own.

Boards are threads of a few processes, since one Python keeps one processor busy at most; each is in a network namespace of
its own, at a port of the server's bridge. All are plugged in first, and get power together.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.net.lab import BRIDGE
from tests.tools.netns import enter

from pibake.probe import MODELS, Result, apart, play
from pibake.probe.messages import Board, discover
from pibake.probe.wire import Wire, powered
from pibake.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event, Semaphore

WORKERS = 2 * (os.cpu_count() or 1)
PLUGGING = 180.0
"""Seconds in which all boards are plugged in, or something is wrong."""
STRAY = "b8:27:eb:ff:ff:fe"
"""The port that strays ask from; those who ask have other MAC addresses."""


@dataclass(frozen=True)
class Seat:
    """A board and the node it is: model, hostname, MAC address, serial and IPv4 address."""

    model: str
    hostname: str
    mac: str
    serial: str
    address: str

    @property
    def line(self) -> str:
        """Its line in cluster.yaml."""
        return (
            f"{{hostname: {self.hostname}, address: {self.address}, board: {MODELS[self.model].board},"
            f' mac: "{self.mac}", serial: "{self.serial}"}}'
        )


@dataclass(frozen=True)
class Ended:
    """A board at the end of its boot: what was played, or why it could not be, and the seconds since power came."""

    seat: Seat
    result: Result | None
    seconds: float
    why: str = ""

    @property
    def booted(self) -> bool:
        """Whether it had its own address, and everything up to its kernel."""
        return bool(
            self.result
            and self.result.boots
            and self.result.address
            and str(self.result.address.ip) == self.seat.address
        )

    @property
    def complaint(self) -> str:
        """What it lacked first; "" if nothing."""
        if self.result is None:
            return self.why
        lacking = [
            f"{step.asked}: {step.got}: {step.note}"
            for step in self.result.steps
            if step.verdict == "missing"
        ]
        return next(iter(lacking), "" if self.booted else f"it has the address {self.result.address}")


@dataclass(frozen=True)
class _Ends:
    """What a process of boards shares with the one that started it: a count of plugged boards, the power, the results."""

    ready: Semaphore
    on: Event
    ended: Queue[Ended]


def seats(models: Sequence[str], subnet: str) -> list[Seat]:
    """Return a board of each of these models, in turn, with addresses of `subnet` ("10.77"), which is a /16."""
    found = []
    for number, model in enumerate(models, 1):
        serial = f"{number:08x}" if MODELS[model].fourcc else f"00{number:06x}"
        mac = f"{MODELS[model].oui}:{number.to_bytes(3, 'big').hex(':')}"
        address = f"{subnet}.{1 + number // 200}.{1 + number % 200}"
        found.append(Seat(model, f"n{number}", mac, serial, address))
    return found


def power(server: str, which: Sequence[Seat]) -> list[Ended]:
    """Switch boards on together at the bridge of a network namespace; return when the last one has ended.

    Args:
        server: the namespace.
        which: the boards.
    """
    context = multiprocessing.get_context("spawn")
    ready, on, ended = context.Semaphore(0), context.Event(), context.Queue()
    shares = [which[n::WORKERS] for n in range(min(WORKERS, len(which)))]
    workers = [
        context.Process(target=_work, args=(server, share, _Ends(ready, on, ended)), daemon=True)
        for share in shares
    ]
    for worker in workers:
        worker.start()
    try:
        until = time.monotonic() + PLUGGING
        for _ in which:
            if not ready.acquire(timeout=max(until - time.monotonic(), 0.0)):
                raise TimeoutError(f"not all of {len(which)} boards are plugged in after {PLUGGING:g} s")
        _isolate(server)
        on.set()
        return [ended.get(timeout=600) for _ in which]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()


def _isolate(server: str) -> None:
    """Keep what boards say to everybody from other boards: one kernel's queues are too short for 500 copies of each word."""
    shown = run(["ip", "-n", server, "-json", "link", "show", "master", BRIDGE]).stdout
    lines = [f"link set dev {port['ifname']} type bridge_slave isolated on\n" for port in json.loads(shown)]
    run(["ip", "-n", server, "-batch", "-"], stdin="".join(lines).encode())


def _work(server: str, share: Sequence[Seat], ends: _Ends) -> None:
    """Play a process's share of the boards; one thread hears of the power for all."""
    powers = threading.Event()
    began = [0.0]

    def one(seat: Seat) -> None:
        plugged = threading.Event()

        def alone(interface: str) -> Result:
            plugged.set()
            ends.ready.release()
            powers.wait()
            return play(seat.model, interface, mac=seat.mac, serial=seat.serial)

        try:
            enter(server)
            result = apart(BRIDGE, seat.mac, alone)
            ends.ended.put(Ended(seat, result, time.monotonic() - began[0]))
        except Exception as error:  # noqa: BLE001 - the board did not boot, and that is what is counted
            if not plugged.is_set():
                ends.ready.release()
            ends.ended.put(Ended(seat, None, time.monotonic() - began[0], f"{type(error).__name__}: {error}"))

    with ThreadPoolExecutor(len(share)) as pool:
        running = [pool.submit(one, seat) for seat in share]
        ends.on.wait()
        began[0] = time.monotonic()
        powers.set()
        for future in running:
            future.result()


@contextmanager
def strays(server: str, rate: float) -> Iterator[None]:
    """Let boards that nobody knows ask without end, each DISCOVER with another MAC address, `rate` of them a second.

    One of them has a MAC address that stays: a board that is no node's, and never gives up.
    """
    context = multiprocessing.get_context("spawn")
    ready, off = context.Semaphore(0), context.Event()
    worker = context.Process(target=_stray, args=(server, rate, ready, off), daemon=True)
    worker.start()
    try:
        if not ready.acquire(timeout=PLUGGING):
            raise TimeoutError("strays cannot be plugged in")
        yield
    finally:
        off.set()
        worker.join(10)
        worker.kill()


def _stray(server: str, rate: float, ready: Semaphore, off: Event) -> None:
    model = MODELS["pi3"]

    def alone(interface: str) -> None:
        own = bytes.fromhex(STRAY.replace(":", ""))
        with powered(interface), Wire(interface, own) as wire:
            ready.release()
            began, sent = time.monotonic(), 0
            while not off.is_set():
                due = int((time.monotonic() - began) * rate)
                for number in range(sent, due):
                    wire.mac = own if number % 100 == 0 else own[:3] + os.urandom(3)
                    board = Board(model, wire.mac, wire.mac[2:].hex())
                    wire.send(discover(board, model.stages[0].asking, model.stages[0].asking.xid or 0))
                sent = max(sent, due)
                off.wait(0.01)

    enter(server)
    apart(BRIDGE, STRAY, alone)
