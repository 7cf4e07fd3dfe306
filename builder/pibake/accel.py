"""Whether hardware virtualisation works here: found out by running a guest, not by looking for /dev/kvm.

A device node that exists says little: in nested and cloud machines guests often start and then hang. So a
program of a few bytes is run that writes one character to a serial port, under a time limit.
"""

from __future__ import annotations

import functools
import os
import platform
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pibake.run import spawn

PROBE_SECONDS = 2.0
"""A sound host answers in a tenth of a second; one whose KVM takes seconds for this never boots a kernel."""
SIGN = b"K"

_AARCH64 = struct.pack(
    "<4I",
    0xD2A12000,  # mov x0, #0x09000000   the PL011's data register on -M virt (QEMU hw/arm/virt.c, VIRT_UART)
    0x52800961,  # mov w1, #'K'
    0x39000001,  # strb w1, [x0]
    0x14000000,  # b .
)
_X86_BOOT_SECTOR = bytes.fromhex("baf803 b04b ee f4 ebfd")  # mov dx, 0x3f8; mov al, 'K'; out dx, al; hlt; jmp


@dataclass(frozen=True)
class Verdict:
    """Whether guests of the host's own architecture may use KVM, and why not."""

    works: bool
    reason: str


@functools.cache
def kvm() -> Verdict:
    """Find out, once per process, whether KVM guests run."""
    device = Path("/dev/kvm")
    if not device.exists():
        return Verdict(works=False, reason="there is no /dev/kvm")
    if not os.access(device, os.R_OK | os.W_OK):
        return Verdict(works=False, reason="no permission for /dev/kvm; join the group kvm")
    return probe("kvm", platform.machine())


def probe(accelerator: str, machine: str, limit: float = PROBE_SECONDS) -> Verdict:
    """Run a guest that writes one character, under `accelerator` ("kvm" or "tcg"), for `limit` seconds at most."""
    with tempfile.TemporaryDirectory(prefix="pibake-") as folder:
        payload, out = Path(folder, "payload"), Path(folder, "serial")
        if machine == "aarch64":
            payload.write_bytes(_AARCH64)
            cpu = "host" if accelerator == "kvm" else "cortex-a72"
            argv = ["qemu-system-aarch64", "-M", "virt", "-cpu", cpu]
            argv += ["-device", f"loader,file={payload},addr=0x40200000,cpu-num=0"]
        elif machine == "x86_64":
            payload.write_bytes(_X86_BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa")
            argv = [
                "qemu-system-x86_64",
                "-M",
                "pc",
                "-drive",
                f"file={payload},format=raw,if=floppy,readonly=on",
            ]
        else:
            return Verdict(works=False, reason=f"no probe for {machine} machines")
        argv += ["-accel", accelerator, "-m", "64", "-display", "none", "-monitor", "none", "-nodefaults"]
        argv += ["-serial", f"file:{out}", "-boot", "a"]
        started = time.monotonic()
        with spawn(argv, why=f"find out whether {accelerator} works") as child:
            while time.monotonic() - started < limit:
                if out.exists() and SIGN in out.read_bytes():
                    return Verdict(
                        works=True, reason=f"a guest answered after {time.monotonic() - started:.1f} s"
                    )
                if child.poll() is not None:
                    said = child.stderr.read().decode("utf-8", "replace").strip() if child.stderr else ""
                    return Verdict(
                        works=False, reason=said.splitlines()[-1] if said else "QEMU ended at once"
                    )
                time.sleep(0.02)
    return Verdict(works=False, reason=f"a guest could not say one character within {limit:g} s")
