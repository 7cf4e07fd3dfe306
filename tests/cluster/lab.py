"""A control plane of its own for the tests: real etcd and Kubernetes, in namespaces that end with the test.

One process holds a network and a mount namespace; everything else enters it. In there a bridge is the wire, the
cards' machines are on tap devices, and /etc/kubernetes belongs to the control plane, which runs natively and was
given nothing but what stands on the server's own card.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pibake.image import table

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = "192.168.77.10"
GATEWAY = "192.168.77.1"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
CNI = {
    "cniVersion": "0.4.0",
    "name": "lab",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "isDefaultGateway": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.9.0/24"}]]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pibake"


def tools() -> Path:
    """Return the folder of Kubernetes' programs for this machine."""
    return cache() / "kubernetes-1.20.2/amd64"


def until(what: Any, limit: float, why: str, pause: float = 0.5) -> Any:
    """Return the first true answer of `what()`."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(pause)
    raise AssertionError(f"not within {limit:g} s: {why}")


@dataclass
class Lab:
    """The wire, and the cluster on it. `folder` holds cluster.yaml, the images, the logs."""

    folder: Path
    holder: subprocess.Popen[bytes]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def enter(self, *argv: str | Path, folder: Path | None = None) -> list[str]:
        where = f"--wdns={folder or self.folder}"
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", where, "--", *map(str, argv)]

    def run(self, *argv: str | Path, check: bool = True, **options: Any) -> str:
        done = subprocess.run(self.enter(*argv), capture_output=True, text=True, check=False, **options)
        assert not check or done.returncode == 0, f"{shlex.join(map(str, argv))}:\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def start(self, name: str, *argv: str | Path) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.enter(*argv)],
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.processes.append(child)
        return child

    def pibake(self, *argv: str | Path, folder: Path | None = None) -> str:
        done = subprocess.run(
            self.enter(sys.executable, "-m", "pibake", *argv, folder=folder),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    def kubectl(self, *argv: str, check: bool = True, stdin: str = "") -> str:
        built = tools() / "kubectl"
        program = built if built.exists() else "kubectl"
        # what kubectl learns of a server is for no other one at the same address
        own = ("--kubeconfig", self.folder / "kubeconfig", "--cache-dir", self.folder / "kubectl")
        return self.run(program, *own, *argv, check=check, input=stdin)

    def get(self, *argv: str) -> Any:
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def wait(self, what: str, limit: int) -> float:
        """Wait until an object is Ready; return when that was, in Unix time."""
        until(lambda: self.kubectl("get", what, "-o", "name", check=False), limit, f"there is {what}", 2)
        # a watch: asking again and again takes processor time from the emulated node
        self.kubectl("wait", "--for=condition=Ready", what, f"--timeout={limit}s")
        return time.time()

    def nodes(self) -> dict[str, Any]:
        return {node["metadata"]["name"]: node for node in self.get("nodes")["items"]}

    def tap(self, name: str) -> str:
        """Put a tap device on the wire."""
        self.run("ip", "tuntap", "add", name, "mode", "tap")
        self.run("ip", "link", "set", name, "master", "wire", "up")
        return name

    def control_plane(self) -> None:
        """Start etcd and the control plane, from nothing but the secrets on the server's card."""
        secrets = self.folder / "s1"
        unpack(self.folder / "images/out/s1.img", secrets)
        kubeadm = secrets / "etc/pibake/kubeadm"
        self.serve(kubeadm, PROGRAMS)
        self._phase(kubeadm, "upload-config", "kubeadm")
        # it stores the configuration, then waits for a Node of its own, which there is not
        with contextlib.suppress(subprocess.TimeoutExpired):
            argv = self.enter(tools() / "kubeadm", "init", "phase", "upload-config", "kubelet", "--config",
                              kubeadm / "init.yaml")  # fmt: skip
            subprocess.run(argv, timeout=10, capture_output=True, check=False)
        self._phase(kubeadm, "bootstrap-token")
        self.kubectl("get", "-n", "kube-system", "configmap", "kubelet-config-1.20")

    def serve(self, kubeadm: Path, programs: tuple[str, ...]) -> None:
        """Start etcd and some of the control plane's programs, with what kubeadm makes of a server's folder of it."""
        self.run("cp", "-rT", kubeadm / "pki", "/etc/kubernetes/pki")
        for words in (("certs", "all"), ("kubeconfig", "all"), ("control-plane", "all"), ("etcd", "local")):
            self._phase(kubeadm, *words)
        self.start("etcd", cache() / "etcd-3.4/amd64/etcd", *self._command("etcd"))
        for program in programs:
            self.start(program, tools() / program, *self._command(program))
        until(lambda: self.kubectl("get", "--raw", "/healthz", check=False) == "ok", 90, "/healthz is ok")

    def _phase(self, kubeadm: Path, *words: str) -> None:
        self.run(tools() / "kubeadm", "init", "phase", *words, "--config", kubeadm / "init.yaml")

    def _command(self, name: str) -> list[str]:
        """Return the arguments kubeadm wrote into a static pod's manifest."""
        pod = yaml.safe_load(self.run("cat", f"/etc/kubernetes/manifests/{name}.yaml"))
        arguments = pod["spec"]["containers"][0]["command"][1:]
        return [str(word) for word in arguments]

    def stop(self) -> None:
        for child in reversed(self.processes):
            if child.poll() is None:
                child.terminate()
        for child in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(10)
            if child.poll() is None:
                child.kill()
                child.wait()
        self.holder.kill()
        self.holder.wait()


