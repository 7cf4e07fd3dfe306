"""Test boots: a card's image in `qemu-system-aarch64 -M virt`, from a copy-on-write disk.

The kernel, the initramfs and the command line come out of the image's own boot partition, found through its
config.txt as the firmware would, so that what the seed says is what is booted. QEMU has no Pi with a network
(docs/system/arm/raspi.rst), hence `virt`: of the command line only the console and the splash are changed, and to
the initramfs the reporter is added.
"""

from __future__ import annotations

import json
import platform
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pibake import accel
from pibake.errors import BootFailed, PibakeError
from pibake.image.layout import boot_partition
from pibake.run import find, spawn
from pibake.vm import disk, kernel, reporter, storage
from pibake.vm.command import command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence

FATAL = re.compile(
    r"Kernel panic|ALERT!|emergency (mode|shell)|\(initramfs\)|Unable to mount root|"
    r"Give root password for maintenance|No init found|Failed to execute /pibake"
)
"""What a machine prints when it will wait for a person for ever."""

ELSEWHERE = (
    "only a board can judge this card; one of the base debian-13 with the same node can be booted in QEMU"
)
"""What to do about an image that cannot be judged here."""

STALLED = re.compile(r"systemd\[1\]: Freezing execution")
"""systemd gives its generators 90 s of the guest's clock (systemd.generator(7)), which is the host's: on a host so
busy that emulation stands still for that long, the machine is at fault and not the card."""


class StalledError(BootFailed):
    """The emulated machine stood still for so long that its systemd gave up: it has to be started again."""


@dataclass(frozen=True)
class Boot:
    """What a test boot needs to know: the image, its manifest, and how to run it.

    `tap` is a tap device to put the node's Ethernet on, or "" for a network of its own with nobody else on it, and `outer` the same
    for the head's second port;
    `patience` is for how many seconds a node may wait for others before it reports that it does.
    """

    image: Path
    manifest: Mapping[str, Any]
    disk: Path | None = None
    memory: int = 2048
    timeout: float = 600.0
    tap: str = ""
    outer: str = ""
    patience: float = 10.0
    on_console: Callable[[str], None] = lambda _: None
    on_progress: Callable[[str], None] = lambda _: None


