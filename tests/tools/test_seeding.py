"""What a card gets: which blocks are in use, what a seed changes, and the deltas made of that, each against real tools."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.tools import images, layouts

from pibake.cache import Cache
from pibake.errors import ImageError, VerificationError
from pibake.image import delta, fat, mapped, pieces, seeding, table
from pibake.image.artifact import sha256
from pibake.image.clone import clone
from pibake.image.composition import Composition, compose
from pibake.progress import Silent
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
EPOCH = 1_700_000_000
TREE = Tree(
    {
        "user-data": File(b"#cloud-config\n" * 900),
        "meta-data": File(b"instance-id: one\n"),
        "config.txt": File(b"arm_64bit=1\nenable_uart=1\n"),
        "empty": File(b""),
        "zeros": File(bytes(50_000)),
        "sub/folder/file": File(b"deep" * 2000),
    }
)


def base(folder: Path, label: str = "dos") -> Path:
    return images.make(folder / f"{label}.img", label=label)


def composed(image: Path, tree: Tree = TREE, size: int = 0) -> Composition:
    length = seeding.length_of(image, size)
    patches = seeding.patches(image, tree, epoch=EPOCH, length=length)
    return compose(image, sha256(image), pieces.measure(image), patches, length=length, secret=True)


def mtools(*argv: str | Path) -> bytes:
    return subprocess.run(
        argv, check=True, capture_output=True, env={**images.ENVIRONMENT, **fat.ENVIRONMENT}
    ).stdout


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_patches_are_what_mtools_writes_into_a_copy(tmp_path: Path, label: str) -> None:
    image = base(tmp_path, label)
    clone(composed(image), tmp_path / "ours.img")
    copy = tmp_path / "copy.img"
    copy.write_bytes(image.read_bytes())
    fat.write(copy, MIB, TREE, epoch=EPOCH)
    assert (tmp_path / "ours.img").read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("name", ["hypriotos-1.12", "ubuntu-26.04"])
def test_patches_are_right_in_every_vendors_layout(tmp_path: Path, name: str) -> None:
    image = tmp_path / "base.img"
    layouts.make(name, image)
    start = table.read(image).partitions[0].start
    image_ = composed(image)
    clone(image_, tmp_path / "ours.img")
    copy = tmp_path / "copy.img"
    copy.write_bytes(image.read_bytes())
    fat.write(copy, start, TREE, epoch=EPOCH)
    ours = (tmp_path / "ours.img").read_bytes()
    theirs = copy.read_bytes()
    ends = (
        []
        if table.read(image).label == "dos"
        else [(0, seeding.GPT), (len(theirs) - seeding.GPT, len(theirs))]
    )
    for at in range(0, len(theirs), 4096):
        if ours[at : at + 4096] != theirs[at : at + 4096]:  # a GPT moves when an image becomes longer
            assert any(first <= at < last for first, last in ends), at
    for path, file in TREE:
        assert mtools("mcopy", "-i", f"{tmp_path / 'ours.img'}@@{start}", f"::{path}", "-") == file.data


def test_only_what_is_in_use_and_what_was_written_is_mapped_and_all_of_it(tmp_path: Path) -> None:
    """Flash the pieces onto a card full of something else: every file must come out right, also those of zeros."""
    image = base(tmp_path)
    whole = composed(image)
    clone(whole, tmp_path / "right.img")
    right = (tmp_path / "right.img").read_bytes()
    card = bytearray(b"\xa5" * len(right))
    for piece in whole.pieces:
        card[piece.start : piece.end] = right[piece.start : piece.end]
    (tmp_path / "card.img").write_bytes(card)
    for path, file in TREE:
        assert mtools("mcopy", "-i", f"{tmp_path / 'card.img'}@@1M", f"::{path}", "-") == file.data
    assert card != right


def test_blocks_of_zeros_that_ext4_has_in_use_are_mapped(tmp_path: Path) -> None:
    image, content, root = base(tmp_path), tmp_path / "content", tmp_path / "root.ext4"
    content.write_bytes(b"x" * 3 * MIB)
    with root.open("wb") as file:
        file.truncate(30 * MIB)
    images.tool("mke2fs", "-q", "-t", "ext4", root)
    images.tool("debugfs", "-w", "-R", f"write {content} zeros", root)
    blocks = [int(block) for block in images.tool("debugfs", "-R", "blocks zeros", root).split()]
    size = int(images.tool("dumpe2fs", "-h", root).decode().partition("Block size:")[2].split()[0])
    filesystem = bytearray(root.read_bytes())
    for block in blocks:
        filesystem[block * size : (block + 1) * size] = bytes(size)
    with image.open("r+b") as file:
        file.seek(33 * MIB)
        file.write(filesystem)
    # as tools do that copy a card: everything that reads as zeros becomes a hole
    images.tool("fallocate", "--dig-holes", image)
    ranges = mapped.ranges(image)
    for block in blocks:
        at = 33 * MIB + block * size
        assert any(start <= at and at + size <= end for start, end in ranges), block
    assert len(blocks) * size >= 3 * MIB
    assert sum(end - start for start, end in ranges) < 28 * MIB


def test_an_unknown_file_system_is_mapped_whole(tmp_path: Path) -> None:
    image = base(tmp_path)  # its second partition holds noise
    assert any(start <= 33 * MIB and end >= 63 * MIB for start, end in mapped.ranges(image))


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_larger_image_has_a_sound_table(tmp_path: Path, label: str) -> None:
    image = base(tmp_path, label)
    clone(composed(image, size=101 * MIB), tmp_path / "large.img")
    assert (tmp_path / "large.img").stat().st_size == 104 * MIB  # the next multiple of 4 MiB
    assert table.read(tmp_path / "large.img").partitions == table.read(image).partitions
    if label == "gpt":
        said = images.tool("sfdisk", "--verify", tmp_path / "large.img").decode()
        assert "No errors detected" in said
        assert "GPT PMBR size mismatch" not in said


def test_an_image_smaller_than_its_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="an image of 48 MiB is too small for this base, which needs 64 MiB"):
        seeding.length_of(base(tmp_path), 48 * MIB)


class Store:
    """A cache with one golden image in it, and a delta made of it."""

    def __init__(self, folder: Path) -> None:
        self.cache = Cache(folder / "cache")
        temp = base(folder)
        self.digest = sha256(temp)
        self.golden = self.cache.keep("golden@x", temp, self.digest, {"name": "golden"}, Silent())
        self.image = composed(self.golden)
        self.delta = folder / "node3.delta"
        delta.write(self.image, self.delta, node={"hostname": "node3"}, base_name="golden", epoch=EPOCH)
        clone(self.image, folder / "right.img")
        self.right = sha256(folder / "right.img")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_delta_and_its_golden_image_are_the_image(store: Store, tmp_path: Path) -> None:
    image = delta.opened(store.delta, store.cache, Silent())
    assert image == store.image
    assert clone(image, tmp_path / "out.img") == store.right
    given = delta.opened(store.delta, Cache(tmp_path / "other"), Silent(), golden=store.golden)
    assert given == store.image


def test_a_delta_is_small_and_the_same_every_time(store: Store, tmp_path: Path) -> None:
    assert store.delta.stat().st_size < 20_000
    delta.write(store.image, tmp_path / "again", node={"hostname": "node3"}, base_name="golden", epoch=EPOCH)
    assert (tmp_path / "again").read_bytes() == store.delta.read_bytes()


def test_a_delta_is_read_by_tar(store: Store) -> None:
    said = subprocess.run(
        ["tar", "--zstd", "-xOf", store.delta, "delta.json"], check=True, capture_output=True
    )
    assert json.loads(said.stdout)["golden"]["sha256"] == store.digest


def test_another_golden_image_is_refused(store: Store, tmp_path: Path) -> None:
    other = images.make(tmp_path / "other.img", seed=2)
    with pytest.raises(VerificationError, match=r"the golden image .*other\.img does not match"):
        delta.opened(store.delta, store.cache, Silent(), golden=other)


def test_a_golden_image_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"needs the image with the sha256 {store.digest[:16]}"):
        delta.opened(store.delta, Cache(tmp_path / "empty"), Silent())


def test_a_golden_image_that_was_damaged_in_the_cache_is_found_out(store: Store) -> None:
    store.golden.chmod(0o644)
    with store.golden.open("r+b") as file:
        file.seek(40 * MIB)
        file.write(b"rot")
    with pytest.raises(VerificationError, match="the cached image"):
        delta.opened(store.delta, store.cache, Silent())


@pytest.mark.parametrize("where", [0, 100, -100, -1])
def test_a_damaged_delta_is_refused(store: Store, where: int) -> None:
    data = bytearray(store.delta.read_bytes())
    data[where] ^= 0x55
    store.delta.write_bytes(data)
    with pytest.raises(ImageError, match="is no delta file that pibake can read"):
        delta.opened(store.delta, store.cache, Silent())


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_delta_that_was_cut_short_is_refused(store: Store, share: float) -> None:
    data = store.delta.read_bytes()
    store.delta.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="is no delta file that pibake can read"):
        delta.opened(store.delta, store.cache, Silent())


def test_what_a_delta_does_not_promise_is_not_made(store: Store) -> None:
    other = replace(store.image, patches=store.image.patches[1:])  # with the digest of the right one
    delta.write(other, store.delta, node={}, base_name="golden", epoch=EPOCH)
    with pytest.raises(VerificationError, match="the image composed of"):
        delta.opened(store.delta, store.cache, Silent())
