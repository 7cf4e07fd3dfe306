"""What `pibake-disks` makes of the disks it meets, on real loop devices: empty, half-made, its own, and anybody else's."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
from tests.tools.cards import needs_root

from pibake import resources
from pibake.plan import Disk, disk_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

pytestmark = needs_root

PROGRAM = resources.path("overlays/disks/usr/local/lib/pibake/disks")
SIZE = 640 << 20
LAUNCH = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader("disks", sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("disks", loader))
loader.exec_module(module)
module.CONFIG, module.STATE = sys.argv[2:4]
module.ENVIRONMENT["PATH"] = sys.argv[4] + ":" + module.ENVIRONMENT["PATH"]
sys.exit(0 if module.main(patience=0) else 1)
"""
SHIM = """#!/bin/sh
case "$0 $*" in *wipefs*no-act*) exec {real} "$@" ;; esac
count=$(($(cat "$COUNT") + 1))
echo $count > "$COUNT"
if [ $count = "$CUT" ] && [ "$WHEN" = before ]; then kill -9 $PPID; exit 1; fi
{real} "$@"
status=$?
if [ $count = "$CUT" ] && [ "$WHEN" = after ]; then kill -9 $PPID; fi
exit $status
"""
"""Stands for a tool that writes, and pulls the plug before or after the one that is to be the last."""
WRITERS = ("sfdisk", "wipefs", "mkfs.ext4", "mount")


