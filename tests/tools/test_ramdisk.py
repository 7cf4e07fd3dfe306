"""boot.img and boot.sig of HTTP boot, read back by fsck.vfat, mtools and openssl from what is streamed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.conftest import tool

from pibake.errors import ImageError
from pibake.identity import bootkey
from pibake.identity.pki import public_pem
from pibake.image import fat
from pibake.serve import ramdisk
from pibake.tree import File, Tree

if TYPE_CHECKING:
    from pathlib import Path

    from pibake.serve.ramdisk import Ramdisk

EPOCH = 1_700_000_000


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """The files of a boot partition, some of them for boards without HTTP boot."""
    folder = tmp_path / "golden"
    (folder / "overlays").mkdir(parents=True)
    for number, name in enumerate(
        ["start4.elf", "vmlinuz", "initrd.img", "bootcode.bin", "start.elf", "start_x.elf"]
    ):
        (folder / name).write_bytes(bytes([number + 1]) * (1 << 20))
    (folder / "bcm2711-rpi-4-b.dtb").write_bytes(b"dtb")
    (folder / "bcm2837-rpi-3-b.dtb").write_bytes(b"dtb")
    (folder / "overlays" / "disable-bt.dtbo").write_bytes(b"overlay")
    (folder / "config.txt").write_text("the golden image's\n")
    return folder


def node(content: Path, name: str, more: int = 0) -> Ramdisk:
    shared = content.parent / "shared.img"
    ramdisk.make(content, shared, epoch=EPOCH)
    files = {
        "config.txt": File(f"{name}'s".encode()),
        "cmdline.txt": File(b"root=/dev/nbd0 " + name.encode()),
    }
    extra = {"pibake.cpio": File(bytes(more))} if more else {}
    return ramdisk.ramdisk(shared, Tree({**files, **extra}), epoch=EPOCH)


def streamed(of: Ramdisk, path: Path) -> Path:
    with path.open("wb") as file:
        file.writelines(of.chunks())
    return path


def openssl_verifies(image: Path, sig: str, public: str) -> bool:
    lines = dict(line.split(": ") for line in sig.splitlines()[1:])
    signature, key = image.with_suffix(".bin"), image.with_suffix(".pem")
    signature.write_bytes(bytes.fromhex(lines["rsa2048"]))
    key.write_text(public)
    argv = ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature), str(image)]
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def test_what_is_streamed_is_a_sound_file_system_with_the_files_of_both(
    content: Path, tmp_path: Path
) -> None:
    image = streamed(node(content, "node3", 1 << 20), tmp_path / "boot.img")
    tool("fsck.vfat", "-n", image)
    assert sorted(fat.listing(image, 0, deep=True)) == [
        "bcm2711-rpi-4-b.dtb",
        "cmdline.txt",
        "config.txt",
        "initrd.img",
        "overlays",
        "overlays/disable-bt.dtbo",
        "pibake.cpio",
        "start4.elf",
        "vmlinuz",
    ]
    found = fat.contents(image, 0, ["config.txt", "cmdline.txt", "vmlinuz"])
    assert found["config.txt"] == b"node3's"
    assert found["cmdline.txt"] == b"root=/dev/nbd0 node3"
    assert found["vmlinuz"] == (content / "vmlinuz").read_bytes()


def test_openssl_verifies_the_signature_and_not_of_a_byte_more_or_less(content: Path, tmp_path: Path) -> None:
    key, made = bootkey.new(), node(content, "node3")
    image = streamed(made, tmp_path / "boot.img")
    sig = made.sig(key, EPOCH)
    assert sig.splitlines()[:2] == [tool("sha256sum", image).split()[0], f"ts: {EPOCH}"]
    assert openssl_verifies(image, sig, public_pem(key))
    assert not openssl_verifies(image, sig, public_pem(bootkey.new()))
    with image.open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"tampered")
    assert not openssl_verifies(image, sig, public_pem(key))


def test_nodes_differ_and_share_one_image_on_disk(content: Path, tmp_path: Path) -> None:
    one, other = node(content, "node3"), node(content, "node4")
    assert one.sha256 != other.sha256
    assert one.image.base == other.image.base
    assert sum(len(patch.data) for patch in one.image.patches) < 256 << 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["golden", "shared.img", "shared.json"]


def test_a_digest_is_computed_once_for_the_same_content(
    content: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = node(content, "node3")
    monkeypatch.setattr(ramdisk, "_digest", lambda _: pytest.fail("it is known"))
    assert node(content, "node3").sha256 == first.sha256


def test_a_digest_of_another_shared_image_is_not_believed(content: Path) -> None:
    before = node(content, "node3")
    shared = content.parent / "shared.img"
    shared.unlink()
    (content / "vmlinuz").write_bytes(b"another")
    assert node(content, "node3").sha256 != before.sha256
    assert shared.exists()


def test_files_that_boards_cannot_take_are_refused_with_the_reason(content: Path, tmp_path: Path) -> None:
    with (content / "initrd.img").open("r+b") as file:
        file.truncate(130_000_000)
    with pytest.raises(ImageError, match=r"132 MB, and a board takes a boot\.img of at most 128 MB"):
        ramdisk.make(content, tmp_path / "shared.img", epoch=EPOCH)
    assert not (tmp_path / "shared.img").exists()


def test_a_node_with_more_than_there_is_room_for_is_refused(content: Path) -> None:
    with pytest.raises(ImageError, match="no room"):
        node(content, "node3", 14 << 20)
