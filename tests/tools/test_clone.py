from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.tools import images

from pibake.image import pieces
from pibake.image.clone import clone
from pibake.image.composition import Composition, Patch, compose
from pibake.image.extents import allocated, extents

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def sparse(path: Path, *data: tuple[int, bytes], length: int) -> Path:
    with path.open("wb") as file:
        file.truncate(length)
        for position, content in data:
            os.pwrite(file.fileno(), content, position)
    return path


def composed(source: Path, *patches: Patch, length: int = 0) -> Composition:
    """Compose an image of a file that need not be one of a disk: everything that is not a hole is a piece."""
    with source.open("rb") as file:
        ranges = list(pieces.cut(extents(file.fileno(), 0, source.stat().st_size)))
    content = source.read_bytes()
    known = [pieces.Piece(a, b, hashlib.sha256(content[a:b]).hexdigest()) for a, b in ranges]
    return compose(source, "", known, patches, length=length)


@pytest.mark.parametrize("length", [0, 1, 4096, 64 * MIB + 17])
def test_a_clone_has_the_same_bytes_and_the_digest_is_that_of_the_file(tmp_path: Path, length: int) -> None:
    data = [(0, b"start"), (4 * MIB, os.urandom(3 * MIB)), (60 * MIB, os.urandom(100_000))]
    source = sparse(tmp_path / "a", *(d for d in data if d[0] + len(d[1]) < length), length=length)
    digest = clone(composed(source), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == source.read_bytes()
    assert digest == hashlib.sha256(source.read_bytes()).hexdigest()


def test_patches_are_in_the_clone_and_in_its_digest_and_not_in_the_base(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", (0, b"a" * 4096), (8 * MIB, b"b" * 8192), length=16 * MIB)
    before = source.read_bytes()
    patches = (Patch(2 * MIB, b"seed" * 1024), Patch(8 * MIB + 4096, b"c" * 8192))
    digest = clone(composed(source, *patches), tmp_path / "b")
    after = (tmp_path / "b").read_bytes()
    assert digest == hashlib.sha256(after).hexdigest()
    assert after[2 * MIB : 2 * MIB + 4096] == b"seed" * 1024
    assert after[8 * MIB : 8 * MIB + 12288] == b"b" * 4096 + b"c" * 8192
    assert source.read_bytes() == before


def test_a_longer_clone_ends_in_zeros(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", (0, b"a" * 4096), length=MIB)
    digest = clone(composed(source, length=4 * MIB), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == source.read_bytes() + bytes(3 * MIB)
    assert digest == hashlib.sha256((tmp_path / "b").read_bytes()).hexdigest()


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", (100 * MIB, b"x" * 4096), length=1 << 30)
    clone(composed(source), tmp_path / "b")
    assert (tmp_path / "b").stat().st_size == 1 << 30
    assert allocated(tmp_path / "b") <= allocated(source)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.btrfs", path=images.ENVIRONMENT["PATH"]),
    reason="mounts a file system that shares extents, which needs root and btrfs-progs",
)
def test_where_extents_can_be_shared_a_clone_takes_only_its_patches(tmp_path: Path) -> None:
    disk, mount = tmp_path / "disk", tmp_path / "mnt"
    mount.mkdir()
    sparse(disk, length=512 * MIB)
    images.tool("mkfs.btrfs", "-q", disk)
    images.tool("mount", "-o", "loop", disk, mount)
    try:
        source = sparse(mount / "a", (0, os.urandom(100 * MIB)), length=120 * MIB)
        image = composed(source, Patch(MIB, b"p" * 8192), Patch(110 * MIB, b"q" * 4096), length=128 * MIB)
        images.tool("sync", "-f", mount)
        before = shutil.disk_usage(mount).used
        digest = clone(image, mount / "b")
        images.tool("sync", "-f", mount)
        assert shutil.disk_usage(mount).used - before < 10 * MIB
        content = bytearray(source.read_bytes()) + bytes(8 * MIB)
        content[MIB : MIB + 8192], content[110 * MIB : 110 * MIB + 4096] = b"p" * 8192, b"q" * 4096
        assert (mount / "b").read_bytes() == content
        assert digest == hashlib.sha256(content).hexdigest()
    finally:
        images.tool("umount", mount)


def test_a_clone_that_is_stopped_does_not_hash_to_its_end(tmp_path: Path) -> None:
    source = sparse(tmp_path / "a", (0, os.urandom(MIB)), length=MIB)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clone(composed(source, length=1 << 40), tmp_path / "b", stop)


def test_extents_are_the_ranges_with_data(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", (MIB, b"x" * 8192), (4 * MIB, b"y" * 4096), length=8 * MIB)
    with path.open("rb") as file:
        found = list(extents(file.fileno(), 0, 8 * MIB))
        assert found == [(MIB, MIB + 8192), (4 * MIB, 4 * MIB + 4096)]
        assert list(extents(file.fileno(), MIB + 4096, 2 * MIB)) == [(MIB + 4096, MIB + 8192)]


def test_what_reading_a_composition_gives_does_not_depend_on_where_one_begins(tmp_path: Path) -> None:
    source = images.make(tmp_path / "a.img")
    patches = (Patch(8192, b"p" * 4096), Patch(5 * MIB, b"q" * 12288))
    image = composed(source, *patches, length=68 * MIB)
    clone(image, tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    with image.opened() as reader:
        for start, count in ((0, 1), (8000, 5000), (12287, 2), (5 * MIB + 4095, 9000), (64 * MIB - 3, 10)):
            view = memoryview(bytearray(count))
            reader.read_into(view, start)
            assert view == whole[start : start + count], (start, count)
