"""Cards are written and read back: regular files, real loop devices, as root and as somebody who may use only the device."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.tools import command
from tests.tools.cards import AS_NOBODY, NOBODY, image, loop, needs_nobody, needs_root, open_to_all, pibake
from tests.tools.command import started
from tests.tools.images import MIB, tool

from pibake.errors import VerificationError
from pibake.flash import source, writer
from pibake.image import bmap, mapped, pieces
from pibake.image.extents import allocated
from pibake.progress import Silent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def card_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image(tmp_path_factory.mktemp("image") / "a.img")


def filled(path: Path, length: int) -> Path:
    """Make a used card: no byte of it is zero."""
    path.write_bytes(b"\xa5" * length)
    return path


def test_a_file_gets_the_images_bytes_and_holes(card_image: Path, tmp_path: Path) -> None:
    done = command.run("flash", str(card_image), str(tmp_path / "b.img"))
    assert done.returncode == 0, done.stderr
    assert "read back and right" in done.stdout
    assert (tmp_path / "b.img").read_bytes() == card_image.read_bytes()
    assert allocated(tmp_path / "b.img") < 45 * MIB


@pytest.mark.parametrize("length", [64 * MIB - 512, 64 * MIB - 1, 64 * MIB + 4096])
def test_images_of_any_length_are_written_whole(tmp_path: Path, length: int) -> None:
    path = image(tmp_path / "a.img", noise=14 * MIB)
    with path.open("r+b") as file:
        file.truncate(length)
    writer.write(source.image_file(path, Silent()), tmp_path / "b.img", Silent())
    assert (tmp_path / "b.img").read_bytes() == path.read_bytes()


def test_an_existing_file_is_overwritten_only_with_consent(card_image: Path, tmp_path: Path) -> None:
    target = filled(tmp_path / "b.img", 70 * MIB)
    refused = command.run("flash", str(card_image), str(target))
    assert refused.returncode == 1
    assert "--yes" in refused.stderr
    assert target.read_bytes()[:1] == b"\xa5"
    done = command.run("flash", str(card_image), str(target), "--yes", "--json")
    (facts,) = json.loads(done.stdout)
    assert (facts["source"], facts["verified"], facts["resumed"]) == ("a.img", True, 0)
    assert target.read_bytes() == card_image.read_bytes()


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"y\n", 0)])
def test_the_question_on_a_terminal_decides(
    card_image: Path, tmp_path: Path, answer: bytes, code: int
) -> None:
    target = filled(tmp_path / "b.img", MIB)
    controller, terminal = os.openpty()
    argv = pibake("flash", card_image, target)
    with started(argv, stdin=terminal, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        os.write(controller, answer)
        _, err = running.communicate(timeout=60)
    os.close(controller)
    os.close(terminal)
    assert "a file of 1.0 MiB" in err
    assert "All that is on it will be lost. Go on? [y/N]" in err
    assert running.returncode == code
    assert (target.stat().st_size == MIB) == bool(code)


def test_an_image_is_not_written_onto_itself(card_image: Path, tmp_path: Path) -> None:
    (tmp_path / "link.img").symlink_to(card_image)
    done = command.run("flash", str(card_image), str(tmp_path / "link.img"), "--yes")
    assert done.returncode == 1
    assert "it is what the image is made from" in done.stderr


def test_a_device_that_is_not_there_is_not_made(card_image: Path) -> None:
    done = command.run("flash", str(card_image), "/dev/pibake-none", "--yes")
    assert "there is no such device" in done.stderr


def test_the_block_map_beside_an_image_says_what_is_written(card_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    tool("cp", "--sparse=never", card_image, path)
    (tmp_path / "a.img.bmap").write_text(bmap.render(pieces.measure(path), 64 * MIB))
    done = command.run("flash", str(path), str(tmp_path / "b.img"), "--json")
    assert json.loads(done.stdout)[0]["written"] < 45 * MIB
    assert (tmp_path / "b.img").read_bytes() == path.read_bytes()


def test_an_image_that_changed_since_its_map_is_called_damaged(card_image: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    tool("cp", "--sparse=always", card_image, path)
    (tmp_path / "a.bmap").write_text(bmap.render(pieces.measure(path), 64 * MIB))
    with path.open("r+b") as file:
        file.seek(52 * MIB)
        file.write(b"changed")
    with pytest.raises(VerificationError, match=r"the image for .*b\.img, bytes") as caught:
        writer.write(source.image_file(path, Silent()), tmp_path / "b.img", Silent())
    assert "damaged" in caught.value.hint
    assert (tmp_path / "b.img").read_bytes()[:4096] == bytes(4096)


def test_a_file_with_secrets_is_for_its_owner_alone(card_image: Path, tmp_path: Path) -> None:
    secret = dataclasses.replace(source.image_file(card_image, Silent()), secret=True)
    (tmp_path / "old.img").touch(mode=0o644)
    for name in ("new.img", "old.img"):
        writer.write(secret, tmp_path / name, Silent())
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_arguments_that_do_not_go_together_are_usage_errors(card_image: Path, tmp_path: Path) -> None:
    for words in ((), (str(card_image),), ("a", "b", "c"), ("--list", "x")):
        assert command.run("flash", *words).returncode == 2
    command.run("init", "--yes", cwd=tmp_path)
    done = command.run("flash", "--all", str(tmp_path / "1"), str(tmp_path / "2"), cwd=tmp_path)
    assert done.returncode == 2
    assert "nodes, and 2 targets are given: one for each" in done.stderr
    twice = command.run("flash", "--all", "x", "./x", cwd=tmp_path)
    assert "named twice" in twice.stderr


def test_what_is_still_compressed_is_refused(card_image: Path, tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(tool("xz", "-0", "-c", data=card_image.read_bytes()[: 2 * MIB]))
    done = command.run("flash", str(tmp_path / "a.img"), str(tmp_path / "b.img"))
    assert "still compressed" in done.stderr
    assert not (tmp_path / "b.img").exists()


def test_memory_stays_small_whatever_the_images_size(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    with path.open("wb") as file:
        file.truncate(4 << 30)
        for start in range(0, 4 << 30, 128 * MIB):
            os.pwrite(file.fileno(), os.urandom(64 << 10) * 128, start)
    program = (
        "import atexit, re; from pathlib import Path; from pibake import cli; "
        "atexit.register(lambda: print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])); cli.main()"
    )
    argv = pibake("-q", "flash", path, tmp_path / "b.img", program=program)
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert int(out.splitlines()[-1]) < 200 << 10  # KiB
    with path.open("rb") as a, (tmp_path / "b.img").open("rb") as b:
        assert all(
            os.pread(a.fileno(), MIB, at) == os.pread(b.fileno(), MIB, at)
            for at in range(0, 4 << 30, 64 * MIB)
        )


@needs_root
def test_a_used_card_gets_all_that_is_in_use_and_keeps_no_old_table(card_image: Path, tmp_path: Path) -> None:
    with loop(filled(tmp_path / "card", 80 * MIB)) as device:
        done = command.run("flash", str(card_image), str(device), "--yes")
        assert done.returncode == 0, done.stderr
        whole, wanted = device.read_bytes(), card_image.read_bytes()
        assert tool("sfdisk", "--dump", device).count(b"start=") == 2
    for start, end in mapped.ranges(card_image):
        assert whole[start:end] == wanted[start:end]
    assert whole[-MIB:] == bytes(MIB)  # where the old table's second copy stood
    assert whole[64 * MIB : 70 * MIB] == b"\xa5" * 6 * MIB  # nothing reads that


@needs_root
def test_an_old_gpt_is_gone_from_both_ends(card_image: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    with card.open("wb") as file:
        file.truncate(80 * MIB)
    tool("sfdisk", "--quiet", card, data=b"label: gpt\nsize=8M\n")
    with loop(card) as device:
        command.run("flash", str(card_image), str(device), "--yes")
        assert b"label: dos" in tool("sfdisk", "--dump", device)
        assert b"EFI PART" not in device.read_bytes()[-MIB:]


@needs_root
def test_the_list_shows_a_card_and_what_is_on_it(card_image: Path, tmp_path: Path) -> None:
    tool("cp", card_image, tmp_path / "card")
    with loop(tmp_path / "card") as device:
        facts = {each["path"]: each for each in json.loads(command.run("flash", "--list", "--json").stdout)}
        assert facts[str(device)]["size"] == 64 * MIB
        assert facts[str(device)]["refusals"] == []
        refused = [each for each in facts.values() if each["system"]]
        assert all("running system" in each["refusals"][0] for each in refused)
        assert str(device) in command.run("flash", "--list").stdout


@needs_root
def test_a_mounted_device_is_refused(card_image: Path, tmp_path: Path) -> None:
    card = tmp_path / "card"
    with card.open("wb") as file:
        file.truncate(80 * MIB)
    tool("mke2fs", "-q", "-t", "ext4", card)
    (tmp_path / "mnt").mkdir()
    with loop(card) as device:
        tool("mount", device, tmp_path / "mnt")
        try:
            done = command.run("flash", str(card_image), str(device), "--yes")
        finally:
            tool("umount", tmp_path / "mnt")
    assert done.returncode == 1
    assert f"in use: {tmp_path / 'mnt'}" in done.stderr
    assert f"umount {tmp_path / 'mnt'}" in done.stderr


@needs_root
def test_a_target_shorter_than_the_image_is_refused_before_a_byte_is_written(
    card_image: Path, tmp_path: Path
) -> None:
    with loop(filled(tmp_path / "card", 60 * MIB)) as device:
        done = command.run("flash", str(card_image), str(device), "--yes")
        assert done.returncode == 1
        assert f"it has {60 * MIB} bytes; the image needs {64 * MIB}" in done.stderr
        assert device.read_bytes() == b"\xa5" * 60 * MIB


@needs_root
def test_the_partition_of_a_card_is_no_target(card_image: Path) -> None:
    done = command.run("flash", str(card_image), "/dev/zero", "--yes")
    assert "neither a block device nor a file" in done.stderr


@needs_nobody
def test_permission_for_the_device_is_all_that_is_needed(card_image: Path, tmp_path: Path) -> None:
    open_to_all(card_image)
    with loop(filled(tmp_path / "card", 80 * MIB)) as device:
        os.chown(device, 0, NOBODY)
        device.chmod(0o660)
        try:
            argv = pibake("flash", card_image, device, "--yes", prefix=AS_NOBODY, HOME="/nonexistent")
            done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
        finally:
            os.chown(device, 0, 0)
        assert done.returncode == 0, done.stderr
        whole, wanted = device.read_bytes(), card_image.read_bytes()
        assert all(whole[start:end] == wanted[start:end] for start, end in mapped.ranges(card_image))