def boot_partition(disk: Path) -> bytes:
    """Return the raw boot partition of a disk: what a card reader sees."""
    raw = disk.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, raw], check=True)
    first = table.read(raw).partitions[0]
    with raw.open("rb") as file:
        file.seek(first.start)
        return file.read(first.size)


def tree(disk: Path, folder: str) -> dict[str, bytes]:
    """Return the files below a folder of a disk's root file system (`boot_partition` made the raw copy)."""
    raw = disk.with_suffix(".raw")
    target = disk.with_suffix(".tree")
    offset = table.read(raw).partitions[1].start
    target.mkdir(exist_ok=True)
    argv = ["debugfs", "-R", f"rdump {folder} {target}", f"{raw}?offset={offset}"]
    subprocess.run(
        argv, check=True, capture_output=True, env={**os.environ, "PATH": os.environ["PATH"] + ":/sbin"}
    )
    return {
        str(p.relative_to(target)): p.read_bytes()
        for p in target.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


def unpack(image: Path, target: Path) -> None:
    """Unpack the secrets of a card."""
    target.mkdir()
    archive = target / "pibake-secrets.tar"
    subprocess.run(["mcopy", "-i", f"{image}@@1M", "::pibake-secrets.tar", archive], check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(target)  # noqa: S202 - pibake made it


def described(folder: Path, *nodes: str) -> None:
    """Write a cluster.yaml of one server and some workers, with a bridge for pods."""
    folder.mkdir(exist_ok=True)
    conflist = folder / "overlays/bridge/etc/cni/net.d/10-bridge.conflist"
    conflist.parent.mkdir(parents=True)
    conflist.write_text(json.dumps(CNI))
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAIWwftzGuOQWTMO0Qy+BoCT+4Dg5EWBf0qGNpkL/TjW me"
    workers = "".join(
        f"  - {{hostname: {name}, address: 192.168.77.2{name[-1]}, labels: {{disk: ssd}}, taints: ['lab=yes:NoSchedule']}}\n"
        for name in nodes
    )
    (folder / "cluster.yaml").write_text(
        "cluster: lab\ndomain: lab.example\n"
        f"kubernetes: {{distribution: kubeadm, version: v1.20.2, bundle: {cache() / 'bundle-1.20.2'}, cni: none}}\n"
        "defaults: {overlays: [bridge]}\n"
        f"network: {{subnet: 192.168.77.0/24, gateway: {GATEWAY}}}\n"
        f"users: [{{name: ops, ssh_keys: ['{key}']}}]\n"
        f"nodes:\n  - {{hostname: s1, address: {SERVER}, role: server}}\n{workers}"
    )


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Lab]:
    """Make the namespaces and the wire; end everything in them afterwards."""
    hold = "mount -t tmpfs none /etc/kubernetes && mount -t tmpfs none /var/lib/etcd && echo held && exec sleep infinity"
    # they stay: removing them would take another lab's mounts away
    for path in (Path("/etc/kubernetes"), Path("/var/lib/etcd")):
        path.mkdir(exist_ok=True)
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-c", hold],
        stdout=subprocess.PIPE,
    )
    lab = Lab(folder, holder)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        holder.stdout.close()
        lab.run("ip", "link", "set", "lo", "up")
        lab.run("ip", "link", "add", "wire", "type", "bridge")
        for address in (GATEWAY, SERVER):
            lab.run("ip", "address", "add", f"{address}/24", "dev", "wire")
        lab.run("ip", "link", "set", "wire", "up")
        lab.run("ip", "route", "add", "default", "dev", "wire")
        yield lab
    finally:
        lab.stop()


@dataclass
class Boot:
    """A card that is up: the process of `pibake boot`, and when it was switched on."""

    child: subprocess.Popen[str]
    started: float
    said: dict[str, Any] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """Wait for the report; what was said is kept."""
        assert self.child.stdout
        text = ""
        for line in self.child.stdout:
            text += line
            if line == "}\n":
                break
        assert text, f"pibake boot said nothing; status {self.child.wait()}"
        self.said = json.loads(text)
        return self.said

    def off(self, *, hard: bool = False) -> None:
        """Power off through the button, or as when the cable is pulled."""
        self.child.send_signal(signal.SIGKILL if hard else signal.SIGINT)
        self.child.wait(180)


@contextlib.contextmanager
def powered(
    lab: Lab, node: str, tap: str, *, folder: Path | None = None, wait: float = 300
) -> Iterator[Boot]:
    """Boot a card on a disk of its own that is kept."""
    where = folder or lab.folder
    # a shell's background job has SIGINT ignored, and `off` presses the button with it
    argv = lab.enter(
        "env", "--default-signal=INT", sys.executable, "-m", "pibake", "boot", node, "--tap", tap, "--disk", f"{node}.qcow2", "--keep", "--json",
        "--timeout", "900", "--wait", str(wait), "--log", f"{node}.console",
        folder=where,
    )  # fmt: skip
    with (where / f"{node}.boot.log").open("a") as log:
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
    boot = Boot(child, time.monotonic())
    try:
        yield boot
    finally:
        if child.poll() is None:
            boot.off(hard=True)
        if child.stdout:
            child.stdout.close()
