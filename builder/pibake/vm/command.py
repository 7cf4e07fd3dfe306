"""The QEMU command line of a test boot."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from typing import TYPE_CHECKING, Any

from pibake.vm.storage import arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pibake.vm.storage import Storage

REPORT_PORT = "io.pibake.report"


def command(
    folder: Path,
    disk: Path | None,
    *,
    files: Mapping[str, str],
    node: Mapping[str, Any],
    accelerator: str,
    ssh_port: int,
    tap: str,
    memory: int,
    outer: str = "",
    disks: Sequence[Storage] = (),
) -> list[str | Path]:
    """Return the command that boots `disk`, or nothing, with a kernel of its own and data `disks`; sockets and the report go into `folder`.

    The head has a second port, on the tap device `outer` or on a network of its own with nobody else on it.
    """
    cpu = "host" if accelerator == "kvm" else "cortex-a72"
    engine = accelerator if accelerator == "kvm" else "tcg,thread=multi"
    storage = [
        "-drive", f"file={disk},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap",
        "-device", "virtio-blk-device,drive=disk",
    ]  # fmt: skip
    return [
        "qemu-system-aarch64", "-M", "virt", "-cpu", cpu, "-accel", engine,
        "-smp", str(min(4, os.cpu_count() or 1)), "-m", str(memory),
        "-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", files["kernel"], "-initrd", files["initramfs"], "-append", files["cmdline"],
        *(storage if disk else ()),
        *arguments(disks),
        *(_outer(node["head"], outer) if node.get("head") else ()),
        "-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no" if tap else network(node, ssh_port),
        "-device", f"virtio-net-device,netdev=net,mac={node['mac'] or local_mac(node['hostname'])}",
        "-device", "virtio-rng-device",
        "-device", "virtio-serial-device",
        "-chardev", f"file,id=report,path={folder / 'report'}",
        "-device", f"virtserialport,chardev=report,name={REPORT_PORT}",
        "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off",
    ]  # fmt: skip


def _outer(head: Mapping[str, Any], tap: str) -> list[str]:
    """Return the head's second port; Linux names ports on virtio-mmio from the last to the first: this is eth1."""
    if head["upstream"]["wifi"]:
        return []
    fixed = head["upstream"]["address"]
    net = f",net={ipaddress.ip_interface(fixed).network}" if fixed != "dhcp" else ""
    mac = head["upstream"]["mac"] or local_mac("outer")
    return [
        "-netdev", f"tap,id=outer,ifname={tap},script=no,downscript=no" if tap else f"user,id=outer,restrict=on{net}",
        "-device", f"virtio-net-device,netdev=outer,mac={mac}",
    ]  # fmt: skip


def local_mac(hostname: str) -> str:
    """Return a locally administered address (IEEE 802 section 8.4) of a node's own: QEMU gives every machine the same."""
    digest = hashlib.sha256(hostname.encode()).hexdigest()
    return "52:54:00:" + ":".join(digest[index : index + 2] for index in (0, 2, 4))


def network(node: Mapping[str, Any], port: int) -> str:
    """Return QEMU's `-netdev` for a node with a static address: its own subnet, cut off from everything.

    `restrict=on` lets nothing out of the machine; only the host's loopback port reaches its SSH server. The
    built-in servers get addresses that the node does not have: an answer from them to duplicate address detection
    would take its own address away from it.
    """
    inside = ipaddress.ip_interface(node["address"])
    if inside.version == 6 or inside.network.num_addresses < 8 or node["vlan"]:
        return "user,id=net,restrict=on"
    gateway = ipaddress.ip_address(node["gateway"]) if node["gateway"] else None
    taken = {inside.ip, gateway}
    last = int(inside.network.broadcast_address) - 1
    free = [a for a in (ipaddress.ip_address(last - n) for n in range(5)) if a not in taken]
    host = gateway or free.pop()
    return (
        f"user,id=net,restrict=on,net={inside.network},host={host},dns={free[0]},dhcpstart={free[1]},"
        f"hostfwd=tcp:127.0.0.1:{port}-{inside.ip}:22"
    )
