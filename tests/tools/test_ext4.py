"""Write with debugfs, read with other implementations: e2fsck, the kernel (as root), GNU stat and find."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.tools import images
from tests.tools.images import MIB, tool

from pibake import bases
from pibake.errors import ImageError
from pibake.image import ext4, table
from pibake.image.ext4_tree import Files
from pibake.image.ext4_write import Entry, Kind, write

EPOCH = 1_700_000_000
ODD = 'a "b"  c#d\\e'


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file system with merged /usr, long and looping links, a large directory, and odd names."""
    folder = tmp_path_factory.mktemp("ext4")
    root = folder / "root"
    for name in ("usr/bin", "usr/lib/deep/er", "etc", "var/many", "empty"):
        (root / name).mkdir(parents=True)
    for link, target in {
        "bin": "usr/bin",
        "lib": "/usr/lib",
        "etc/up": "../usr/./lib/deep",
        "etc/long": "../usr/lib/" + "./" * 40 + "deep",
        "etc/loop": "loop",
        "etc/nowhere": "/not/there",
    }.items():
        (root / link).symlink_to(target)
    (root / "usr/bin/tool").write_bytes(b"old" * 100_000)
    (root / "etc/one").write_text("one\n")
    (root / "etc/two").hardlink_to(root / "etc/one")
    (root / "etc" / ODD).write_text("odd\n")
    for number in range(2000):
        (root / f"var/many/a file with a rather long name {number:05}").touch()
    part = folder / "root.ext4"
    part.touch()
    os.truncate(part, 48 * MIB)
    tool("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "root_owner=0:0", "-d", root, part)
    return part


@pytest.fixture
def part(fresh: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(fresh, tmp_path / "root.ext4"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "the source"
    path.write_bytes(os.urandom(300_000))
    return path


def by_kernel(part: Path, folder: Path) -> Path:
    """Mount a file system with the kernel, until the end of the test process's namespace."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-o", "loop,ro,noload", part, folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this host mounts nothing for us: {mounted.stderr.strip()}")
    return folder


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("etc/one", b"one\n"),
        ("/etc/two", b"one\n"),
        ("bin/tool", b"old" * 100_000),
        ("lib/../bin/./tool", b"old" * 100_000),
        ("../../etc/one", b"one\n"),
        (f"etc/{ODD}", b"odd\n"),
        ("var/many/a file with a rather long name 01999", b""),
        ("etc/absent", None),
        ("absent/at/all", None),
        ("etc/nowhere", None),
        ("etc", None),
        ("", None),
    ],
)
def test_files_are_read_through_links_as_the_kernel_would(
    fresh: Path, path: str, expected: bytes | None
) -> None:
    assert ext4.read_file(fresh, 0, path) == expected


def test_a_path_is_resolved_through_short_and_long_links(fresh: Path) -> None:
    files = Files(fresh)
    assert files.find("etc/up/er")[0] == "usr/lib/deep/er"
    assert files.find("etc/long/er/new/x")[0] == "usr/lib/deep/er/new/x"
    assert files.find("etc/up", follow=False)[0] == "etc/up"
    assert files.find("etc/nowhere")[0] == "not/there"


def test_a_circle_of_links_and_a_file_on_the_way_are_errors(fresh: Path) -> None:
    with pytest.raises(ImageError, match="too many levels of symbolic links"):
        Files(fresh).find("etc/loop")
    with pytest.raises(ImageError, match="/etc/one is no directory"):
        Files(fresh).find("etc/one/x")


def test_a_directory_is_listed(fresh: Path) -> None:
    files = Files(fresh)
    assert set(files.listing("etc")) == {"up", "long", "loop", "nowhere", "one", "two", ODD}
    assert len(files.listing("var/many")) == 2000
    assert files.listing("empty") == files.listing("absent") == {}


def test_the_contents_of_many_files_come_at_once(fresh: Path) -> None:
    wanted = [
        "etc/one",
        "bin/tool",
        f"etc/{ODD}",
        "etc/absent",
        "etc",
        "var/many/a file with a rather long name 00007",
    ]
    assert Files(fresh).contents(wanted) == {
        "etc/one": b"one\n",
        "bin/tool": b"old" * 100_000,
        f"etc/{ODD}": b"odd\n",
        "var/many/a file with a rather long name 00007": b"",
    }
    assert Files(fresh).contents([]) == {}


def test_what_is_written_is_what_the_kernel_reads(part: Path, source: Path, tmp_path: Path) -> None:
    entries = [
        Entry("bin/tool", source=source, mode=0o4755),
        Entry(f"opt/{ODD}/x y", source=source, mode=0o640, uid=33, gid=70_000, mtime=1_600_000_000),
        Entry("bin/again", Kind.HARD_LINK, target="usr/bin/tool"),
        Entry("bin/third", Kind.HARD_LINK, target="bin/tool"),
        Entry("lib/link", Kind.SYMLINK, target="deep er/" + "x" * 80),
        Entry("etc/up", Kind.SYMLINK, target="elsewhere"),
        Entry("etc/one", source=source),
        Entry("srv/box", Kind.DIRECTORY, mode=0o1777, gid=5),
        Entry("lib", Kind.DIRECTORY, mode=0o700),
    ]
    write(Files(part), entries, epoch=EPOCH)
    ext4.finish(part, epoch=EPOCH)
    root = by_kernel(part, tmp_path / "mnt")
    try:
        data = source.read_bytes()
        tool_ = (root / "usr/bin/tool").stat()
        assert (tool_.st_mode & 0o7777, tool_.st_uid, tool_.st_mtime) == (0o4755, 0, EPOCH)
        assert tool_.st_nlink == 3
        assert (root / "usr/bin/third").stat().st_ino == (root / "usr/bin/again").stat().st_ino
        odd = root / "opt" / ODD / "x y"
        assert odd.read_bytes() == (root / "etc/one").read_bytes() == data
        assert (odd.stat().st_uid, odd.stat().st_gid, odd.stat().st_mode & 0o7777) == (33, 70_000, 0o640)
        assert odd.stat().st_mtime == 1_600_000_000
        assert (root / "opt").stat().st_mode & 0o7777 == 0o755
        assert (root / "etc/two").read_text() == "one\n"
        assert (root / "usr/lib/link").readlink() == Path("deep er/" + "x" * 80)
        assert (root / "etc/up").readlink() == Path("elsewhere")
        assert (root / "lib").is_symlink()
        assert (root / "srv/box").stat().st_mode & 0o7777 == 0o1777
    finally:
        tool("umount", root)


def test_a_replaced_file_gives_its_blocks_back(part: Path, source: Path) -> None:
    entry = Entry("bin/tool", source=source)
    write(Files(part), [entry], epoch=EPOCH)
    before = ext4.state(part)
    for _ in range(3):
        write(Files(part), [entry, entry], epoch=EPOCH)
    assert ext4.state(part) == before
    ext4.finish(part, epoch=EPOCH)


def test_many_files_go_into_a_large_directory_and_into_new_ones(part: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_text("x\n")
    entries = [Entry(f"var/many/new {n}", source=small) for n in range(500)]
    entries += [Entry(f"var/lib/{n}/{n % 7}/deep", source=small) for n in range(300)]
    write(Files(part), entries, epoch=EPOCH)
    ext4.finish(part, epoch=EPOCH)
    assert len(Files(part).listing("var/many")) == 2500
    assert ext4.read_file(part, 0, "var/lib/299/5/deep") == b"x\n"


def test_a_file_never_takes_the_place_of_a_directory(part: Path, source: Path) -> None:
    with pytest.raises(ImageError, match="/usr/bin is a directory; a file or link cannot take its place"):
        write(Files(part), [Entry("usr/bin", source=source)], epoch=EPOCH)
    with pytest.raises(ImageError, match="/etc/one is no directory; one cannot take its place"):
        write(Files(part), [Entry("etc/one", Kind.DIRECTORY)], epoch=EPOCH)
    with pytest.raises(ImageError, match="no directory"):
        write(Files(part), [Entry("etc/one/x", source=source)], epoch=EPOCH)


def test_a_full_file_system_is_an_error(part: Path, source: Path) -> None:
    with source.open("wb") as file:
        file.write(os.urandom(60 * MIB))
    with pytest.raises(ImageError, match="allocate block") as caught:
        write(Files(part), [Entry("x", source=source)], epoch=EPOCH)
    assert "file system is full" in caught.value.hint


def test_a_name_with_a_line_break_is_refused(part: Path, source: Path) -> None:
    with pytest.raises(ImageError, match="control character"):
        write(Files(part), [Entry("a\nrm /etc/one", source=source)], epoch=EPOCH)


def test_a_file_system_grows_and_stays_sound(part: Path) -> None:
    before = ext4.state(part)
    ext4.repair(part, epoch=EPOCH)
    ext4.resize(part, 200 * MIB, epoch=EPOCH)
    after = ext4.state(part)
    ext4.finish(part, epoch=EPOCH)
    assert after.size == 200 * MIB
    assert after.free > before.free + 140 * MIB
    printed = tool("dumpe2fs", "-h", part).decode()
    assert f"Free blocks:              {after.free // 4096}\n" in printed
    assert f"Free inodes:              {after.inodes}\n" in printed
    assert part.stat().st_blocks * 512 < 60 * MIB


def test_a_damaged_file_system_is_an_error_with_what_e2fsck_said(part: Path) -> None:
    with part.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 40))
    with pytest.raises(ImageError, match="not sound"):
        ext4.finish(part, epoch=EPOCH)


def test_something_else_is_no_ext4(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(5000))
    with pytest.raises(ImageError, match="no ext4 file system at byte 0"):
        ext4.state(tmp_path / "x")
    with pytest.raises(ImageError, match=r"no ext4|magic"):
        ext4.read_file(tmp_path / "x", 0, "etc/one")


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_the_last_partition_is_enlarged_and_the_rest_of_the_table_stays(label: str, tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    image.touch()
    os.truncate(image, 64 * MIB)
    kinds = ("c", "83") if label == "dos" else ("U", "L")
    script = (
        f"label: {label}\nstart=2048, size=32768, type={kinds[0]}\nstart=34816, size=40960, type={kinds[1]}\n"
    )
    tool("sfdisk", "--quiet", image, data=script.encode())
    old = table.read(image)
    dump = tool("sfdisk", "--dump", image).decode().splitlines()
    os.truncate(image, 128 * MIB)
    last = table.enlarge_last(image, 120 * MIB)
    assert last.start + last.size == 120 * MIB
    new = table.read(image)
    assert (new.label, new.id, new.partitions[0]) == (old.label, old.id, old.partitions[0])
    again = tool("sfdisk", "--dump", image).decode().splitlines()
    changed = [
        line
        for line in again
        if line not in dump and not line.startswith(("device", "last-lba", "first-lba"))
    ]
    assert len(changed) == 1  # only the size: types, names and identifiers stay
    assert "size=      " in changed[0]
    assert "No errors detected" in tool("sfdisk", "--verify", image).decode()


def test_the_root_partition_of_an_image_with_swap_before_it_is_the_last_one(tmp_path: Path) -> None:
    image = images.make_userland(tmp_path / "centos.img", content=b'ID="centos"\n')
    bases.check(image, "the image")
    boot, swap, root = table.read(image).partitions
    assert (boot.type, swap.type, root.type) == ("0c", "82", "83")
    assert ext4.root_partition(image) == root
    assert ext4.read_file(image, root.start, "/os-release") == b'ID="centos"\n'
    grown = table.enlarge_last(image, 64 * MIB)
    assert (grown.number, grown.start, grown.start + grown.size) == (3, root.start, 64 * MIB)
    assert table.read(image).partitions[:2] == (boot, swap)