@dataclass
class Machine:
    """A machine that runs: its report once it has one, and where SSH reaches it."""

    child: subprocess.Popen[bytes]
    folder: Path
    disk_bytes: int
    ssh_port: int
    accelerator: str
    started: float = field(default_factory=time.monotonic)
    console: list[str] = field(default_factory=list)
    seconds: float = 0.0
    starts: int = 1

    def wait_for_report(self, boot: Boot) -> dict[str, Any]:
        """Return the node's report.

        Raises:
            BootFailed: the machine stopped, waits for a person, or ran out of time.
        """
        seen = 0
        while time.monotonic() - self.started < boot.timeout:
            lines = (self.folder / "report").read_text("utf-8", "replace").split("\n")[:-1]
            for message in map(json.loads, lines[seen:]):
                if "report" in message:
                    self.seconds = time.monotonic() - self.started
                    return dict(message["report"])
                if "failed" in message:
                    raise BootFailed(
                        f"the reporter inside the machine failed:\n{message['failed']}", console=self.tail()
                    )
                boot.on_progress(message["progress"])
            seen = len(lines)
            if any(STALLED.search(line) for line in list(self.console)):
                raise StalledError("the machine stood still, and systemd gave up", console=self.tail())
            if fatal := next((line for line in list(self.console) if FATAL.search(line)), ""):
                time.sleep(1)  # what comes just after the first bad line says more
                raise BootFailed(f"the machine gave up: {fatal.strip()}", console=self.tail())
            if self.child.poll() is not None:
                raise BootFailed(
                    f"QEMU ended with status {self.child.returncode}: {self._said()}", console=self.tail()
                )
            time.sleep(0.1)
        raise BootFailed(
            f"no health report within {boot.timeout:g} s",
            console=self.tail(),
            hint="watch it with --console; a slow host needs a longer --timeout",
        )

    def tail(self) -> str:
        """Return the last lines of the console."""
        return "\n".join(self.console[-40:])

    def power_off(self, limit: float = 90.0) -> None:
        """Press the power button and wait: what the node wrote is on its disk afterwards."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.folder / "qmp"))
            for command in ("qmp_capabilities", "system_powerdown"):
                monitor.sendall(json.dumps({"execute": command}).encode())
            deadline = time.monotonic() + limit
            while self.child.poll() is None:
                if time.monotonic() > deadline:
                    raise BootFailed(f"the machine did not power off within {limit:g} s", console=self.tail())
                time.sleep(0.1)

    def _said(self) -> str:
        stderr = self.child.stderr
        return stderr.read().decode("utf-8", "replace").strip() if stderr else ""


@contextmanager
def booted(boot: Boot, folder: Path) -> Iterator[Machine]:
    """Boot an image; end the machine when the block is left. `folder` is for its disk, sockets and log."""
    disk_file, disk_bytes = disk.prepare(boot.image, boot.disk, folder)
    disks = storage.prepare(boot.manifest["node"].get("disks", ()), folder, boot.disk)
    files = _boot_files(boot, disk_file, folder, storage.rules(disks))
    with running(
        folder, files, boot.manifest["node"], disk_file=disk_file, tap=boot.tap, outer=boot.outer, memory=boot.memory,
        on_console=boot.on_console, disks=disks,
    ) as machine:  # fmt: skip
        machine.disk_bytes = disk_bytes
        yield machine


@contextmanager
def running(
    folder: Path,
    files: Mapping[str, str],
    node: Mapping[str, Any],
    *,
    disk_file: Path | None = None,
    tap: str = "",
    outer: str = "",
    memory: int = 2048,
    on_console: Callable[[str], None] = lambda _: None,
    disks: Sequence[storage.Storage] = (),
) -> Iterator[Machine]:
    """Run a machine with a kernel, an initramfs and a command line, as a boot loader has them; end it with the block.

    Args:
        folder: for its sockets, its report and its log.
        files: paths of "kernel" and "initramfs", and the text of "cmdline".
        node: its "hostname", "mac" and network, as in a manifest.
        disk_file: its disk, or None for a machine that has none.
        tap: a tap device to put its Ethernet on, or "" for a network of its own with nobody else on it.
        outer: the same for the head's second port.
        memory: in MiB.
        on_console: told each line of its console.
        disks: its data disks.
    """
    accelerator = "kvm" if platform.machine() == "aarch64" and accel.kvm().works else "tcg"
    port = _free_port()
    (folder / "report").write_bytes(b"")
    find("qemu-system-aarch64", "boot the image")
    argv = command(
        folder,
        disk_file,
        files=files,
        node=node,
        accelerator=accelerator,
        ssh_port=port,
        tap=tap,
        memory=memory,
        disks=disks,
        outer=outer,
    )
    # Whatever ends this process, even SIGKILL, ends the machine: nobody else knows of it.
    with spawn(["setpriv", "--pdeathsig", "KILL", *argv], why="boot the image") as child:
        machine = Machine(child, folder, 0, port, accelerator)
        reader = threading.Thread(
            target=_drain, args=(child.stdout, machine, on_console, folder), daemon=True
        )
        reader.start()
        yield machine


def _boot_files(boot: Boot, disk_file: Path, folder: Path, rules: str) -> Mapping[str, str]:
    """Give a kept disk its image's seed, and take out what QEMU needs: kernel, initramfs with reporter and udev rules, command line.

    Raises:
        PibakeError: no test boot can judge this image.
    """
    part = boot_partition(boot.image)
    partition = folder / "boot.fat"
    disk.take_partition(disk_file, part.start, part.size, partition)
    if boot.disk and disk.renew_seed(partition, boot.image, part.start, boot.manifest):
        disk.put_partition(partition, disk_file, part.start)
    files = dict(disk.extract_boot_files(partition, folder))
    partition.unlink()
    if kernel.lacks_virtio(version := kernel.release(Path(files["kernel"]))):
        raise PibakeError(
            f"Linux {version} cannot boot in QEMU: Raspberry Pi's own kernels have no virtio, and so no disk there",
            ELSEWHERE,
        )
    if not files["initramfs"]:
        raise PibakeError(
            "without an initramfs in the image a test boot has no way to ask the node", ELSEWHERE
        )
    vehicle = boot.manifest.get("vehicle", "cloud-init")
    own = Path(files["initramfs"]).read_bytes()
    initramfs = folder / "initramfs-and-reporter"
    initramfs.write_bytes(reporter.add(own, patience=boot.patience, vehicle=vehicle, rules=rules))
    return files | {"initramfs": str(initramfs)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _drain(
    stream: IO[bytes] | None, machine: Machine, on_console: Callable[[str], None], folder: Path
) -> None:
    """Keep the console: in memory for judging, in a file for people, and to whoever watches."""
    with (folder / "console.log").open("ab") as log, suppress(ValueError, OSError):
        for raw in stream or ():
            log.write(raw)
            log.flush()
            line = raw.decode("utf-8", "replace").rstrip()
            machine.console.append(line)
            on_console(line)
