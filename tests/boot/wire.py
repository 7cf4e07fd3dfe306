"""The whole wire in network namespaces: `pibake serve`, a board played to its kernel, and a machine that goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.net.lab import Lab, lab
from tests.net.walks import ROUTER, ROUTER_MAC
from tests.tools.netns import entered, inside, ip

from pibake import health, vm
from pibake.netboot.values import PROXY
from pibake.probe.play import play
from pibake.vm import reporter
from pibake.vm.disk import WIPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pibake.probe.values import Result

SERVER = "10.77.0.1"
ROUTER_ADDRESS = "10.77.0.254"
MAC = "dc:a6:32:01:02:03"
SERIAL = "abcd1234"
CLUSTER = """\
cluster: lab
domain: lab.example
network: {{subnet: 10.77.0.0/24, gateway: {router}, dns: [{router}]}}
netboot: {{dhcp: {dhcp}}}
defaults: {{base: {base}}}
users:
  - {{name: ops, ssh_keys: [{{file: id.pub}}]}}
nodes:
  - {{hostname: node3, address: 10.77.0.13, mac: "{mac}", serial: {serial}, board: {board}, {node}}}
  - {{hostname: node4, address: 10.77.0.14, mac: "dc:a6:32:01:02:04"}}
"""
CATALOG = str(Path(__file__).with_name("bases.yaml"))


@dataclass
class Wire:
    """One cluster on the wire, of one board that is played and another that is not there."""

    folder: Path
    lab: Lab
    stack: ExitStack
    said: list[str] = field(default_factory=list)
    child: subprocess.Popen[str] | None = None
    server: str = SERVER
    address: str = "10.77.0.13"

    @property
    def netboot(self) -> Path:
        return self.folder / "netboot"

    def pibake(self, *arguments: str) -> str:
        argv = [sys.executable, "-m", "pibake", *arguments]
        done = subprocess.run(
            argv, cwd=self.folder, capture_output=True, text=True, check=False, env=self._env
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, *arguments: str) -> None:
        """Start `pibake serve`, and wait until it serves."""
        self.child = subprocess.Popen(
            [sys.executable, "-m", "pibake", "serve", *arguments], cwd=self.folder, text=True, env=self._env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.stack.callback(self.stop)
        self.until("serving with ")

    def follows(self) -> None:
        """Wait until a changed cluster.yaml is served."""
        line = self.until("was changed")
        assert "is served as it is now" in line, line

    def until(self, text: str) -> str:
        """Wait until it says this, and return that line."""
        assert self.child
        assert self.child.stdout
        for line in self.child.stdout:
            self.said.append(line)
            if text in line:
                return line
        raise AssertionError("".join(self.said))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End `pibake serve` by a signal."""
        if self.child:
            self.child.send_signal(number)
            rest, _ = self.child.communicate(timeout=30)
            self.said.append(rest)
            self.child = None

    def kill(self, engine: str) -> None:
        """Kill an engine as the kernel would: by process id, of this server's children only."""
        assert self.child
        children = Path(f"/proc/{self.child.pid}/task")
        pids = {pid for task in children.iterdir() for pid in (task / "children").read_text().split()}
        found = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == engine[:15]]
        assert len(found) == 1, found
        os.kill(int(found[0]), signal.SIGKILL)

    def plays(self, model: str, patience: float | None = None) -> Result:
        """Play the board: what it loads lies in `loaded`; `patience` is how long it asks for an address, in seconds."""
        seat = self.lab.seat(MAC)
        loaded = self.folder / "loaded"
        result = inside(
            seat.namespace,
            lambda: play(model, "eth0", mac=MAC, serial=SERIAL, folder=loaded, patience=patience),
            limit=120,
        )
        ip("-n", seat.namespace, "link", "delete", "eth0")
        assert result.boots, [step for step in result.steps if step.verdict != "ok"]
        return result

    @contextmanager
    def machine(self, result: Result, disk: Path | None = None) -> Iterator[vm.Machine]:
        """Go on from what a board has loaded, with its MAC address at its place on the bridge."""
        work = Path(self.stack.enter_context(temporary(self.folder)))
        assert result.kernel
        assert result.initramfs
        initramfs = work / "initramfs"
        manifest = self.manifest
        initramfs.write_bytes(
            reporter.add(result.initramfs.read_bytes(), patience=10, vehicle=manifest["vehicle"])
        )
        kept = [word for word in result.cmdline.split() if not word.startswith("console=")]
        ours = [f"rdinit={reporter.INIT}", "systemd.ssh_auto=no", "systemd.default_device_timeout_sec=600"]
        files = {
            "kernel": str(result.kernel),
            "initramfs": str(initramfs),
            "cmdline": " ".join([*ours, *WIPE, "console=ttyAMA0", *kept]),
        }
        with (
            self.lab.tap() as tap,
            vm.running(work, files, {**manifest["node"], "mac": MAC}, disk_file=disk, tap=tap) as machine,
        ):
            yield machine

    def report(self, machine: vm.Machine, timeout: float = 900) -> dict[str, Any]:
        """Wait for the machine's report."""
        return machine.wait_for_report(vm.Boot(Path(), self.manifest, timeout=timeout))

    def problems(self, report: dict[str, Any], size: int = 16 << 30) -> list[health.Check]:
        """What is not as the node's manifest says."""
        return [check for check in health.judge(report, self.manifest, disk_bytes=size) if not check.ok]

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.netboot / "nodes/node3/manifest.json").read_text()))

    def ssh(self, command: str, timeout: float = 120) -> str:
        argv = ["ssh", "-i", str(self.folder / "id"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=60"]
        argv += [
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            f"UserKnownHostsFile={self.folder / 'known_hosts'}",
        ]
        done = subprocess.run(
            [*argv, f"ops@{self.address}", command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen("http://127.0.0.1:8069/status", timeout=10) as answer:
            return dict(json.load(answer))

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, "PIBAKE_CATALOG": CATALOG}


@contextmanager
def temporary(folder: Path) -> Iterator[str]:
    path = folder / f"machine-{time.monotonic_ns()}"
    path.mkdir()
    yield str(path)


@contextmanager
def wire(
    folder: Path,
    *,
    base: str = "debian-13",
    node: str = "root: nfs",
    board: str = "pi4",
    dhcp: str = "server",
) -> Iterator[Wire]:
    """Describe a cluster whose node3 boots as `node` says, in a network of its own."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", folder / "id"], check=True
    )
    text = CLUSTER.format(
        base=base, node=node, board=board, dhcp=dhcp, mac=MAC, serial=SERIAL, router=ROUTER_ADDRESS
    )
    (folder / "cluster.yaml").write_text(text)
    with ExitStack() as stack:
        network = stack.enter_context(lab(f"{SERVER}/24"))
        if dhcp == PROXY:
            seat = network.seat(ROUTER_MAC, f"{ROUTER_ADDRESS}/24")
            ranges = {"first": "10.77.0.100", "last": "10.77.0.150", "folder": folder / "router"}
            network.dnsmasq(seat.namespace, ROUTER.format(**ranges), folder / "router")
        stack.enter_context(entered(network.server))
        yield Wire(folder, network, stack)
