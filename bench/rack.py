"""A rack against the real `pibake serve`: Pi 3Bs that get power at once, hundreds of boards of all models, and strays beside them.

    make load                                        48 Pi 3Bs, with strays and without, and 500 mixed boards
    sudo .venv/bin/python -m bench.rack --growth     boards a minute at 1, 8, 48 and 500, and TFTP beside tftpd-hpa

Server and boards share this machine's processors, so a second here is more than a second of a rack. It exits with 1 unless
every board has its own address and every file as long as the server has it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

from bench.bench import Row, paired, show
from bench.crowd import STRAY, power, seats, strays
from tests.net.serving import Serving, ground, serving
from tests.tools import wired
from tests.tools.netns import entered, inside

from pibake import fsys
from pibake.netboot.values import DHCP_PORT, TFTP_PORT
from pibake.probe import MODELS, tftp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.crowd import Ended, Seat
    from tests.net.serving import Ground

SUBNET, SERVER = "10.77", "10.77.0.2"
PI3 = ("pi3",)
MIXED = tuple(model for model in MODELS if model != "uefi")
STRAYS = 1000.0
"""DISCOVERs a second of boards that nobody knows."""
READY = 120.0
"""Seconds in which hundreds of nodes are got ready."""
TICKS = os.sysconf("SC_CLK_TCK")
SIZE = 16 << 20
PEER_PORT = 6969
SLOWER = 1.3
"""How many times as long as its peer's a transfer may take."""


@dataclass(frozen=True)
class Use:
    """What a process has used: seconds of a processor, and the most memory it had, in bytes."""

    cpu: float
    peak: int


@dataclass(frozen=True)
class Run:
    """One rack that was switched on.

    Attributes:
        name: what was run.
        ended: its boards.
        uses: what the server's programs used for it: `peak` since they started.
        lost: messages at the ports of DHCP and TFTP that the kernel dropped, as dnsmasq had not read those before.
        disk: bytes on the server for a node, beside its state.
        ready: seconds in which `pibake serve` served.
        short: boards that got a file of another length than the server has.
    """

    name: str
    ended: Sequence[Ended]
    uses: dict[str, Use]
    lost: tuple[int, int]
    disk: float
    ready: float
    short: int

    @property
    def holds(self) -> bool:
        """Whether every board booted, with an address of its own and whole files."""
        booted = sum(one.booted for one in self.ended)
        return booted == self.addresses == len(self.ended) and not self.short and self.disk < 1 << 20

    @property
    def addresses(self) -> int:
        """How many addresses boards have."""
        return len({str(one.result.address.ip) for one in self.ended if one.result and one.result.address})

    @property
    def seconds(self) -> float:
        """From power to the last board's end."""
        return max(one.seconds for one in self.ended)

    def rows(self) -> list[Row]:
        """Return the lines of the table."""
        total, booted = len(self.ended), sum(one.booted for one in self.ended)
        steps = [step for one in self.ended if one.result for step in one.result.steps if step.size]
        loaded = sum(step.size for step in steps) >> 20
        used = "; ".join(f"{name} {use.cpu:.1f} s, {use.peak >> 20} MiB" for name, use in self.uses.items())
        return [
            Row(f"{self.name}: {booted} of {total} boot, {self.addresses} addresses", self.seconds, "", 0, "all", self.holds),
            Row(f"  {booted / self.seconds * 60:.0f} boards a minute, {len(steps)} files, {loaded} MiB", 0),
            Row(f"  processor and memory: {used}; lost: {self.lost[0]} DHCP, {self.lost[1]} TFTP", 0),
            Row(f"  on the server: {self.disk / 1024:.0f} KiB a node beside its state", 0, "", 0, "< 1 MiB", self.disk < 1 << 20),
            Row("  serve ready", self.ready),
        ]  # fmt: skip


def racked(name: str, models: Sequence[str], on: Ground, folder: Path, *, rate: float = 0.0) -> Run:
    """Serve boards of these models and switch them on together, with `rate` DISCOVERs a second of strays beside."""
    folder.mkdir()
    which = seats(models, SUBNET)
    with serving(folder, on, f"{SERVER}/16") as one:
        one.put(described(on, which))
        ready = one.start(limit=READY)
        before = used(one)
        with strays(one.lab.server, rate) if rate else nullcontext():
            ended = power(one.lab.server, which)
        after = used(one)
        uses = {key: Use(use.cpu - before[key].cpu, use.peak) for key, use in after.items() if key in before}
        lost = inside(one.lab.server, lambda: (dropped(DHCP_PORT), dropped(TFTP_PORT)))
        short = sum(not whole(board, one.netboot / "tftp") for board in ended)
        run = Run(name, ended, uses, lost, beside(one.netboot, len(which)), ready, short)
    for complaint in sorted({board.complaint for board in ended if not board.booted})[:5]:
        print(f"{name}: {complaint}")
    return run


