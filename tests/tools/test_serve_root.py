"""The root of a node with `root: nfs`, put together as its initramfs does, from what was got ready for it.

Loop devices, ext4 and overlay are real, in a mount namespace; only NFS is not: folders stand for its mounts.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING

import pytest
from tests.tools import wired
from tests.tools.images import tool

from pibake import config, plan
from pibake.cache import Cache
from pibake.netboot import initramfs
from pibake.netboot.values import Site
from pibake.progress import Silent
from pibake.serve import prepare
from pibake.serve.folders import Folders

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
SITE = Site("eth0", IPv4Interface("10.77.0.1/24"))
BOOT = """
set -u
mount -t tmpfs run /run
mkdir -p /run/new /run/initramfs
mount --bind "$1" /proc/cmdline
cp "$2" /run/initramfs/mount
script=$3
set -- none
. /run/initramfs/mount
leave() { :; }
modules() { :; }
network() { :; }
nfs_mount() {
  case $1 in
    /golden) mount --bind "$server_golden" "$2" ;;
    *) mount --bind "$server_export" "$2" ;;
  esac
}
nfs_root /run/new
cd /run/new || exit 1
set -e
eval "$script"
"""
"""A boot in a mount namespace of its own: the initramfs's program with its functions, and a look at the root it made."""


@dataclass
class Node:
    """What a server has got ready for one node."""

    folder: Path
    base: tuple[Path, str]

    @property
    def folders(self) -> Folders:
        return Folders(self.folder / "netboot")

    @property
    def export(self) -> Path:
        return self.folders.node("node3") / "export"

    def prepare(self, state: str = "server", renew: tuple[str, ...] = ()) -> None:
        line = f'  - {{hostname: node3, address: 10.77.0.13, mac: "dc:a6:32:01:02:03", board: pi4, state: {state}}}\n'
        path = self.folder / "cluster.yaml"
        path.write_text(wired.cluster(*self.base, line, "netboot: {disk: 4GiB}\n"))
        decided = plan.plan(config.load(path, bases=[]))
        prepare.prepare(decided, SITE, self.folders, Cache(self.folder / "cache"), Silent(), renew=renew)

    def boot(self, script: str) -> str:
        """Boot it, run a script in its new root folder, and switch it off."""
        cmdline = self.folders.tftp / "dc-a6-32-01-02-03/cmdline.txt"
        program = self.folder / "mount"
        program.write_bytes(initramfs.scripts()[initramfs.PROGRAM].data)
        text = f"server_golden={self.folders.golden} server_export={self.export}\n{BOOT}"
        argv = ["unshare", "--mount", "--uts", "dash", "-c", text, "sh", cmdline, program, script]
        done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
        self.off()
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def off(self) -> None:
        """Take back the loop devices, which a machine would lose with its power."""
        for image in (*self.folders.golden.glob("*.img"), self.export / "state.img"):
            for device in tool("losetup", "-n", "-O", "NAME", "-j", image).decode().split():
                tool("losetup", "-d", device)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    yield (made := Node(tmp_path, wired.base(tmp_path / "base.img")))
    made.off()


def test_the_root_is_the_golden_image_and_what_containers_need_is_on_an_ext4(node: Node) -> None:
    node.prepare()
    said = node.boot(
        "stat -f -c %T . var/lib/containerd var/lib/rancher; cat etc/os-release; ls boot/firmware;"
        " cat etc/fstab; readlink var/lib/cloud/seed/nocloud; cat /proc/sys/kernel/hostname"
    )
    assert "overlayfs\next2/ext3\next2/ext3\n" in said
    assert "ID=debian" in said
    assert {"user-data", "meta-data", "network-config", "pibake-secrets.tar"} <= set(said.split())
    assert "LABEL=" not in said
    assert "/boot/firmware\nnode3\n" in said


def test_containers_layers_can_be_laid_over_each_other_there(node: Node) -> None:
    node.prepare()
    said = node.boot(
        "cd var/lib/containerd; mkdir lower upper work merged; echo image > lower/file;"
        " mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged;"
        " echo container > merged/file; cat upper/file lower/file"
    )
    assert said.endswith("container\nimage\n")


def test_what_a_node_writes_is_there_after_the_next_boot_and_secrets_stay_away(node: Node) -> None:
    node.prepare()
    node.boot(
        "echo mine > etc/mine; echo kept > var/lib/etcd/member; rm boot/firmware/pibake-secrets.tar; sync"
    )
    node.prepare()
    said = node.boot("cat etc/mine var/lib/etcd/member; ls boot/firmware")
    assert "mine\nkept\n" in said
    assert "pibake-secrets.tar" not in said
    tool("e2fsck", "-fn", node.export / "state.img")


def test_a_node_in_memory_forgets_all_and_finds_its_seed_whole_again(node: Node) -> None:
    node.prepare(state="ram")
    assert not (node.export / "state.img").exists()
    said = node.boot(
        "stat -f -c %T var/lib/containerd; echo mine > etc/mine; rm boot/firmware/pibake-secrets.tar"
    )
    assert "tmpfs" in said
    said = node.boot("ls etc; ls boot/firmware")
    assert "mine" not in said.split()
    assert "pibake-secrets.tar" in said.split()


def test_a_state_that_is_damaged_beyond_repair_is_named_and_nothing_is_started(node: Node) -> None:
    node.prepare()
    state = node.export / "state.img"
    with state.open("r+b") as file:
        file.write(b"\xff" * (64 << 10))
    with pytest.raises(AssertionError, match="ALERT! the state in server is damaged, e2fsck says"):
        node.boot("true")


def test_the_program_is_sound_to_the_shell_of_an_initramfs() -> None:
    for path, file in initramfs.scripts():
        if path.endswith((".service", ".conf")):
            continue
        shell = "bash" if file.data.startswith(b"#!/bin/bash") else "dash"
        done = subprocess.run([shell, "-n"], input=file.data, capture_output=True, check=False)
        assert done.returncode == 0, (path, done.stderr)
