"""Cards that fail, lie, vanish or are taken twice, and flashes that are killed: nothing half-boots, and the next run goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.tools import command
from tests.tools.cards import SMALL_SYNCS, bad_card, image, loop, needs_root, noisy, pibake, same, wait
from tests.tools.images import MIB, tool

from pibake.flash import mark
from pibake.image import mapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.tools.cards import BadCard

LENGTH = 64 * MIB


@pytest.fixture(scope="module")
def card_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy(tmp_path_factory.mktemp("image") / "a.img", LENGTH)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[BadCard]:
    with bad_card(tmp_path, LENGTH + 4 * MIB) as made:
        yield made


def marked(path: Path) -> int:
    """Return how far a card says it is written; -1 if it is not marked as unfinished."""
    with path.open("rb") as file:
        found = mark.decode(file.read(mark.SIZE))
    return found.synced if found else -1


def has_table(path: Path) -> bool:
    done = subprocess.run(["/usr/sbin/sfdisk", "--dump", path], check=False, capture_output=True)
    return not done.returncode


def begin(source: Path, target: Path) -> subprocess.Popen[str]:
    argv = pibake("flash", source, target, "--yes", program=SMALL_SYNCS)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@needs_root
def test_an_error_in_the_middle_names_the_device_and_the_bytes_and_leaves_no_partition_table(
    card: BadCard, card_image: Path
) -> None:
    card.tell(eio=[30 * MIB, 31 * MIB])
    done = command.run("flash", str(card_image), str(card.device), "--yes")
    assert done.returncode == 1
    found = re.search(rf"cannot write bytes (\d+) to (\d+) of {card.device}: input/output error", done.stderr)
    assert found, done.stderr
    assert int(found[1]) < 31 * MIB < int(found[2]) + MIB
    assert "counterfeits" in done.stderr
    assert not has_table(card.backing)
    card.tell()
    again = command.run("flash", str(card_image), str(card.device), "--yes")
    assert again.returncode == 0, again.stderr
    assert same(card.backing, card_image)


@needs_root
def test_a_card_that_forgets_what_is_written_is_found_out(card: BadCard, card_image: Path) -> None:
    card.tell(drop=[20 * MIB, 23 * MIB])
    done = command.run("flash", str(card_image), str(card.device), "--yes")
    assert done.returncode == 4
    found = re.search(r"MiB bad: bytes (\d+) to (\d+)\)", done.stderr)
    assert found, done.stderr
    assert int(found[1]) <= 20 * MIB
    assert 23 * MIB <= int(found[2]) <= 26 * MIB
    assert "counterfeits" in done.stderr
    assert not has_table(card.backing)
    assert marked(card.backing) == -1  # another run begins anew


@needs_root
def test_a_byte_that_comes_back_changed_is_found_out(card: BadCard, card_image: Path) -> None:
    card.tell(flip=40 * MIB + 5)
    done = command.run("flash", str(card_image), str(card.device), "--yes")
    assert done.returncode == 4
    assert f"(1.0 MiB bad: bytes {40 * MIB} to {41 * MIB})" in done.stderr
    unread = command.run("flash", str(card_image), str(card.device), "--yes", "--no-verify")
    assert unread.returncode == 0
    assert "not read back" in unread.stdout


@needs_root
def test_a_first_block_that_does_not_last_is_found_out(card: BadCard, card_image: Path) -> None:
    card.tell(flip=100)
    done = command.run("flash", str(card_image), str(card.device), "--yes")
    assert done.returncode == 4
    assert "bytes 0 to" in done.stderr


@needs_root
def test_what_a_file_system_has_in_use_is_right_on_a_used_card_also_where_the_image_has_holes(
    card: BadCard, tmp_path: Path
) -> None:
    source = image(tmp_path / "holes.img")
    card.backing.write_bytes(b"\xa5" * (LENGTH + 4 * MIB))
    done = command.run("flash", str(source), str(card.device), "--yes")
    assert done.returncode == 0, done.stderr
    written, wanted = card.backing.read_bytes(), source.read_bytes()
    for start, end in mapped.ranges(source):
        assert written[start:end] == wanted[start:end]
    assert mapped.ranges(source)[-1][1] >= 63 * MIB


@needs_root
@pytest.mark.parametrize(("at", "mapped"), [(0, False), (12 * MIB, False), (28 * MIB, True)])
def test_a_killed_flash_is_no_card_and_the_next_run_goes_on(
    card: BadCard, card_image: Path, tmp_path: Path, at: int, mapped: bool
) -> None:
    if mapped:  # the digests are known
        map_of_it = tool("bmaptool", "-q", "create", card_image)
        card_image = Path(shutil.copy(card_image, tmp_path / "mapped.img"))
        card_image.with_suffix(".bmap").write_bytes(map_of_it)
    tool("dd", f"if={card_image}", f"of={card.device}", "bs=1M", "count=2", "conv=fsync", "status=none")
    assert has_table(card.backing)
    card.tell(delay=0.004)
    running = begin(card_image, card.device)
    wait(lambda: marked(card.backing) >= at)
    running.kill()
    running.communicate()
    assert not has_table(card.backing)
    synced = marked(card.backing)
    card.tell()
    with begin(card_image, card.device) as again:
        out, err = again.communicate()
    assert again.returncode == 0, err
    assert same(card.backing, card_image)
    assert "going on at" in err
    assert not synced or f" {(LENGTH - synced) / MIB:.1f} MiB written (" in out


@needs_root
def test_what_changed_on_an_unfinished_card_is_written_again(card: BadCard, card_image: Path) -> None:
    card.tell(delay=0.004)
    running = begin(card_image, card.device)
    wait(lambda: marked(card.backing) >= 20 * MIB)
    running.kill()
    running.communicate()
    with card.backing.open("r+b") as file:
        file.seek(10 * MIB + 7)
        file.write(b"elsewhere")
    card.tell()
    done = command.run("flash", str(card_image), str(card.device), "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 piece" in done.stderr
    assert same(card.backing, card_image)


@needs_root
def test_another_image_does_not_go_on_where_the_first_stopped(
    card: BadCard, card_image: Path, tmp_path: Path
) -> None:
    card.tell(delay=0.004)
    running = begin(card_image, card.device)
    wait(lambda: marked(card.backing) >= 20 * MIB)
    running.kill()
    running.communicate()
    card.tell()
    other = image(tmp_path / "other.img", seed=2)
    done = command.run("flash", str(other), str(card.device), "--yes")
    assert done.returncode == 0, done.stderr
    assert "going on" not in done.stderr
    written, wanted = card.backing.read_bytes(), other.read_bytes()
    assert all(written[start:end] == wanted[start:end] for start, end in mapped.ranges(other))


@needs_root
def test_being_told_to_stop_says_on_the_card_how_far_it_is(card: BadCard, card_image: Path) -> None:
    card.tell(delay=0.004)
    running = begin(card_image, card.device)
    wait(lambda: marked(card.backing) >= 8 * MIB)
    running.terminate()
    _, err = running.communicate()
    assert running.returncode == 143
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    assert marked(card.backing) >= 8 * MIB


@needs_root
def test_two_flashes_to_one_device_do_not_meet(card: BadCard, card_image: Path) -> None:
    card.tell(delay=0.004)
    running = begin(card_image, card.device)
    wait(lambda: marked(card.backing) >= 0)
    second = command.run("flash", str(card_image), str(card.device), "--yes")
    assert second.returncode == 1
    assert f"{card.device} is being written by process {running.pid} (" in second.stderr
    card.tell()
    _, err = running.communicate()
    assert running.returncode == 0, err
    assert same(card.backing, card_image)


def test_two_flashes_to_one_file_do_not_meet(card_image: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.img"
    with target.open("wb") as file:
        holder = subprocess.Popen(["flock", "--exclusive", target, "sleep", "60"])
        wait(lambda: str(holder.pid) in tool("lslocks", "--noheadings", "--output", "PID").decode())
        done = command.run("flash", str(card_image), str(target), "--yes")
        holder.kill()
        holder.wait()
    assert file.closed
    assert f"is being written by process {holder.pid} (flock" in done.stderr


@needs_root
def test_a_card_that_is_taken_out_is_called_removed(card: BadCard, card_image: Path) -> None:
    card.tell(delay=0.004)
    running = begin(card_image, card.device)
    wait(lambda: marked(card.backing) >= 8 * MIB)
    os.truncate(card.backing, 0)
    tool("losetup", "--set-capacity", card.device)
    _, err = running.communicate()
    assert running.returncode == 1
    assert f"{card.device} was removed" in err
    assert "goes on where it stopped" in err


@needs_root
def test_a_full_disk_is_named(card_image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder)
    try:
        done = command.run("flash", str(card_image), str(folder / "b.img"))
    finally:
        tool("umount", folder)
    assert done.returncode == 1
    assert "the disk is full: cannot write bytes" in done.stderr
    assert f"free some space in {folder}" in done.stderr


@needs_root
def test_several_cards_are_written_at_once_and_one_that_fails_stops_no_other(
    card: BadCard, card_image: Path, tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from pibake.cli.flash import Job, _write
    from pibake.errors import PibakeError
    from pibake.flash.source import image_file
    from pibake.progress import Silent

    with (tmp_path / "other").open("wb") as file:
        file.truncate(LENGTH)
    card.tell(eio=[0, LENGTH])
    source = image_file(card_image, Silent())
    with loop(tmp_path / "other") as device, ThreadPoolExecutor(1) as pool:
        jobs = [Job("node1", source, card.device, ()), Job("node2", source, device, ())]
        future = pool.submit(_write, jobs, Silent(), verify=True)
        with pytest.raises(PibakeError, match="input/output error"):
            future.result()
        assert same(device, card_image)