def described(on: Ground, which: Sequence[Seat]) -> str:
    """Return a cluster.yaml with these boards."""
    lines = "".join(f"  - {seat.line}\n" for seat in which)
    text = wired.cluster(on.base, on.digest, lines, "netboot: {dhcp: server}\n", f"{SUBNET}.0")
    return text.replace(f"{SUBNET}.0.0/24", f"{SUBNET}.0.0/16")


def whole(board: Ended, tree: Path) -> bool:
    """Tell whether every file a board got is as long as the server's."""
    if board.result is None:
        return False
    own = tree / board.seat.mac.replace(":", "-")
    return all((own / step.asked).stat().st_size == step.size for step in board.result.steps if step.size)


def used(one: Serving) -> dict[str, Use]:
    """Return what the server's programs have used so far (proc(5): stat, status)."""
    found = {}
    for name, pid in {"serve": one.pid, **one.engines()}.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        cpu = (int(fields[11]) + int(fields[12])) / TICKS
        found[name] = Use(cpu, int(status["VmHWM"].split()[0]) << 10)
    return found


def dropped(port: int) -> int:
    """Return how many messages to a port found no room (proc(5): /proc/net/udp, the last column), in this thread's namespace."""
    rows = [row.split() for row in Path("/proc/thread-self/net/udp").read_text().splitlines()[1:]]
    return sum(int(row[-1]) for row in rows if row[1].endswith(f":{port:04X}"))


def beside(netboot: Path, nodes: int) -> float:
    """Return the bytes on disk for a node, without what all share and without its state."""
    states = [fsys.used(path) for path in netboot.glob("nodes/*/export/state.img")]
    shared = [netboot / "golden", netboot / "tftp/.golden", *netboot.glob("run/state-*")]
    return (fsys.used(netboot) - sum(states) - sum(map(fsys.used, shared))) / nodes


def transfers(on: Ground, folder: Path) -> list[Row]:
    """Measure dnsmasq's TFTP beside tftpd-hpa's, on one file of 16 MiB, with one client and both block sizes."""
    folder.mkdir()
    (seat,) = seats(PI3, SUBNET)
    rows = []
    with serving(folder, on, f"{SERVER}/16") as one, ExitStack() as stack:
        one.put(described(on, [seat]))
        one.start()
        place = one.lab.seat(
            STRAY, f"{SUBNET}.9.9/16"
        )  # which has no folder of its own, and looks in the root
        tree = one.netboot / "tftp"
        (tree / "large").write_bytes(os.urandom(SIZE))
        stack.enter_context(hpa(one.lab.server, tree))

        def read(port: int, block: int) -> None:
            options = (("tsize", 0), ("blksize", block))
            answer = tftp.read(IPv4Address(SERVER), "large", options, port)
            if not isinstance(answer, tftp.Arrived) or len(answer.data) != SIZE:
                raise AssertionError(f"port {port}: {answer}")

        def both(block: int) -> tuple[float, float]:
            return paired(lambda: read(TFTP_PORT, block), lambda: read(PEER_PORT, block), 3)

        for block in (512, 1468):
            with entered(place.namespace):
                ours, theirs = both(block)
            bound = f"<= {SLOWER} x"
            rows.append(
                Row(
                    f"16 MiB by TFTP, blocks of {block}",
                    ours,
                    "tftpd-hpa",
                    theirs,
                    bound,
                    ours <= SLOWER * theirs,
                )
            )
    return rows


@contextmanager
def hpa(server: str, tree: Path) -> Iterator[None]:
    """Run tftpd-hpa in the server's namespace, at a port of its own."""
    program = ["in.tftpd", "--foreground", "--address", f"{SERVER}:{PEER_PORT}", "--user", "root", "--secure"]
    child = subprocess.Popen(["nsenter", f"--net=/run/netns/{server}", *program, str(tree)])
    try:
        time.sleep(0.5)
        yield
    finally:
        child.terminate()
        child.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--growth", action="store_true", help="1 and 8 boards, too, and TFTP beside tftpd-hpa"
    )
    options = parser.parse_args()
    if options.growth and not shutil.which("in.tftpd"):
        # no part of `make setup`: it starts a server of its own, at the port of pibake's
        sys.exit("TFTP's peer is not here: apt-get install tftpd-hpa, then systemctl disable --now tftpd-hpa")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pibake-rack-") as name:
        folder = Path(name)
        (folder / "ground").mkdir()
        on = ground(folder / "ground")
        runs = [
            ("48 Pi 3B", PI3 * 48, 0.0),
            (f"48 Pi 3B and {STRAYS:.0f} strays a second", PI3 * 48, STRAYS),
            ("500 mixed boards", [MIXED[n % len(MIXED)] for n in range(500)], 0.0),
        ]
        if options.growth:
            runs = [("1 Pi 3B", PI3, 0.0), ("8 Pi 3B", PI3 * 8, 0.0), *runs]
            rows += transfers(on, folder / "tftp")
        for number, (what, models, rate) in enumerate(runs):
            rows += racked(what, models, on, folder / str(number), rate=rate).rows()
    print(f"\n{os.cpu_count()} processors, which server and boards share\n")
    show(rows)
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
