"""A disk over NBD in a real kernel: what is read and written waits while its server is gone, and nothing fails."""

from __future__ import annotations

import ipaddress
import os
import queue
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard
from tests.net.lab import TAP, lab
from tests.tools.netns import entered

from pibake import bases
from pibake.cache import Cache
from pibake.errors import PibakeError
from pibake.image import cpio, fat, kmodules, python, qcow2, table
from pibake.image.composition import Composition
from pibake.image.ext4_tree import Files
from pibake.netboot import nbd as node
from pibake.netboot.values import Ports, Site
from pibake.plan import BaseRef
from pibake.progress import Plain
from pibake.run import run, spawn
from pibake.serve import disks, nbd
from pibake.serve.gate import Gate
from pibake.tree import File, Tree
from pibake.vm import kernel

if TYPE_CHECKING:
    import subprocess

    from pibake.serve.engine import Engine

pytestmark = pytest.mark.flavours

SERVER, GUEST, PORT = "192.0.2.1", "192.0.2.2", 10809

PROBE = f"""#!/bin/sh
export PATH=/usr/bin:/usr/sbin:/bin:/sbin
mkdir -p /proc /sys /dev /run /mnt
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev && mount -t tmpfs tmpfs /run
say() {{ echo "PROBE $*" > /dev/ttyAMA0; }}
for name in virtio_mmio virtio_net ext4; do modprobe $name; done
while read -r name; do insmod /pibake/modules/$(uname -r)/$name.ko || modprobe $name; done < /pibake/modules/$(uname -r)/order
while ! ip link set eth0 up; do sleep 0.1; done
ip address add {GUEST}/24 dev eth0
read -r before _ < /proc/uptime
/pibake/nbd/attach {SERVER} {PORT} node1
read -r after _ < /proc/uptime
say attached "$before" "$after" "$(cat /sys/block/nbd0/size)" /dev/nbd0p*
pid=$(pidof ld.so)
say process "$(tr '\\0' ' ' < /proc/$pid/cmdline | cut -c1)" "$(cat /proc/$pid/oom_score_adj)" "$(grep VmLck /proc/$pid/status)"
grep -q overlay /proc/modules && say overlay
mount -t ext4 /dev/nbd0p2 /mnt && say mounted "$(cat /mnt/etc/debian_version)"
(while :; do cat /mnt/usr/lib/os-release /mnt/usr/bin/python3* > /dev/null || say READ FAILED; echo 1 > /proc/sys/vm/drop_caches; done) &
number=0
while [ $number -lt 12 ]; do
    number=$((number + 1))
    dd if=/dev/urandom of=/run/data bs=1M count=4 2> /dev/null
    cp /run/data /mnt/data$number && (cd /run && md5sum data | sed "s/data/data$number/" >> sums) || say WRITE FAILED
    [ $((number % 2)) = 0 ] && {{ sync /mnt/data$number || say SYNC FAILED; }}
    say wrote $number "$(cut -d' ' -f1 /proc/uptime)"
    sleep 0.3
done
kill %1
sync && echo 3 > /proc/sys/vm/drop_caches
(cd /mnt && md5sum -c /run/sums > /dev/null) && say data right
umount /mnt && say unmounted
say errors "$(dmesg | grep -c -E 'I/O error|EXT4-fs (error|warning)|Buffer I/O')"
dmesg | grep -E 'nbd' > /dev/ttyAMA0
say end
echo o > /proc/sysrq-trigger
sleep 60
"""


def give(engine: Engine) -> None:
    """Give the daemon its disks, as soon as it listens."""
    assert engine.adapt
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return engine.adapt()
        except PibakeError:
            time.sleep(0.05)
    raise AssertionError("the daemon does not listen")


class Guest:
    """The machine's console, line by line."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.lines: list[str] = []
        self.queue: queue.Queue[str] = queue.Queue()
        self.child = child
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for raw in self.child.stdout or ():
            self.lines.append(raw.decode("utf-8", "replace").strip())
            self.queue.put(self.lines[-1])

    def wait(self, start: str, limit: float = 120) -> str:
        """The rest of the line in which the probe says `start`."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            try:
                line = self.queue.get(timeout=deadline - time.monotonic())
            except queue.Empty:
                break
            assert "FAILED" not in line, "\n".join(self.lines[-60:])
            if (said := line.partition("PROBE ")[2]).startswith(start):
                return said.removeprefix(start).strip()
        pytest.fail("\n".join(self.lines[-60:]))


def initramfs(image: Path, folder: Path) -> None:
    """Unpack the kernel and write the initramfs with what `root: nbd` and this test add to it."""
    first, last = table.read(image).partitions
    fat.read(image, first.start, ["vmlinuz", "initrd.img"], folder)
    files = Files(image, last.start)
    release = kernel.release(folder / "vmlinuz")
    added = python.runtime(files) | kmodules.modules(files, release, ["nbd", "overlay"]) | node.client()
    packed = cpio.pack(added | Tree({"probe": File(PROBE.encode(), 0o755)}))
    whole = cpio.join((folder / "initrd.img").read_bytes(), zstandard.ZstdCompressor().compress(packed))
    (folder / "initrd").write_bytes(whole)


@pytest.mark.parametrize("base", ["debian-11", "debian-12-ifupdown", "debian-13"])
def test_i_o_waits_for_a_server_that_is_killed_or_cut_off(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIBAKE_CATALOG", str(Path(__file__).with_name("bases.yaml")))
    golden = bases.obtain(BaseRef(name=base), Cache(), Plain()).image
    initramfs(golden, tmp_path)
    length = golden.stat().st_size
    qcow2.write(Composition(golden, "", length, length, (), ()), tmp_path / "node1.qcow2")
    site = Site("br0", ipaddress.IPv4Interface(f"{SERVER}/24"), ports=Ports(nbd=PORT))
    serving = disks.engine([nbd.Disk("node1", tmp_path / "node1.qcow2", golden)], tmp_path / "qmp")
    gate = Gate(site, disks.socket_of(tmp_path / "qmp"), lambda _: ["node1"])
    machine: list[str | Path] = [
        "nice", "-n", "15", "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi",
        "-smp", "2", "-m", "1024", "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", tmp_path / "vmlinuz", "-initrd", tmp_path / "initrd",
        "-append", "console=ttyAMA0 quiet rdinit=/probe net.ifnames=0 panic=-1",
        "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no", "-device", "virtio-net-device,netdev=net",
    ]  # fmt: skip
    with lab(f"{SERVER}/24") as made, made.tap() as tap:
        name = made.server
        inside: list[str | Path] = ["ip", "netns", "exec", name]
        with spawn([*inside, *machine]) as child, entered(name), gate:
            guest = Guest(child)
            with spawn([*inside, *serving.command]) as daemon:
                give(serving)
                before, after, sectors, *partitions = guest.wait("attached").split()
                assert float(after) - float(before) < 15
                assert int(sectors) * 512 == length
                assert partitions == ["/dev/nbd0p1", "/dev/nbd0p2"]
                assert guest.wait("process").startswith("@ -1000")
                guest.wait("overlay")
                guest.wait(f"mounted {base.split('-')[1]}")
                guest.wait("wrote 3")
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.wait()
            time.sleep(5)
            with spawn([*inside, *serving.command]) as daemon:
                give(serving)
                guest.wait("wrote 8")
                run(["ip", "-n", name, "link", "set", tap, "down"])
                time.sleep(45)  # longer than the client's SILENCE
                run(["ip", "-n", name, "link", "set", tap, "up"])
                guest.wait("data right")
                guest.wait("unmounted")
                assert guest.wait("errors") == "0"
                guest.wait("end")
