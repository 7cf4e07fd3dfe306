"""Golden images: what is in them, when they are made, and that they are the same bytes every time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools.images import MIB, tool

from pibake.bases import Base
from pibake.cache import Cache
from pibake.errors import ImageError, PibakeError
from pibake.image import ext4, fat, table
from pibake.image.extents import extents
from pibake.image.golden import Payload, PayloadFile, PayloadFolder, golden, key_of
from pibake.image.rootpart import GRAIN, SPARE
from pibake.progress import Plain, Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pibake.progress import Task

EPOCH = 1_700_000_000


@pytest.fixture(scope="module")
def base(small_base: Path) -> Base:
    digest = hashlib.sha256(small_base.read_bytes()).hexdigest()
    return Base(small_base, digest, "small", EPOCH, {"name": "small"})


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., PayloadFile]:
    def make(path: str, data: bytes, mode: int = 0o644) -> PayloadFile:
        digest = hashlib.sha256(data).hexdigest()
        source = tmp_path / digest
        source.write_bytes(data)
        return PayloadFile(path, source, mode, digest)

    return make


def root(found: Base) -> tuple[Path, int]:
    return found.image, ext4.root_partition(found.image).start


def test_an_empty_payload_leaves_the_base_as_it_is(base: Base, cache: Cache) -> None:
    assert Payload().key == ""
    assert golden(base, Payload(), cache, Silent()) is base


def test_the_payload_is_in_the_root_partition_and_the_rest_of_the_base_is_there(
    base: Base, cache: Cache, make: Callable[..., PayloadFile], tmp_path: Path
) -> None:
    data = os.urandom(70 * MIB)
    files = (make("usr/local/bin/k3s", data, 0o755), make("etc/os-release", b"new\n", 0o600))
    made = golden(base, Payload(files, (), {"usr/local/bin/kubectl": "k3s"}), cache, Silent())
    where = root(made)
    assert ext4.read_file(*where, "usr/local/bin/kubectl") == data
    assert ext4.read_file(*where, "etc/os-release") == b"new\n"
    data_of_base = ext4.read_file(*root(base), "data")
    assert data_of_base
    assert ext4.read_file(*where, "data") == data_of_base
    assert fat.listing(made.image, MIB) == fat.listing(base.image, MIB)
    old, new = table.read(base.image), table.read(made.image)
    assert (new.id, new.partitions[0]) == (old.id, old.partitions[0])
    assert new.partitions[1].start == old.partitions[1].start
    alone = tmp_path / "alone.ext4"
    alone.write_bytes(made.image.read_bytes()[where[1] :])
    tool("e2fsck", "-fn", alone)
    assert "writable" in tool("e2label", alone).decode()


def test_after_the_payload_more_is_free_than_before(
    base: Base, cache: Cache, make: Callable[..., PayloadFile]
) -> None:
    files = [make(f"opt/{n}", os.urandom(100_000)) for n in range(60)]
    made = golden(base, Payload(tuple(files)), cache, Silent())
    before, after = ext4.state(*root(base)), ext4.state(*root(made))
    assert after.free >= before.free + SPARE
    assert after.free < before.free + SPARE + 24 * MIB
    assert after.inodes >= before.inodes
    assert made.image.stat().st_size % GRAIN == 0
    assert table.read(made.image).partitions[1].size == after.size
    assert made.image.stat().st_blocks * 512 < base.image.stat().st_blocks * 512 + 16 * MIB


def test_the_same_payload_gives_the_same_bytes_at_another_time(
    base: Base, make: Callable[..., PayloadFile], tmp_path: Path
) -> None:
    payload = Payload((make("a/b", b"x" * 9000), make("etc/os-release", b"y")), (), {"l": "a"})
    one = golden(base, payload, Cache(tmp_path / "one"), Silent())
    time.sleep(1.1)
    two = golden(base, payload, Cache(tmp_path / "two"), Silent())
    assert one.image != two.image
    assert one.sha256 == two.sha256 == hashlib.sha256(two.image.read_bytes()).hexdigest()


def test_where_nothing_can_be_inserted_into_a_file_the_bytes_are_the_same(
    base: Base, cache: Cache, make: Callable[..., PayloadFile]
) -> None:
    payload = Payload((make("a/b", os.urandom(5 * MIB)),))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:  # tmpfs has no FALLOC_FL_INSERT_RANGE
        one = golden(base, payload, Cache(Path(memory)), Silent())
    assert golden(base, payload, cache, Silent()).sha256 == one.sha256


def test_it_is_made_once_and_anew_only_if_it_was_damaged(
    base: Base, cache: Cache, make: Callable[..., PayloadFile]
) -> None:
    payload = Payload((make("a", b"x"),))
    made = golden(base, payload, cache, Silent())
    assert (made.name, made.created, made.info["golden"]) == ("small", EPOCH, payload.key)
    before = made.image.stat()
    again = golden(base, payload, cache, Silent())
    assert (again, again.info) == (made, made.info)
    assert again.image.stat() == before or again.image.stat().st_mtime_ns == before.st_mtime_ns
    made.image.chmod(0o600)
    with made.image.open("r+b") as file:
        file.seek(100 * MIB)
        file.write(b"damage")
    said = io.StringIO()
    assert golden(base, payload, cache, Plain(said)) == made
    assert hashlib.sha256(made.image.read_bytes()).hexdigest() == made.sha256
    assert "warning: the golden image of small is damaged and made anew" in said.getvalue()
    assert [path.name for path in cache.damaged.iterdir()] == [made.image.name]


def test_a_folder_of_the_base_is_handed_over_only_where_that_is_asked_for(base: Base, cache: Cache) -> None:
    folders = (
        PayloadFolder("etc", 0o750, 3, 4),
        PayloadFolder("usr/lib", 0o711, 3, 4, claims=True),
        PayloadFolder("srv/new", 0o2770, 33, 34),
    )
    made = golden(base, Payload(folders=folders), cache, Silent())
    listed = tool("debugfs", "-R", "ls -p /", f"{made.image}?offset={root(made)[1]}").decode()
    assert "/040755/0/0/etc//" in listed
    assert (
        "/040711/3/4/lib//"
        in tool("debugfs", "-R", "ls -p /usr", f"{made.image}?offset={root(made)[1]}").decode()
    )
    assert (
        "/042770/33/34/new//"
        in tool("debugfs", "-R", "ls -p /srv", f"{made.image}?offset={root(made)[1]}").decode()
    )


def free_ranges(image: Path, offset: int) -> list[tuple[int, int]]:
    """The (start, end) bytes of the image that its root file system has no use for, by dumpe2fs."""
    said = tool("dumpe2fs", f"{image}?offset={offset}").decode()
    found = []
    for line in re.findall(r"^  Free blocks: (.+)$", said, re.MULTILINE):
        for part in line.split(", "):
            first, _, last = part.partition("-")
            found.append((offset + int(first) * 4096, offset + (int(last or first) + 1) * 4096))
    return found


def test_what_is_free_in_it_holds_nothing_and_is_holes(
    base: Base, cache: Cache, make: Callable[..., PayloadFile], tmp_path: Path
) -> None:
    dirty = tmp_path / "dirty.img"
    dirty.write_bytes(base.image.read_bytes())
    offset = ext4.root_partition(dirty).start
    with dirty.open("r+b") as file:  # what was deleted before the vendor packed the image
        for first, last in free_ranges(dirty, offset):
            file.seek(first)
            file.write(b"old secret! " * ((last - first) // 12))
    files = (make("data", b"much smaller"), make("opt/new", os.urandom(3 * MIB)))
    made = golden(Base(dirty, "2" * 64, "dirty", EPOCH), Payload(files), cache, Silent())
    free = free_ranges(*root(made))
    assert sum(last - first for first, last in free) > SPARE
    with made.image.open("rb") as file:
        assert not [hole for first, last in free for hole in extents(file.fileno(), first, last)]
    assert b"old secret!" not in made.image.read_bytes()
    clean = golden(base, Payload(files), cache, Silent())
    assert clean.image.stat().st_blocks == pytest.approx(made.image.stat().st_blocks, abs=64)


def test_a_disk_that_is_full_is_an_error_that_leaves_nothing(
    base: Base, make: Callable[..., PayloadFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid():
        pytest.skip("mounts a small tmpfs")
    payload = Payload((make("opt/new", os.urandom(8 * MIB)),))
    folder = tmp_path / "small"
    folder.mkdir()
    for room, before in (("30M", True), ("20M", False), ("30M", False), ("34M", False)):
        tool("mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder)
        try:
            with monkeypatch.context() as patch:
                if not before:  # another program may take the room after it was asked for
                    patch.setattr("pibake.space.need", lambda *_: None)
                with pytest.raises(PibakeError, match=r"the disk|No space left on device") as caught:
                    golden(base, payload, Cache(folder), Silent())
            assert "free some space" in caught.value.hint
            assert not list(folder.rglob("*.img"))
            assert not list(folder.rglob("partial/*"))
        finally:
            tool("umount", folder)


def test_a_file_that_changes_while_it_is_put_into_the_image_is_an_error(
    base: Base, cache: Cache, make: Callable[..., PayloadFile]
) -> None:
    file = make("a", b"x")

    class Editor(Silent):
        """Somebody who saves the file once the image is being made."""

        @contextmanager
        def task(self, label: str, *, total: float | None = None, unit: str = "B") -> Iterator[Task]:
            file.source.write_bytes(b"y")
            with super().task(label, total=total, unit=unit) as task:
                yield task

    with pytest.raises(PibakeError, match="changed while it was put into an image"):
        golden(base, Payload((file,)), cache, Editor())
    assert not list(cache.partial.iterdir())
    assert not cache.pins()


def test_nothing_half_made_is_left_when_it_fails(
    base: Base, cache: Cache, make: Callable[..., PayloadFile]
) -> None:
    with pytest.raises(ImageError, match="/etc is a directory"):
        golden(base, Payload((make("a", b"x"), make("etc", b"x"))), cache, Silent())
    assert not list(cache.partial.iterdir())
    assert not list(cache.root.rglob("*.img"))
    assert not cache.pins()


def test_the_key_is_made_of_paths_modes_contents_and_links(make: Callable[..., PayloadFile]) -> None:
    variants = [
        Payload((make("a", b"x"),)),
        Payload((make("a", b"x", 0o755),)),
        Payload((make("a", b"y"),)),
        Payload((make("b", b"x"),)),
        Payload((make("a", b"x"),), (), {"l": "a"}),
        Payload((make("a", b"x"),), (), {"l": "b"}),
        Payload((replace(make("a", b"x"), uid=33),)),
        Payload((make("a", b"x"),), folders=(PayloadFolder("d", 0o755),)),
        Payload((make("a", b"x"),), folders=(PayloadFolder("d", 0o700),)),
        Payload((make("a", b"x"),), folders=(PayloadFolder("d", 0o700, claims=True),)),
    ]
    assert len({payload.key for payload in variants}) == len(variants)
    assert Payload((make("a", b"x"), make("b", b"y"))).key == Payload((make("b", b"y"), make("a", b"x"))).key


def test_when_it_is_made_anew_it_says_what_changed(
    base: Base, cache: Cache, make: Callable[..., PayloadFile]
) -> None:
    said = io.StringIO()
    first = Payload((make("a", b"x"), make("b", b"x")))
    golden(base, first, cache, Plain(said))
    assert "made anew" not in said.getvalue()
    second = Payload((make("a", b"x"), make("b", b"y")))
    golden(base, second, cache, Plain(said), former=key_of(base, first))
    assert "golden image of small: made anew, because b changed\n" in said.getvalue()


def test_a_gpt_base_gets_a_larger_last_partition_too(
    base: Base, cache: Cache, make: Callable[..., PayloadFile], tmp_path: Path
) -> None:
    image = tmp_path / "gpt.img"
    image.touch()
    os.truncate(image, base.image.stat().st_size + MIB)
    parts = table.read(base.image).partitions
    script = "label: gpt\n" + "".join(
        f"start={p.start // 512}, size={p.size // 512}, type={kind}\n"
        for p, kind in zip(parts, "UL", strict=True)
    )
    tool("sfdisk", "--quiet", image, data=script.encode())
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(base.image.read_bytes()[MIB:])
    made = golden(Base(image, "0" * 64, "gpt", EPOCH), Payload((make("a/b", b"x"),)), cache, Silent())
    assert ext4.read_file(*root(made), "a/b") == b"x"
    assert made.image.stat().st_size % GRAIN == 0
    found = json.loads(tool("sfdisk", "--json", made.image))["partitiontable"]
    assert found["partitions"][1]["size"] * 512 >= ext4.state(*root(made)).size
    assert "No errors detected" in tool("sfdisk", "--verify", made.image).decode()


def test_a_base_without_an_ext4_root_is_refused(
    base: Base, cache: Cache, make: Callable[..., PayloadFile], tmp_path: Path
) -> None:
    image = tmp_path / "no-root.img"
    data = bytearray(base.image.read_bytes())
    start = ext4.root_partition(base.image).start
    data[start : start + 4096] = bytes(4096)
    image.write_bytes(data)
    with pytest.raises(ImageError, match="no ext4 file system"):
        golden(Base(image, "1" * 64, "odd", EPOCH), Payload((make("a", b"x"),)), cache, Silent())
