"""A machine with nothing but UEFI firmware and a network card, in QEMU: what it loads comes from the wire.

Debian's AAVMF (package qemu-efi-aarch64) tries, per card: PXE over IPv4, PXE over IPv6, HTTP over IPv4, HTTP over IPv6.
Each that nobody answers takes half a minute, so those that are not wanted are switched off from outside: the firmware reads
`opt/org.tianocore/IPv4PXESupport` and `IPv6PXESupport` from fw_cfg (edk2, OvmfPkg/RUNTIME_CONFIG.md). There is no such
switch for HTTP, which needs none: it comes after PXE.
"""

from __future__ import annotations

import selectors
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRMWARE = Path("/usr/share/AAVMF")


@dataclass
class Machine:
    """A running machine; `console` is what it has said so far."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)
    console: str = ""

    def until(self, text: str, limit: float) -> float:
        """Return the seconds from power-on until the console says `text`; `AssertionError` if it does not in time."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as ready, self.log.open("ab") as log:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            while text not in self.console:
                left = self.started + limit - time.monotonic()
                data = self.process.stdout.read1(65536) if left > 0 and ready.select(left) else b""  # type: ignore[attr-defined]
                assert data, f"no {text!r} within {limit:g} s; the console ended: {self.console[-1500:]}"
                log.write(data)
                log.flush()
                self.console += data.decode("utf-8", "replace")
        return time.monotonic() - self.started


@contextmanager
def power_on(
    tap: str,
    mac: str,
    folder: Path,
    *,
    http: bool = False,
    secure: bool = False,
    memory: int = 1024,
    enter: Sequence[str] = (),
) -> Iterator[Machine]:
    """Start a UEFI machine without any disk, and end it with the block.

    Args:
        tap: its tap device.
        mac: its MAC address.
        folder: for its variables, and for `console.log`.
        http: let it boot by HTTP first, not by PXE.
        secure: have Secure Boot on, with Microsoft's keys.
        memory: MiB.
        enter: what to put before the command: how to get where the tap is, such as `ip netns exec NAME`.
    """
    variables = folder / "variables.fd"
    shutil.copy(FIRMWARE / ("AAVMF_VARS.ms.fd" if secure else "AAVMF_VARS.fd"), variables)
    argv = [
        *enter, "setpriv", "--pdeathsig", "KILL", "nice", "-n", "15",
        "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi", "-m", str(memory),
        "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
        "-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE / 'AAVMF_CODE.fd'}",
        "-drive", f"if=pflash,format=raw,file={variables}",
        "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=net,mac={mac},romfile=,bootindex=0",
        "-device", "virtio-rng-pci",
        "-fw_cfg", f"name=opt/org.tianocore/IPv4PXESupport,string={'n' if http else 'y'}",
        "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n",
    ]  # fmt: skip
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield Machine(process, folder / "console.log")
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
