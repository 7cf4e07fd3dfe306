"""What an initramfs gets out of a real Debian base: a Python that runs the node's NBD client, and kernel modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pibake.errors import ImageError
from pibake.image import cpio, elf, ext4, kmodules, python
from pibake.image.ext4_tree import Files
from pibake.netboot import nbd
from pibake.run import run

QEMU = Path("/usr/bin/qemu-aarch64-static")


@pytest.fixture(scope="module")
def files(debian_13: Path) -> Files:
    return Files(debian_13, ext4.root_partition(debian_13).start)


@pytest.fixture(scope="module")
def release(files: Files) -> str:
    return next(iter(files.listing("usr/lib/modules")))


def test_the_client_starts_from_what_was_taken_and_nothing_else(files: Files, tmp_path: Path) -> None:
    if os.geteuid() or not QEMU.exists():
        pytest.skip("needs root for a chroot, and qemu-user-static")
    (python.runtime(files) | nbd.client()).write(tmp_path)
    shutil.copy2(QEMU, tmp_path / "qemu")
    command = [
        "chroot",
        str(tmp_path),
        "/qemu",
        *python.COMMAND,
        "/pibake/nbd/client.py",
        "127.0.0.1",
        "1",
        "node1",
    ]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert child.stderr
    told = child.stderr.readline()
    child.kill()
    child.communicate()
    assert told == "<3>pibake-nbd: node1 of 127.0.0.1:1: [Errno 111] Connection refused; trying again\n"


def test_the_command_to_attach_a_disk_starts_that_interpreter() -> None:
    script = nbd.client()["pibake/nbd/attach"]
    assert script.mode == 0o755
    assert f"exec {' '.join(python.COMMAND)} \\\n    /pibake/nbd/client.py" in script.data.decode()


def test_the_runtime_is_small_and_the_same_each_time(files: Files) -> None:
    first = cpio.pack(python.runtime(files))
    assert len(first) < 12 << 20
    assert first == cpio.pack(python.runtime(Files(files.image, files.offset)))


def test_modules_come_uncompressed_with_the_order_to_load_them_in(files: Files, release: str) -> None:
    tree = kmodules.modules(files, release, ["overlay", "nfsv4"])
    order = tree[f"pibake/modules/{release}/order"].data.decode().split()
    assert order.index("sunrpc") < order.index("lockd") < order.index("nfs") < order.index("nfsv4")
    taken = {Path(path).stem for path, _ in tree} - {"order"}
    assert taken == set(order)
    assert {file.data[:4] for path, file in tree if path.endswith(".ko")} == {b"\x7fELF"}


def test_a_module_that_is_built_in_is_not_taken_and_one_that_is_not_there_is_missed(
    files: Files, release: str
) -> None:
    tree = kmodules.modules(files, release, ["virtio"])
    assert tree[f"pibake/modules/{release}/order"].data == b""
    with pytest.raises(ImageError, match="has no module gone"):
        kmodules.modules(files, release, ["gone"])
    with pytest.raises(ImageError, match=r"no modules of the kernel 1\.2\.3"):
        kmodules.modules(files, "1.2.3", ["nbd"])


def test_a_root_without_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    image = tmp_path / "root.img"
    run(["mke2fs", "-q", "-t", "ext4", image, "4M"])
    with pytest.raises(ImageError, match="no Python 3 at /usr/bin/python3") as caught:
        python.runtime(Files(image))
    assert "root: nfs" in caught.value.hint


def test_what_python_needs_and_is_not_there_is_named(tmp_path: Path) -> None:
    shutil.copytree(
        Path("/bin/true").parent, tmp_path / "root/usr/bin", ignore=lambda _, names: set(names) - {"true"}
    )
    (tmp_path / "root/usr/bin/true").rename(tmp_path / "root/usr/bin/python3.11")
    (tmp_path / "root/usr/bin/python3").symlink_to("python3.11")
    image = tmp_path / "root.img"
    run(["mke2fs", "-q", "-t", "ext4", "-d", tmp_path / "root", image, "4M"])
    with pytest.raises(ImageError, match=r"Python needs libc\.so\.6, found in no folder"):
        python.runtime(Files(image))


def test_what_is_no_program_is_said_to_be_none() -> None:
    with pytest.raises(ImageError, match="/usr/bin/x is no program or library"):
        elf.needs(b"#!/bin/sh\n", "usr/bin/x")
    assert elf.needs(Path("/bin/sh").read_bytes(), "bin/sh").libraries
