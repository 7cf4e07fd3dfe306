"""A machine with UEFI firmware and no disk starts Debian's kernel from the wire: by PXE and by HTTP, beside a router and without.

All of it is in namespaces that end with the test: a bridge is the wire, and a second dnsmasq plays the router.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

import pytest
from tests.net import uefi

from pibake import bases
from pibake.boards import BOARDS
from pibake.cache import Cache
from pibake.image import fat
from pibake.image.layout import boot_partition
from pibake.netboot import grub
from pibake.netboot.values import Client, Site
from pibake.plan import BaseRef
from pibake.progress import Silent
from pibake.serve import signedgrub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.flavours, pytest.mark.base]

MAC = "52:54:00:12:34:56"
CLIENT = Client("node3", IPv4Address("10.88.0.13"), MAC, "", BOARDS["generic"], "nbd")
SITE = Site("wire", IPv4Interface("10.88.0.1/24"))
COMMON = f"""
port=0
bind-interfaces
except-interface=lo
enable-tftp
tftp-unique-root=mac
pxe-service=0,"Raspberry Pi Boot   "
dhcp-pxe-vendor=PXEClient,HTTPClient
dhcp-match=set:pxe,option:client-arch,11
dhcp-match=set:http,option:client-arch,19
dhcp-boot=tag:pxe,{grub.SHIM}
dhcp-boot=tag:http,{grub.url(SITE)}
"""
"""What every board gets, the Raspberry Pi's service among it: without any, dnsmasq would not answer HTTPClient as such."""
RANGES = {
    "server": f"dhcp-range=10.88.0.0,static\ndhcp-host={MAC},10.88.0.13\n",
    "proxy": "dhcp-range=10.88.0.0,proxy\n",
}
"""Server: an address for each node. Proxy: beside a router that gives the addresses."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, debian_13: Path) -> Path:
    """The root of TFTP and HTTP."""
    root = tmp_path_factory.mktemp("tftp")
    base = bases.obtain(BaseRef(name="debian-13"), Cache(), Silent())
    (signedgrub.tree(base, Cache(), Silent()) | grub.shared()).write(root)
    cmdline = "console=ttyAMA0 pibake.test=a;b panic=-1"
    folder = root / CLIENT.folder
    folder.mkdir()
    text = grub.node(CLIENT, kernel="vmlinuz", initrds=["initrd.img"], cmdline=cmdline)
    (folder / grub.CONFIG).write_text(text)
    fat.read(debian_13, boot_partition(debian_13).start, ["vmlinuz", "initrd.img"], folder)
    for name in grub.SHARED:
        (folder / name).symlink_to(f"../{name}")
    (folder / CLIENT.folder).symlink_to(".")
    return root


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def wire(*, router: bool) -> Iterator[tuple[str, str]]:
    """Make a bridge with a tap, in a namespace of its own, and return that and the router's."""
    here, there = f"uefi-{os.getpid()}", f"uefi-router-{os.getpid()}"
    try:
        ip("netns", "add", here)
        ip("netns", "add", there)
        ip("-n", here, "link", "add", "wire", "type", "bridge")
        ip("-n", here, "address", "add", str(SITE.address), "dev", "wire")
        ip("-n", here, "link", "set", "wire", "up")
        ip("-n", here, "tuntap", "add", "tap", "mode", "tap")
        ip("-n", here, "link", "set", "tap", "master", "wire", "up")
        if router:
            ip("link", "add", "uplink", "netns", here, "type", "veth", "peer", "name", "lan", "netns", there)
            ip("-n", here, "link", "set", "uplink", "master", "wire", "up")
            ip("-n", there, "address", "add", "10.88.0.254/24", "dev", "lan")
            ip("-n", there, "link", "set", "lan", "up")
        yield here, there
    finally:
        for name in (here, there):
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


@contextmanager
def running(namespace: str, *argv: str | Path) -> Iterator[None]:
    words = ["ip", "netns", "exec", namespace, "setpriv", "--pdeathsig", "KILL", *map(str, argv)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield
        finally:
            child.kill()


def dnsmasq(folder: Path, name: str, text: str) -> list[str | Path]:
    config = folder / f"{name}.conf"
    config.write_text(text)
    files = [f"--dhcp-leasefile={folder / name}.leases", "--pid-file="]
    return ["dnsmasq", "--keep-in-foreground", "--user=root", f"--conf-file={config}", *files]


@pytest.mark.parametrize("dhcp", ["server", "proxy"])
@pytest.mark.parametrize("way", ["PXE", "HTTP"])
def test_a_machine_with_nothing_but_firmware_starts_its_kernel(
    way: str, dhcp: str, served: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        here, there = stack.enter_context(wire(router=dhcp == "proxy"))
        text = f"{COMMON}interface=wire\ntftp-root={served}\n{RANGES[dhcp]}"
        stack.enter_context(running(here, *dnsmasq(tmp_path, "ours", text)))
        if dhcp == "proxy":
            text = "port=0\nbind-interfaces\ninterface=lan\ndhcp-range=10.88.0.100,10.88.0.110\n"
            stack.enter_context(running(there, *dnsmasq(tmp_path, "router", text)))
        server = [sys.executable, "-m", "http.server", "-b", "10.88.0.1", "-d", str(served)]
        stack.enter_context(running(here, *server, str(SITE.ports.http)))
        enter = ["ip", "netns", "exec", here]
        machine = stack.enter_context(
            uefi.power_on("tap", MAC, tmp_path, http=way == "HTTP", secure=True, enter=enter)
        )
        machine.until("Linux version", 120)
        machine.until("Run /init as init process", 150)
    console = machine.console
    assert "pibake: node3" in console
    assert "pibake.test=a;b panic=-1" in console
    assert "EFI stub: UEFI Secure Boot is enabled" in console
    assert ("Start HTTP Boot" in console) == (way == "HTTP")


def test_a_machine_that_is_no_node_is_told_so_and_boots_nothing(served: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        here, _ = stack.enter_context(wire(router=False))
        text = f"{COMMON}interface=wire\ntftp-root={served}\ndhcp-range=10.88.0.20,10.88.0.30\n"
        stack.enter_context(running(here, *dnsmasq(tmp_path, "ours", text)))
        enter = ["ip", "netns", "exec", here]
        machine = stack.enter_context(uefi.power_on("tap", "52:54:00:99:99:99", tmp_path, enter=enter))
        machine.until("no node of this cluster has the MAC address 52:54:00:99:99:99", 60)
