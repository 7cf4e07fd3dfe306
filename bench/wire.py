"""Speed figures of the wire, each beside its floor or its peer, measured in turn in one run on this machine.

    sudo make bench-wire                 in some ten minutes
    sudo .venv/bin/python -m bench.wire --quick    without boots

Everything runs in network namespaces. Boots are of emulated machines: the ratio counts, not the seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from bench.bench import KEY, Row, once, show
from tests.boot.wire import MAC, SERIAL, SERVER, Wire, wire
from tests.net.lab import lab
from tests.tools.netns import entered, inside

from pibake import fsys, vm
from pibake.cache import Cache
from pibake.probe.play import play

NODES = 100
BOUND = 1.3


def hundred(folder: Path) -> list[Row]:
    """Measure how soon `pibake serve` serves, with its files still to be made and with all of them there, and what they take."""
    nodes = [
        f"  - {{hostname: node{n}, address: 10.77.0.{n + 10}, mac: 'dc:a6:32:00:00:{n:02x}'}}"
        for n in range(NODES)
    ]
    head = [
        "cluster: bench", "network: {subnet: 10.77.0.0/24}", "netboot: {dhcp: server}", "defaults: {board: pi4}",
        f"users: [{{name: ops, ssh_keys: ['{KEY}']}}]", "nodes:",
    ]  # fmt: skip
    (folder / "cluster.yaml").write_text("\n".join([*head, *nodes]) + "\n")
    seconds = []
    with ExitStack() as stack:
        network = stack.enter_context(lab(f"{SERVER}/24"))
        stack.enter_context(entered(network.server))
        served = Wire(folder, network, stack)
        for _ in range(3):
            seconds.append(once(served.serve))
            served.stop()
    states = [fsys.used(path) for path in folder.glob("netboot/nodes/*/export/state.img")]
    shared = [folder / "netboot/golden", folder / "netboot/tftp/.golden", *folder.glob("netboot/run/state-*")]
    beside = fsys.used(folder / "netboot") - sum(states) - sum(map(fsys.used, shared))
    each = beside / NODES
    print(
        f"on the server: {each / 1024:.0f} KiB a node beside its state, which begins with {states[0] / 1024:.0f} KiB"
    )
    again = min(seconds[1:])
    return [
        Row(f"serve ready, {NODES} nodes, first time", seconds[0]),
        Row(f"serve ready, {NODES} nodes", again, "", 0, "<= 2 s", again <= 2),
        Row(
            f"on the server: {each / 1024:.0f} KiB a node, beside its state of {states[0] / 1024:.0f} KiB",
            0,
            "",
            0,
            "< 1 MiB",
            each < 1 << 20,
        ),
    ]


def loading(folder: Path) -> Row:
    """Measure how long a Pi 4 loads, by HTTP and by TFTP."""
    with wire(folder) as wired:
        wired.serve()
        seat = wired.lab.seat(MAC)
        tftp = inside(
            seat.namespace, lambda: play("pi4", "eth0", mac=MAC, serial=SERIAL, folder=folder / "loaded")
        )
        by_tftp = sum(step.seconds for step in tftp.steps if step.size)
        peer = wired.lab.seat(MAC.replace("03", "05"), "10.77.0.13/24")

        def fetch() -> None:
            for name in ("boot.sig", "boot.img"):
                with urllib.request.urlopen(f"http://{SERVER}:8069/net_install/{name}") as answer:
                    while answer.read(1 << 20):
                        pass

        inside(peer.namespace, fetch)  # it is composed and signed once
        by_http = inside(peer.namespace, lambda: once(fetch))
    return Row("what a Pi 4 loads, by HTTP", by_http, "by TFTP", by_tftp)


def booting(folder: Path) -> list[Row]:
    """Measure a first boot to the node's report: from a card, and with both kinds of root on the wire."""
    with wire(folder) as wired:
        wired.pibake("build", "--hostname", "node3")
        out = folder / "images/out"
        manifest = json.loads((out / "node3.manifest.json").read_text())
        work = folder / "card"
        work.mkdir()
        with vm.booted(vm.Boot(out / "node3.img", manifest), work) as machine:
            machine.wait_for_report(vm.Boot(out / "node3.img", manifest))
            card = machine.seconds
    rows = []
    for root in ("nfs", "nbd"):
        place = folder / root
        place.mkdir()
        with wire(place, node=f"root: {root}") as wired:
            wired.serve()
            played = wired.plays("pi4")
            with wired.machine(played) as machine:
                wired.report(machine)
                seconds = machine.seconds
        holds = root != "nfs" or seconds <= BOUND * card
        bound = f"<= {BOUND} x" if root == "nfs" else ""
        rows.append(Row(f"first boot, root: {root} (TCG)", seconds, "from a card", card, bound, holds))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="leave out boots")
    parser.add_argument("--boots", action="store_true", help="only boots")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="pibake-bench-", dir=Cache().root) as name:
        for measure, wanted in (
            (hundred, not options.boots),
            (loading, not options.boots),
            (booting, not options.quick),
        ):
            if wanted:
                folder = Path(name, measure.__name__)
                folder.mkdir()
                found = measure(folder)
                rows += found if isinstance(found, list) else [found]
    show(rows)
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
