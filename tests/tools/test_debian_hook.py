"""The hook that keeps a Debian node's boot partition in step with its kernels, run on a made-up /boot."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from pibake import resources

if TYPE_CHECKING:
    from pathlib import Path

HOOK = resources.path("images", "debian", "root", "usr", "lib", "pibake", "update-boot-partition")
LINUX_VERSION = """#!/bin/sh
case $1 in list) ls /boot/vmlinuz-* | sed 's,.*vmlinuz-,,';; sort) sort -V;; esac
"""
LIFE = """set -e
mount -t tmpfs boot /boot
mkdir /boot/firmware
mount -t tmpfs firmware /boot/firmware
cd /boot
hook() { sh "$HOOK"; }
state() { echo "$1: $(cat firmware/vmlinuz firmware/initrd.img firmware/cmdline.txt | xargs)"; }
echo cmdline > firmware/cmdline.txt
echo k1 > vmlinuz-6.9.1; echo i1 > initrd.img-6.9.1; hook; state first; readlink initrd.img-6.9.1
echo k2 > vmlinuz-6.12.1; hook; state unfinished
echo i2 > initrd.img-6.12.1; hook; state upgraded; cat initrd.img-6.9.1
echo i3 > new; mv -f new initrd.img-6.12.1; hook; state renewed; readlink initrd.img-6.12.1
rm vmlinuz-6.12.1 initrd.img-6.12.1; hook; state removed; readlink initrd.img-6.9.1
umount firmware; hook 2>&1; ls firmware
"""


def test_the_boot_partition_follows_the_newest_finished_kernel_and_back(tmp_path: Path) -> None:
    namespace = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    tool = tmp_path / "linux-version"
    tool.write_text(LINUX_VERSION)
    tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin", "HOOK": str(HOOK), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*namespace, "sh", "-c", LIFE], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "first: k1 i1 cmdline",
        "firmware/initrd.img",
        "unfinished: k1 i1 cmdline",
        "upgraded: k2 i2 cmdline",
        "i1",
        "renewed: k2 i3 cmdline",
        "firmware/initrd.img",
        "removed: k1 i1 cmdline",
        "firmware/initrd.img",
        "/boot/firmware is not mounted (a netbooted node?): not updating it",
    ]
