"""A board without a card: served, played to its kernel, and booted from there to a node that is well."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from tests.boot.wire import MAC, wire
from tests.net import uefi

from pibake.netboot.values import PROXY, SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.boot.wire import Wire

    from pibake import vm


WRITER = "sh -c 'while date >> /var/tmp/beats; do sync /var/tmp/beats; sleep 1; done' > /dev/null 2>&1 &"


def beats(wired: Wire) -> int:
    """How often the node has written since the writer was started."""
    return int(wired.ssh("wc -l < /var/tmp/beats"))


def goes_on(wired: Wire, limit: float = 90) -> None:
    """Wait until the node writes, and reads what it has not read before, as it did."""
    deadline = time.monotonic() + limit
    before = beats(wired)
    while beats(wired) < before + 3:
        assert time.monotonic() < deadline
        time.sleep(1)
    wired.ssh("sudo sh -c 'echo 3 > /proc/sys/vm/drop_caches' && sha256sum /usr/bin/python3 > /dev/null")
    wired.ssh("! sudo dmesg | grep -E 'I/O error|EXT4-fs error|Remounting filesystem read-only'")


@pytest.mark.boot
def test_a_board_without_a_card_becomes_its_node(tmp_path: Path, debian_13: Path) -> None:
    assert debian_13.exists()
    with wire(tmp_path) as wired:
        wired.serve()
        with wired.machine(wired.plays("pi4")) as machine:
            report = wired.report(machine)
            assert wired.problems(report) == []
            assert wired.status()["nodes"]["node3"]["report"]["stage"] == "scrubbed"
            assert wired.ssh("findmnt -n -o FSTYPE /") == "overlay"
            assert wired.ssh("findmnt -n -o FSTYPE /var/lib/containerd") == "ext4"
            wired.ssh(WRITER)
            wired.kill("ganesha.nfsd")
            goes_on(wired)
            wired.stop(signal.SIGKILL)
            wired.serve()
            goes_on(wired)


ROOTS = [
    pytest.param(base, root, id=f"{base}-{root}")
    for base in ("debian-13", "debian-12")
    for root in ("nfs", "nbd")
]


@pytest.mark.flavours
@pytest.mark.parametrize(("base", "root"), ROOTS)
def test_every_engine_may_die_while_a_node_boots_and_while_it_runs(
    base: str, root: str, tmp_path: Path, debian_13: Path
) -> None:
    assert debian_13.exists()
    engines = ["dnsmasq", {"nfs": "ganesha.nfsd", "nbd": "qemu-storage-daemon"}[root]]
    with wire(tmp_path, base=base, node=f"root: {root}") as wired:
        wired.serve()
        with wired.machine(wired.plays("pi4")) as machine:
            until(machine, r"systemd\[1\]: Detected architecture|Welcome to")
            for engine in engines:
                wired.kill(engine)
            until(machine, r"cloud-init\[\d+\]: Cloud-init v\..* running")
            wired.stop(signal.SIGKILL)
            wired.serve()
            report = wired.report(machine, 600)
            assert wired.problems(report) == []
            wired.ssh(WRITER)
            for engine in engines:
                wired.kill(engine)
                goes_on(wired)
            wired.ssh("sudo cp /etc/ssh/ssh_host_ed25519_key.pub /var/tmp/ && sync")
            before = beats(wired)
        # the power is cut: the machine is gone without a word, in the middle of its writes
        with wired.machine(wired.plays("pi4")) as machine:
            report = wired.report(machine, 600)
            assert wired.problems(report) == []
            assert beats(wired) >= before
            wired.ssh("cmp /var/tmp/ssh_host_ed25519_key.pub /etc/ssh/ssh_host_ed25519_key.pub")
            machine.power_off()
        own = wired.netboot / "nodes/node3"
        judges: dict[str, list[str | Path]] = {
            "nfs": ["e2fsck", "-fn", own / "export/state.img"],
            "nbd": ["qemu-img", "check", "-q", own / "disk.qcow2"],
        }
        wired.stop()
        subprocess.run(judges[root], check=True)


@pytest.mark.flavours
@pytest.mark.parametrize("dhcp", [SERVER, PROXY])
@pytest.mark.parametrize("http", [False, True], ids=["pxe", "http"])
def test_a_machine_boots_from_nothing_but_its_uefi(
    http: bool, dhcp: str, tmp_path: Path, debian_13: Path
) -> None:
    assert debian_13.exists()
    with wire(tmp_path, board="generic", dhcp=dhcp) as wired:
        wired.serve()
        with wired.lab.tap() as tap, uefi.power_on(tap, MAC, tmp_path, http=http, memory=2048) as machine:
            machine.until("Linux version", 180)
            deadline = time.monotonic() + 400
            while (wired.status()["nodes"]["node3"]["report"] or {}).get("stage") != "scrubbed":
                assert time.monotonic() < deadline, machine.log.read_text("utf-8", "replace")[-2000:]
                time.sleep(1)


@pytest.mark.flavours
def test_a_node_may_keep_everything_in_memory(tmp_path: Path, debian_13: Path) -> None:
    assert debian_13.exists()
    with wire(tmp_path, node="root: nfs, state: ram", dhcp=PROXY) as wired:
        wired.serve()
        played = wired.plays("pi4")
        ids = []
        for _ in range(2):
            with wired.machine(played) as machine:
                assert wired.problems(wired.report(machine), 0) == []
                assert wired.ssh("findmnt -n -o FSTYPE /var/lib/kubelet") == "tmpfs"
                ids.append(wired.ssh("cat /etc/machine-id"))
        assert ids[0] == ids[1]


@pytest.mark.flavours
def test_a_node_may_keep_its_files_on_a_disk_of_its_own(tmp_path: Path, debian_13: Path) -> None:
    assert debian_13.exists()
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8G"], check=True)
    with wire(tmp_path, node="root: nfs, state: /dev/vda") as wired:
        wired.serve()
        played = wired.plays("pi4")
        with wired.machine(played, disk) as machine:
            assert wired.problems(wired.report(machine), 8 << 30) == []
            wired.ssh("echo kept > /var/tmp/mark && sync")
        with wired.machine(played, disk) as machine:
            wired.report(machine)
            assert wired.ssh("cat /var/tmp/mark") == "kept"
            assert wired.ssh("findmnt -n -o SOURCE /var/lib/kubelet").startswith("/dev/vda")


@pytest.mark.flavours
@pytest.mark.parametrize("root", ["nfs", "nbd"])
def test_a_server_whose_disk_is_full_costs_what_is_written_then_and_no_more(
    root: str, tmp_path: Path, debian_13: Path
) -> None:
    assert debian_13.exists()
    with wire(tmp_path, node=f"root: {root}") as wired, disk_of(wired.netboot, 4 << 30):
        wired.serve()
        played = wired.plays("pi4")
        with wired.machine(played) as machine:
            assert wired.problems(wired.report(machine)) == []
            wired.ssh("echo kept > /var/tmp/mark && sync")
            filler = wired.netboot / "filler"
            with suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
            wired.ssh("! dd if=/dev/urandom of=/var/tmp/big bs=1M count=300 conv=fsync 2> /dev/null")
            wired.until("MiB left: when there is nothing, nodes' writes fail")
            filler.unlink()
        with wired.machine(played) as machine:
            report = wired.report(machine, 600)
            assert wired.problems(report) == []
            assert wired.ssh("cat /var/tmp/mark") == "kept"
            wired.ssh("dd if=/dev/urandom of=/var/tmp/big bs=1M count=300 conv=fsync 2> /dev/null")
            machine.power_off()
        wired.stop()


@contextmanager
def disk_of(folder: Path, size: int) -> Iterator[None]:
    """Have a folder be on a disk of its own."""
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def until(machine: vm.Machine, pattern: str, limit: float = 300) -> None:
    """Wait until the console has said something."""
    deadline = time.monotonic() + limit
    while not any(re.search(pattern, line) for line in list(machine.console)):
        assert machine.child.poll() is None, machine.tail()
        assert time.monotonic() < deadline, machine.tail()
        time.sleep(0.2)
