"""Test boots: a card's image in `qemu-system-aarch64 -M virt`, from a copy-on-write disk.

The kernel, the initramfs and the command line come out of the image's own boot partition, found through its
config.txt as the firmware would, so that what the seed says is what is booted. QEMU has no Pi with a network
(docs/system/arm/raspi.rst), hence `virt`: of the command line only the console and the splash are changed.
"""

from __future__ import annotations

import base64
import json
import platform
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from pibake import accel, resources
from pibake.errors import BootFailed
from pibake.image import fat
from pibake.image.layout import boot_partition
from pibake.run import find, spawn
from pibake.tree import File, Tree
from pibake.vm import disk
from pibake.vm.command import command

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

FATAL = re.compile(
    r"Kernel panic|ALERT!|emergency (mode|shell)|\(initramfs\)|Unable to mount root|"
    r"Give root password for maintenance|No init found"
)
"""What a machine prints when it will wait for a person for ever."""

STALLED = re.compile(r"systemd\[1\]: Freezing execution")
"""systemd gives its generators 90 s of the guest's clock (systemd.generator(7)), which is the host's: on a host so
busy that emulation stands still for that long, the machine is at fault and not the card."""


class StalledError(BootFailed):
    """The emulated machine stood still for so long that its systemd gave up: it has to be started again."""


FINISHED = re.compile(r"Reached target .*cloud-init\.target|Cloud-init v\. \S+ finished")


@dataclass(frozen=True)
class Boot:
    """What a test boot needs to know: the image, its manifest, and how to run it.

    `tap` is a tap device to put the node's Ethernet on, or "" for a network of its own with nobody else on it;
    `patience` is for how many seconds a node may wait for others before it reports that it does.
    """

    image: Path
    manifest: Mapping[str, Any]
    disk: Path | None = None
    memory: int = 2048
    timeout: float = 600.0
    tap: str = ""
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
        finished = 0.0
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
            if not lines and not finished and any(FINISHED.search(line) for line in list(self.console)):
                finished = time.monotonic()
            if not lines and finished and time.monotonic() - finished > 20:
                raise BootFailed(
                    "cloud-init has finished, but not with this seed: the reporter was not started",
                    console=self.tail(),
                    hint="does this base's cloud-init read its NoCloud seed from the boot partition?",
                )
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
    start, length = (part := boot_partition(boot.image)).start, part.size
    disk_file, disk_bytes = disk.prepare(boot.image, boot.disk, folder)
    partition = folder / "boot.fat"
    disk.take_partition(disk_file, start, length, partition)
    renewed = disk.seed_files(boot.image, start, boot.manifest) if boot.disk else Tree()
    if (
        boot.disk
        and fat.read_text(partition, 0, ["meta-data"]).get("meta-data", "").encode()
        == renewed["meta-data"].data
    ):
        renewed = Tree()  # the same seed: what the node has scrubbed stays scrubbed
    fat.write(partition, 0, renewed | Tree({"vendor-data": File(_reporter(boot.patience))}), epoch=0)
    disk.put_partition(partition, disk_file, start)
    files = disk.extract_boot_files(partition, folder)
    partition.unlink()
    accelerator = "kvm" if platform.machine() == "aarch64" and accel.kvm().works else "tcg"
    port = _free_port()
    (folder / "report").write_bytes(b"")
    find("qemu-system-aarch64", "boot the image")
    argv = command(
        folder,
        disk_file,
        files=files,
        node=boot.manifest["node"],
        accelerator=accelerator,
        ssh_port=port,
        tap=boot.tap,
        memory=boot.memory,
    )
    # Whatever ends this process, even SIGKILL, ends the machine: nobody else knows of it.
    with spawn(["setpriv", "--pdeathsig", "KILL", *argv], why="boot the image") as child:
        machine = Machine(child, folder, disk_bytes, port, accelerator)
        reader = threading.Thread(
            target=_drain, args=(child.stdout, machine, boot.on_console, folder), daemon=True
        )
        reader.start()
        yield machine


def _reporter(patience: float) -> bytes:
    """Return the vendor-data that starts the reporter: a boothook, since only those run at every boot."""
    program = resources.path("cloud-init", "report", "report.py").read_bytes()
    encoded = base64.encodebytes(program).decode().strip()
    return resources.render("cloud-init/report/vendor-data.j2", program=encoded, patience=patience).encode()


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
