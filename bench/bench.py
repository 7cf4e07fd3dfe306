"""Speed figures, each beside its floor or its peer, measured in turn in one run on this machine.

    make bench                        everything, in some minutes
    bench/bench.py --joining          only a card's way into a real cluster
    bench/bench.py --quick            without virt-customize, assembling debian-13 anew, and joining a cluster

Figures are medians; a machine that does other things at the same time makes them wander, ratios less so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pibake import accel, bases, config, ground, nodes, plan, vault
from pibake.cache import Cache
from pibake.ground import Ground
from pibake.image import pieces
from pibake.image.extents import allocated
from pibake.plan import BaseRef
from pibake.progress import Plain, Silent, size

if TYPE_CHECKING:
    from collections.abc import Callable

PIBAKE = Path(sys.executable).with_name("pibake")
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW bench"


@dataclass
class Row:
    """One line of the table: what was measured, against what, and the bound that is promised."""

    what: str
    seconds: float
    peer: str = ""
    peer_seconds: float = 0.0
    bound: str = ""
    holds: bool = True

    def cells(self) -> list[str]:
        ratio = f"{self.seconds / self.peer_seconds:.2f} x" if self.peer_seconds else ""
        verdict = ("ok" if self.holds else "MISSED") if self.bound else ""
        return [
            self.what,
            short(self.seconds),
            self.peer,
            short(self.peer_seconds),
            ratio,
            self.bound,
            verdict,
        ]


def short(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def once(action: Callable[[], object]) -> float:
    os.sync()  # or the disk is still busy with what was written before
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def median(action: Callable[[], object], runs: int) -> float:
    action()
    return statistics.median(once(action) for _ in range(runs))


def paired(ours: Callable[[], object], theirs: Callable[[], object], runs: int) -> tuple[float, float]:
    """Return the medians of both, run in turn so that a change of the machine's speed meets both."""
    ours(), theirs()
    pairs = [(once(ours), once(theirs)) for _ in range(runs)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def command(*argv: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    subprocess.run(argv, check=True, capture_output=True, env={**os.environ, **(env or {})}, cwd=cwd)


def cluster(folder: Path, nodes: int) -> Path:
    lines = [
        "cluster: bench", "network: {subnet: 10.0.0.0/16, gateway: 10.0.0.1, dns: [10.0.0.1]}",
        f"users: [{{name: ops, ssh_keys: ['{KEY}']}}]", "nodes:",
    ]  # fmt: skip
    lines += [
        f"  - {{hostname: node{n}, address: 10.0.{n // 200 + 1}.{n % 200 + 10}/16}}" for n in range(nodes)
    ]
    path = folder / "cluster.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def start_up(folder: Path) -> list[Row]:
    path = cluster(folder, 1000)
    start = median(lambda: command(PIBAKE, "--help"), 10)
    thousand = median(lambda: command(PIBAKE, "plan", "-c", path), 5)
    floor = median(lambda: command(sys.executable, "-c", "pass"), 10)
    return [
        Row("pibake --help", start, "python3 -c pass", floor, "<= 150 ms", start <= 0.150),
        Row("pibake plan, 1,000 nodes", thousand, "", 0, "<= 1.5 s", thousand <= 1.5),
    ]


def composing(folder: Path, base: bases.Base) -> Row:
    """Measure one node's image, composed of its golden image and a seed, and not written."""
    decided = plan.plan(config.load(cluster(folder, 200), bases=("debian-13",)))
    secrets = vault.Vault(folder / vault.FOLDER).issue(vault.wanted(decided))
    keys = {user.name: [KEY] for user in decided.nodes[0].users}
    cache = Cache()
    known = {base.sha256: pieces.of(base, cache, Silent())}
    job = nodes.Job("bench", cache, Silent(), known, keys, secrets=secrets)
    on = Ground(base, bases.system(base, cache))
    waiting = iter(decided.nodes)
    seconds = median(lambda: nodes.compose_node(next(waiting), on, job), 50)
    return Row("a node's image composed, not written", seconds, "", 0, "<= 50 ms", seconds <= 0.050)


def fleet(folder: Path, base: bases.Base) -> list[Row]:
    """Measure twenty whole images beside twenty bare copies, and a hundred deltas."""
    twenty = cluster(folder, 20)
    out = folder / "fleet"

    def ours() -> None:
        command(PIBAKE, "-q", "build", "-c", twenty, "--all", "-o", out)

    def bare() -> None:
        out.mkdir(exist_ok=True)
        for number in range(20):
            command("cp", "--sparse=always", "--reflink=auto", base.image, out / f"{number}.img")

    def fresh(action: Callable[[], None]) -> float:
        shutil.rmtree(out, ignore_errors=True)
        return once(action)

    floor, seconds = fresh(bare), fresh(ours)
    again, floor_again = fresh(ours), fresh(bare)
    seconds, floor = min(seconds, again), min(floor, floor_again)
    shutil.rmtree(out)
    hundred = cluster(folder, 100)

    def deltas() -> None:
        command(PIBAKE, "-q", "build", "-c", hundred, "--all", "--output", "delta", "-o", out)

    small = median(deltas, 3)
    largest = max(path.stat().st_size for path in out.glob("*.delta"))
    return [
        Row("20 nodes as .img", seconds, "20 x cp --sparse=always", floor, "<= 1.1 x", seconds <= 1.1 * floor),
        Row(f"100 nodes as deltas of {size(largest)} at most", small, "", 0, "<= 5 s", small <= 5 and largest < 1 << 20),
    ]  # fmt: skip


def baking(folder: Path, base: bases.Base, runs: int) -> list[Row]:
    """Measure a build beside a bare copy, and beside a copy with the digest that a build makes as well."""
    path = cluster(folder, 1)
    copy = folder / "copy.img"

    def ours() -> None:
        command(PIBAKE, "-q", "build", "-c", path, "--hostname", "node0", "-o", folder / "out")

    def bare() -> None:
        copy.unlink(missing_ok=True)
        command("cp", "--sparse=always", "--reflink=auto", base.image, copy)

    def digested() -> None:
        bare()
        command("sha256sum", copy)

    seconds, floor = paired(ours, bare, runs)
    again, both = paired(ours, digested, runs)
    copy.unlink()
    return [
        Row("build of one node", seconds, "cp --sparse=always", floor, "<= 1.15 x", seconds <= 1.15 * floor),
        Row("build of one node", again, "cp, then sha256sum", both, "<= 1.15 x", again <= 1.15 * both),
    ]


def unchanged(folder: Path) -> Row:
    """Measure how long it takes to see that a golden image, with 64 MiB of a user's own in it, is as it should be."""
    path = cluster(folder, 100)
    large = folder / "overlays/app/opt/app/data"
    large.parent.mkdir(parents=True)
    large.write_bytes(os.urandom(64 << 20))
    path.write_text("defaults: {overlays: [app]}\n" + path.read_text())
    decided = plan.plan(config.load(path, bases=("debian-13",)))
    seconds = median(lambda: ground.grounds(decided, decided.nodes, Cache(), Silent()), 5)
    return Row("golden image of 100 nodes, unchanged", seconds, "", 0, "< 300 ms", seconds < 0.3)


def flashing(folder: Path, runs: int) -> list[Row]:
    """Measure composing a node onto a file beside bmaptool and dd with its finished image, and reading it back."""
    path = cluster(folder, 1)
    image, card = folder / "out/node0.img", folder / "card"
    command(PIBAKE, "-q", "build", "-c", path, "--hostname", "node0", "-o", folder / "out")
    verifying: list[float] = []
    peak = 0

    def ours(*options: str) -> None:
        nonlocal peak
        card.unlink(missing_ok=True)
        argv: list[str | Path] = [
            PIBAKE,
            "-q",
            "flash",
            "-c",
            path,
            "node0",
            card,
            "--yes",
            "--json",
            *options,
        ]
        child = subprocess.Popen(argv, stdout=subprocess.PIPE)
        facts = json.loads(child.stdout.read()) if child.stdout else []
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        peak = max(peak, used.ru_maxrss * 1024)
        if facts[0]["verified"]:
            verifying.append(facts[0]["verify_seconds"])

    def mapped() -> None:
        card.unlink(missing_ok=True)
        command("bmaptool", "-q", "copy", image, card)

    def whole() -> None:
        card.unlink(missing_ok=True)
        command("dd", f"if={image}", f"of={card}", "bs=4M", "conv=fsync", "status=none")

    def read() -> None:
        command("dd", f"if={card}", "of=/dev/null", "bs=4M", "iflag=direct", "status=none")

    seconds, floor = paired(lambda: ours("--no-verify"), mapped, runs)
    again, dd = paired(lambda: ours("--no-verify"), whole, runs)
    _, reading = paired(ours, read, runs)
    verify = statistics.median(verifying)
    card.unlink()
    return [
        Row("compose node0 onto a file", seconds, "bmaptool copy node0.img", floor, "<= 1.05 x", seconds <= 1.05 * floor),
        Row("compose node0 onto a file", again, "dd of node0.img, fsync", dd, "< 1 x", again < dd),
        Row("read it back and compare", verify, "dd iflag=direct", reading, "<= 1 x", verify <= reading),
        Row(f"flash, compose and verify: {size(peak)} at most", 0, "", 0, "< 200 MiB", peak < 200 << 20),
    ]  # fmt: skip


def customizing(folder: Path, base: bases.Base) -> Row:
    """Measure ten nodes beside ten runs of the peer that edits a copy of the image through a virtual machine.

    The peer is run once, with three files of the same names, and counted ten times.
    """
    ten, out, copy = cluster(folder, 10), folder / "ten", folder / "peer.img"
    ours = once(lambda: command(PIBAKE, "-q", "build", "-c", ten, "--all", "-o", out))
    shutil.rmtree(out)
    names = ("user-data", "meta-data", "network-config")
    for name in names:
        (folder / name).write_text("#cloud-config\n")
    uploads = [word for name in names for word in ("--upload", f"{folder / name}:/boot/firmware/{name}")]
    env = {"LIBGUESTFS_BACKEND": "direct"}
    if not accel.kvm().works:
        env["LIBGUESTFS_BACKEND_SETTINGS"] = "force_tcg"

    def edited() -> None:
        command("cp", "--sparse=always", "--reflink=auto", base.image, copy)
        copy.chmod(0o644)
        command("virt-customize", "--no-network", "-a", copy, *uploads, env=env)

    theirs = 10 * once(edited)
    return Row("10 nodes as .img", ours, "10 x virt-customize", theirs, ">= 25 x faster", ours * 25 <= theirs)


def joining(folder: Path) -> list[Row]:
    """Measure a card's way into a real cluster; the peer is what `kubeadm join` takes of it."""
    cache = Cache().root
    if os.geteuid() or not all((cache / name).exists() for name in ("bundle-1.20.2", "etcd-3.4")):
        print("joining is not measured: it needs root, and what `make test-cluster` builds")
        return []
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.cluster import lab as labs  # noqa: PLC0415 - only where it can run
    from tests.cluster.test_cluster import POD  # noqa: PLC0415 - the same

    labs.described(folder / "lab", "node3")
    with labs.opened(folder / "lab") as lab:
        lab.pibake("build", "--all")
        lab.pibake("kubeconfig", "-o", "kubeconfig")
        lab.control_plane()
        with labs.powered(lab, "node3", lab.tap("tap3")) as boot:
            lab.wait("node/node3", 600)
            # one that waits from before on would be held back by the scheduler, up to ten seconds
            lab.kubectl("apply", "-f", "-", stdin=json.dumps(POD))
            running = lab.wait("pod/hello", 120)
            join = boot.report()["report"]["join"]
            boot.off()
    # the emulated machine's clock is this one's; a card is copied to its disk before it is switched on
    runs = running - (join["time"] - join["uptime"])
    reached, started = join["reached"], join["started"]
    joined, kubeadm = reached["join"] - started, reached["join"] - reached["install"]
    return [
        Row("pibake-join: unit start to joined", joined, "kubeadm join in it", kubeadm),
        Row("kernel start to Ready (TCG)", reached["ready"], "", 0, "<= 150 s", reached["ready"] <= 150),
        Row("kernel start to a pod Running (TCG)", runs, "", 0, "<= 150 s", runs <= 150),
    ]


def assembling(folder: Path) -> Row:
    env = {"XDG_CACHE_HOME": str(folder / "cache")}
    seconds = once(lambda: command(PIBAKE, "base", "build", "debian-13", env=env))
    return Row("base build debian-13", seconds, "", 0, "<= 300 s", seconds <= 300)


def show(rows: list[Row]) -> None:
    table = [["what", "median", "beside", "median", "ratio", "bound", ""], *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(7)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="pairs of runs of the larger figures")
    parser.add_argument("--joining", action="store_true", help="only a card's way into a cluster")
    parser.add_argument(
        "--quick", action="store_true", help="leave out virt-customize and the assembly of a base"
    )
    options = parser.parse_args()
    base = bases.obtain(BaseRef(name="debian-13"), Cache(), Plain())
    with tempfile.TemporaryDirectory(prefix="pibake-bench-", dir=Cache().root) as name:
        folder = Path(name)
        if options.joining:
            show(rows := joining(folder))
            sys.exit(0 if all(row.holds for row in rows) else 1)
        rows = start_up(folder)
        baked = baking(folder, base, options.runs)
        rows += [*baked, composing(folder, base), unchanged(folder), *fleet(folder, base)]
        rows += flashing(folder, options.runs)
        if not options.quick:
            rows += [customizing(folder, base), assembling(folder), *joining(folder)]
        print(f"\n{os.cpu_count()} processors, Python {sys.version.split()[0]}; {base.name}: "
              f"{size(base.image.stat().st_size)}, {size(allocated(base.image))} of it on disk\n")  # fmt: skip
        show(rows)
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