def tool(*argv: str | Path, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.strip()


class Bench:
    """A node's data disks as files behind loop devices, and the program with its settings below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loops: dict[str, str] = {}
        self.entries: list[dict[str, str]] = []
        self.state = folder / "run/disks.json"

    def file(self, name: str, size: int = SIZE) -> Path:
        path = self.folder / f"{name}.disk"
        if not path.exists():
            path.touch()
            os.truncate(path, size)
        return path

    def plug(self, name: str, size: int = SIZE) -> str:
        """Attach a disk, empty when it is new; what the kernel would see of its partitions is there afterwards."""
        loop = tool("losetup", "--find", "--partscan", "--show", self.file(name, size))
        self.loops[name] = loop
        # a kernel without EFI_PARTITION, as small virtual machines have, does not look for itself
        subprocess.run(["partx", "--update", loop], capture_output=True, check=False)
        return loop

    def unplug(self, name: str) -> None:
        loop = self.loops.pop(name)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split(" - ")[1].split()[1].startswith(loop):
                tool("umount", line.split()[4])
        subprocess.run(["partx", "--delete", loop], capture_output=True, check=False)
        tool("losetup", "--detach", loop)

    def reboot(self) -> None:
        for name in list(self.loops):
            self.unplug(name)
            self.plug(name)

    def wants(
        self, name: str, *, filesystem: str = "ext4", node: str = "node3", mount: str = "", device: str = ""
    ) -> Disk:
        """Have the node want a disk for data, called after what it is plugged in as."""
        place = mount or str(self.folder / "mnt" / name)
        disk = Disk(device or self.loops[name], place, filesystem, name, f"lab/{node}/{name}")
        self.entries = [one for one in self.entries if one["label"] != name]
        self.entries.append({**disk_json(disk), "node": node})
        return disk

    def moved(self, name: str) -> None:
        """Tell the node where a disk is plugged in now."""
        for entry in self.entries:
            if entry["label"] == name:
                entry["device"] = self.loops[name]

    def run(self, *, cut: int = 0, when: str = "") -> list[dict[str, str]]:
        """Run the program as a boot would, or until the power is cut; return what it says of each disk."""
        config, shims, count = (self.folder / name for name in ("disks.json", "shims", "count"))
        config.write_text(json.dumps(self.entries))
        shims.mkdir(exist_ok=True)
        for name in WRITERS:
            real = next(
                p for f in ("/usr/sbin", "/sbin", "/usr/bin", "/bin") if (p := Path(f, name)).exists()
            )
            (shims / name).write_text(SHIM.format(real=real))
            (shims / name).chmod(0o755)
        count.write_text("0\n")
        self.state.unlink(missing_ok=True)
        env = {**os.environ, "COUNT": str(count), "CUT": str(cut), "WHEN": when}
        argv: list[str | Path] = [sys.executable, "-c", LAUNCH, PROGRAM, config, self.state, shims]
        done = subprocess.run(argv, env=env, text=True, capture_output=True, check=False)
        if cut:
            assert done.returncode == -9
            return []
        assert self.state.exists(), done.stderr
        told: list[dict[str, str]] = json.loads(self.state.read_text())["disks"]
        assert (done.returncode == 0) == all(one["status"] == "ok" for one in told), done.stderr
        return told

    def one(self) -> dict[str, str]:
        (told,) = self.run()
        return told

    def digest(self, name: str) -> str:
        """Return a digest of every page that is not all zeros, and of where it is: most of a disk is holes."""
        told = hashlib.sha256()
        with self.file(name).open("rb") as file:
            end = 0
            while (start := after(file, end, os.SEEK_DATA)) is not None:
                end = after(file, start, os.SEEK_HOLE) or start
                file.seek(start)
                for offset in range(start, end, 4096):
                    if (page := file.read(4096)).strip(b"\0"):
                        told.update(f"{offset} ".encode() + page)
        return told.hexdigest()


def after(file: BinaryIO, offset: int, what: int) -> int | None:
    """Return where data, or a hole, begins from `offset` on (lseek(2)); None where there is none."""
    try:
        return os.lseek(file.fileno(), offset, what)
    except OSError:
        return None


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for name in list(made.loops):
        with contextlib.suppress(AssertionError):
            made.unplug(name)


@pytest.fixture
def program() -> ModuleType:
    """The program as a module, for its single steps."""
    loader = importlib.machinery.SourceFileLoader("disks", str(PROGRAM))
    spec = importlib.util.spec_from_loader("disks", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def fact(part: str, key: str) -> str:
    return tool("blkid", "-p", "-o", "value", "-s", key, part)


@pytest.mark.parametrize("filesystem", ["ext4", "xfs", "btrfs"])
def test_an_empty_disk_is_made_and_mounted_and_keeps_its_data(bench: Bench, filesystem: str) -> None:
    loop = bench.plug("data")
    disk = bench.wants("data", filesystem=filesystem)
    told = bench.one()
    assert told["status"] == "ok", told
    assert told["detail"] == f"{filesystem} on {loop}p1, 638.0 MiB"
    assert fact(f"{loop}p1", "TYPE") == filesystem
    assert fact(f"{loop}p1", "LABEL") == "data"
    assert fact(f"{loop}p1", "PART_ENTRY_UUID") == disk.partition
    assert fact(f"{loop}p1", "PART_ENTRY_NAME") == "pibake:data:node3"
    assert fact(loop, "PTUUID") == disk.table
    assert "No errors detected" in tool("sfdisk", "--verify", loop)
    Path(disk.mount, "kept").write_text("kept\n")
    bench.reboot()
    bench.moved("data")
    assert bench.one()["status"] == "ok"
    assert Path(disk.mount, "kept").read_text() == "kept\n"
    # and a second run of the same boot finds nothing to do
    assert bench.one()["status"] == "ok"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_a_power_cut_at_any_step_is_made_up_for_at_the_next_boot(bench: Bench, cut: int, when: str) -> None:
    bench.plug("data")
    disk = bench.wants("data")
    bench.run(cut=cut, when=when)
    bench.reboot()
    bench.moved("data")
    assert bench.one()["status"] == "ok"
    assert (bench.folder / "count").read_text().strip() in {"1", "2", "3", "4", "5"}
    assert Path(disk.mount, "lost+found").is_dir()
    assert fact(f"{bench.loops['data']}p1", "PART_ENTRY_NAME") == "pibake:data:node3"


def test_a_whole_making_is_five_steps_that_write(bench: Bench) -> None:
    bench.plug("data")
    bench.wants("data")
    bench.one()
    assert (bench.folder / "count").read_text().strip() == "5"


def wiped(path: Path, offset: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(length))


@pytest.mark.parametrize("lost", ["front", "back", "front header", "protective table"])
def test_a_table_that_is_half_written_is_written_again(bench: Bench, program: ModuleType, lost: str) -> None:
    bench.plug("data")
    disk = bench.wants("data")
    program.partition(bench.entries[0], bench.loops["data"])
    bench.unplug("data")
    match lost:
        case "front":
            wiped(bench.file("data"), 0, 34 * 512)
        case "back":
            wiped(bench.file("data"), SIZE - 33 * 512, 33 * 512)
        case "front header":
            wiped(bench.file("data"), 512, 512)
        case _:
            wiped(bench.file("data"), 0, 512)
    bench.plug("data")
    bench.moved("data")
    assert bench.one()["status"] == "ok"
    assert "No errors detected" in tool("sfdisk", "--verify", bench.loops["data"])
    assert fact(f"{bench.loops['data']}p1", "PART_ENTRY_UUID") == disk.partition


def test_half_a_file_system_without_a_final_name_is_made_again(bench: Bench, program: ModuleType) -> None:
    bench.plug("data")
    disk = bench.wants("data")
    part = program.partition(bench.entries[0], bench.loops["data"])
    tool("mkfs.xfs", "-q", "-f", part)
    wiped(bench.file("data"), (1 << 20) + 4096, 1 << 20)
    bench.reboot()
    bench.moved("data")
    assert bench.one()["status"] == "ok"
    assert fact(f"{bench.loops['data']}p1", "TYPE") == disk.filesystem


def test_the_disk_of_a_node_that_was_flashed_anew_is_found_wherever_it_is_plugged_in(bench: Bench) -> None:
    bench.plug("data")
    disk = bench.wants("data")
    bench.one()
    Path(disk.mount, "kept").write_text("kept\n")
    bench.unplug("data")
    bench.plug("other")  # takes its place
    bench.plug("data")
    before = bench.digest("other")
    bench.wants("data", device=bench.loops["other"])
    assert bench.one()["status"] == "ok"
    assert Path(disk.mount, "kept").read_text() == "kept\n"
    assert bench.digest("other") == before


def of_somebody(kind: str, loop: str, bench: Bench) -> None:
    """Put on a disk what somebody else has there."""
    match kind:
        case "ext4" | "btrfs" | "xfs" | "vfat":
            tool(f"mkfs.{kind}", loop)
        case "swap":
            tool("mkswap", loop)
        case "empty gpt":
            tool("sfdisk", loop, stdin="label: gpt\n")
        case "partitions":
            tool("sfdisk", loop, stdin="label: dos\nsize=100MiB, type=c\ntype=83\n")
            subprocess.run(["partx", "--update", loop], capture_output=True, check=False)
            tool("mkfs.ext4", "-q", f"{loop}p2")
        case "lvm":
            # a label of LVM2 in the second sector (lvm2, lib/format_text/layout.h): pvcreate needs device-mapper
            tool("dd", f"of={loop}", "bs=512", "seek=1", "conv=notrunc,fsync", "status=none", stdin=LVM)
        case "raid":
            superblock = mdraid()
            with Path(loop).open("r+b") as disk:
                disk.seek(4096)
                disk.write(superblock)
        case "luks":
            with Path(loop).open("r+b") as disk:
                disk.write(b"LUKS\xba\xbe\x00\x01".ljust(592, b"\0"))
        case "another node's":
            bench.wants("data", node="node7")
            assert bench.one()["status"] == "ok"
            tool("umount", bench.entries[0]["mount"])
        case "another disk of this node":
            bench.wants("data")
            bench.entries[0].update(
                disk_json(Disk(loop, bench.entries[0]["mount"], "ext4", "else", "lab/node3/else"))
            )
            assert bench.one()["status"] == "ok"
            tool("umount", bench.entries[0]["mount"])
            bench.entries.clear()


def mdraid() -> bytes:
    """Return a superblock of version 1.2 (Linux, include/uapi/linux/raid/md_p.h), with its checksum."""
    block = bytearray(256)
    struct.pack_into("<III", block, 0, 0xA92B4EFC, 1, 0)
    block[16:32] = bytes(range(16))
    struct.pack_into("<Q", block, 144, 8)  # super_offset, in sectors
    total = sum(struct.unpack("<64I", block))
    struct.pack_into("<I", block, 216, (total & 0xFFFFFFFF) + (total >> 32))
    return bytes(block)


LVM = "LABELONE" + "\x01" + "\0" * 7 + "\0" * 4 + "\x20\0\0\0" + "LVM2 001" + "\0" * 480


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("ext4", "it holds ext4"), ("xfs", "it holds xfs"), ("btrfs", "it holds btrfs"), ("vfat", "vfat"), ("swap", "it holds swap"),
        ("empty gpt", "gpt"), ("partitions", "p2 with ext4"), ("lvm", "LVM2_member"), ("raid", "linux_raid_member"),
        ("luks", "crypto_LUKS"), ("another node's", "made by pibake as data of node7"),
        ("another disk of this node", "made by pibake as else of node3"),
    ],
)  # fmt: skip
def test_a_disk_with_anything_on_it_is_left_alone_byte_for_byte(bench: Bench, kind: str, said: str) -> None:
    loop = bench.plug("data")
    of_somebody(kind, loop, bench)
    bench.reboot()
    before = bench.digest("data")
    bench.wants("data")
    told = bench.one()
    assert told["status"] == "failed"
    assert said in told["detail"]
    assert "is not empty, and is left alone" in told["detail"]
    assert bench.digest("data") == before
    # what it says to do helps
    command = told["detail"].split("`sudo ")[1].split("`")[0]
    tool(*command.split())
    bench.reboot()
    bench.moved("data")
    assert bench.one()["status"] == "ok"


def test_an_old_file_system_below_a_table_that_is_gone_is_left_alone(bench: Bench) -> None:
    loop = bench.plug("data")
    tool("sfdisk", loop, stdin="label: gpt\nstart=1MiB\n")
    subprocess.run(["partx", "--update", loop], capture_output=True, check=False)
    tool("mkfs.ext4", "-q", f"{loop}p1")
    bench.unplug("data")
    wiped(bench.file("data"), 0, 34 * 512)
    wiped(bench.file("data"), SIZE - 33 * 512, 33 * 512)
    bench.plug("data")
    before = bench.digest("data")
    bench.wants("data")
    told = bench.one()
    assert told["status"] == "failed"
    assert "an old ext4 where the first was" in told["detail"]
    assert bench.digest("data") == before
    tool(*told["detail"].split("`sudo ")[1].split("`")[0].split())
    assert bench.one()["status"] == "ok"


def test_our_own_disk_whose_table_is_damaged_keeps_its_data(bench: Bench) -> None:
    bench.plug("data")
    disk = bench.wants("data")
    bench.one()
    Path(disk.mount, "kept").write_text("kept\n")
    bench.unplug("data")
    file = bench.file("data")
    wiped(
        file, 1024, 512
    )  # the partition's entry at the front and at the back: neither checksum fits any more
    wiped(file, SIZE - 33 * 512, 512)
    loop = tool("losetup", "--find", "--show", file)
    bench.loops["data"] = loop
    bench.moved("data")
    before = bench.digest("data")
    told = bench.one()
    assert told["status"] == "failed"
    assert "its partition table is damaged" in told["detail"]
    assert bench.digest("data") == before
    # what docs/disks.md says to do
    page = (resources.root() / "docs/disks.md").read_text("utf-8")
    script = page.split("<<END\n")[1].split("    END")[0].replace("    ", "")
    for word in ("table", "partition"):
        script = script.replace(word.upper(), bench.entries[0][word])
    tool("sfdisk", "--wipe", "never", "--wipe-partitions", "never", loop, stdin=script)
    bench.reboot()
    bench.moved("data")
    assert bench.one()["status"] == "ok"
    assert Path(bench.entries[0]["mount"], "kept").read_text() == "kept\n"


@pytest.mark.parametrize("lost", [(0, 8 << 20), (512, 8 << 20)])
def test_our_own_disk_that_lost_its_beginning_is_not_made_again(bench: Bench, lost: tuple[int, int]) -> None:
    bench.plug("data")
    bench.wants("data")
    bench.one()
    bench.unplug("data")
    wiped(bench.file("data"), *lost)
    # the table at the end may still give the partition: either way nothing is written
    bench.loops["data"] = tool("losetup", "--find", "--show", bench.file("data"))
    bench.moved("data")
    before = bench.digest("data")
    told = bench.one()
    assert told["status"] == "failed"
    assert "its partition table is damaged" in told["detail"]
    assert bench.digest("data") == before


def test_a_finished_disk_with_another_file_system_than_wanted_is_left_alone(bench: Bench) -> None:
    bench.plug("data")
    bench.wants("data")
    bench.one()
    bench.reboot()
    before = bench.digest("data")
    bench.wants("data", filesystem="xfs")
    told = bench.one()
    assert told["status"] == "failed"
    assert "holds ext4, where cluster.yaml says xfs" in told["detail"]
    assert bench.digest("data") == before


def test_a_finished_disk_that_lost_its_file_system_is_not_made_again(bench: Bench) -> None:
    loop = bench.plug("data")
    bench.wants("data")
    bench.one()
    bench.reboot()
    wiped(bench.file("data"), 1 << 20, 1 << 20)
    loop = bench.loops["data"]
    subprocess.run(["blockdev", "--flushbufs", loop, f"{loop}p1"], check=True)
    bench.moved("data")
    told = bench.one()
    assert told["status"] == "failed"
    assert "holds nothing known" in told["detail"]


def test_a_damaged_file_system_is_mended_if_that_is_safe_and_said_if_not(bench: Bench) -> None:
    bench.plug("data")
    bench.wants("data")
    bench.one()
    bench.reboot()
    part = f"{bench.loops['data']}p1"
    # the root folder is taken for free: e2fsck asks before it mends that
    tool("debugfs", "-w", "-R", "clri <2>", part)
    tool("debugfs", "-w", "-R", "ssv state 0", part)
    bench.moved("data")
    told = bench.one()
    assert told["status"] == "failed"
    assert "is damaged, e2fsck says" in told["detail"]
    assert f"e2fsck -f {part}" in told["detail"]


def test_a_disk_that_is_too_small_is_left_alone(bench: Bench) -> None:
    bench.plug("data", 64 << 20)
    before = bench.digest("data")
    bench.wants("data")
    told = bench.one()
    assert (told["status"], told["detail"].partition(", ")[0]) == (
        "failed",
        f"{bench.loops['data']} is too small",
    )
    assert "64.0 MiB" in told["detail"]
    assert bench.digest("data") == before


def test_a_disk_that_is_missing_is_waited_for_and_made_when_it_comes(bench: Bench) -> None:
    link = bench.folder / "by-id"
    bench.wants("data", device=str(link))
    told = bench.one()
    assert (told["status"], told["detail"]) == (
        "missing",
        f"there is no {link}: is the disk plugged in, and has it power?",
    )
    link.symlink_to(bench.plug("data"))
    assert bench.one()["status"] == "ok"


def test_one_disk_that_cannot_be_had_does_not_keep_the_others_from_being_mounted(bench: Bench) -> None:
    bench.plug("good")
    bench.wants("good")
    bench.wants("bad", device="/dev/no-such-disk")
    bench.wants("inside", device="/dev/null", mount=str(bench.folder / "mnt/bad/inside"))
    told = {one["label"]: one for one in bench.run()}
    assert told["good"]["status"] == "ok"
    assert told["bad"]["status"] == "missing"
    assert told["inside"]["detail"] == f"it waits for the disk of {bench.folder / 'mnt/bad'}"


@pytest.mark.parametrize("use", ["mounted", "swap", "partition mounted"])
def test_a_disk_in_use_is_left_alone(bench: Bench, use: str, tmp_path: Path) -> None:
    loop = bench.plug("data")
    place = tmp_path / "in-use"
    place.mkdir()
    leave: Callable[[], Any] = lambda: tool("umount", place)  # noqa: E731
    if use == "mounted":
        tool("mkfs.ext4", "-q", loop)
        tool("mount", loop, place)
    elif use == "swap":
        tool("mkswap", loop)
        tool("swapon", loop)
        leave = lambda: tool("swapoff", loop)  # noqa: E731
    else:
        tool("sfdisk", loop, stdin="label: dos\ntype=83\n")
        subprocess.run(["partx", "--update", loop], capture_output=True, check=False)
        tool("mkfs.ext4", "-q", f"{loop}p1")
        tool("mount", f"{loop}p1", place)
    bench.wants("data")
    try:
        told = bench.one()
    finally:
        leave()
    assert told["status"] == "failed"
    assert "is in use, and is left alone" in told["detail"]
    assert (f"mounted on {place}" in told["detail"]) == (use != "swap")


def test_two_copies_of_one_disk_are_both_left_alone(bench: Bench) -> None:
    bench.plug("data")
    disk = bench.wants("data")
    bench.one()
    bench.unplug("data")
    tool("cp", "--sparse=always", bench.file("data"), bench.folder / "copy.disk")
    bench.plug("data")
    bench.plug("copy")
    told = bench.one()
    assert told["status"] == "failed"
    assert "are copies of the same disk" in told["detail"]
    assert not os.path.ismount(disk.mount)


def test_what_is_no_disk_is_refused(bench: Bench) -> None:
    file = bench.folder / "file"
    file.write_text("text")
    bench.wants("a", device=str(file))
    bench.wants("b", device="/dev/null")
    assert [one["detail"] for one in bench.run()] == [f"{file} is no disk", "/dev/null is no disk"]


def test_nothing_is_mounted_over_something_else(bench: Bench) -> None:
    bench.plug("data")
    place = bench.folder / "taken"
    place.mkdir()
    tool("mount", "-t", "tmpfs", "tmpfs", place)
    bench.wants("data", mount=str(place))
    try:
        told = bench.one()
    finally:
        tool("umount", place)
    assert told["detail"] == f"something else is mounted on {place}"


def test_the_program_is_python_that_old_systems_read() -> None:
    tree = ast.parse(PROGRAM.read_text("utf-8"), feature_version=(3, 5))
    assert not [found for found in ast.walk(tree) if isinstance(found, ast.JoinedStr | ast.NamedExpr)]
