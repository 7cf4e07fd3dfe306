"""What a real board would miss is said: servers that somebody else configured, and trees that lack something."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.net.walks import Played, boards, misserved, played, routed
from tests.tools.netns import inside, ip

from pibake.errors import PibakeError
from pibake.probe import MODELS, Result, Verdict, asking, loading, play, tftp, wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.net.lab import Lab

MENU = 'pxe-service=0,"Raspberry Pi Boot   "\n'
TFTP = "enable-tftp\ntftp-root={tree}\n"
PI3, PI3B_PLUS, PI4, PI5, UEFI = boards(["pi3", "pi3b+", "pi4", "pi5", "uefi"])
PATIENCE = 0.3


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "GRACE", 0.05)


def complaints(result: Result) -> dict[str, str]:
    """Return what is wrong, as notes by what was asked."""
    return {step.asked: step.note for step in result.steps if step.verdict is not Verdict.OK}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Path]]:
    """A server that does all a board needs, at once; tests change its tree and put it back."""
    with misserved(tmp_path_factory.mktemp("good"), MENU + TFTP) as made:
        yield made


def changed(
    good: tuple[Lab, Path], board: Played, files: dict[str, str | None], folder: Path | None = None
) -> Result:
    """Play a board with some files of the tree replaced, or away."""
    lab, tree = good
    kept = {name: (tree / name).read_bytes() if (tree / name).exists() else None for name in files}
    try:
        for name, text in files.items():
            put(tree / name, text.encode() if text is not None else None)
        return played(lab, board, folder, patience=PATIENCE)
    finally:
        for name, data in kept.items():
            put(tree / name, data)


def put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_a_pi_3_that_is_answered_at_once_may_hang_and_the_remedy_is_named(good: tuple[Lab, Path]) -> None:
    result = changed(good, PI3, {})
    assert result.boots
    assert "dhcp-reply-delay=2" in complaints(result)["DISCOVER"]


def test_a_board_without_a_folder_of_its_own_looks_in_the_root(good: tuple[Lab, Path]) -> None:
    for board in (PI3B_PLUS, PI4, PI5):
        result = changed(good, board, {})
        assert result.boots
        assert complaints(result) == {}
        asked = [step.asked for step in result.steps]
        assert "cmdline.txt" in asked
        assert f"{board.serial}/" in asked


def test_every_file_that_is_missing_is_named_and_why_it_matters(good: tuple[Lab, Path]) -> None:
    away = dict.fromkeys(("kernel8.img", "initrd.img", "cmdline.txt", "bcm2711-rpi-4-b.dtb", "fixup4.dat"))
    result = changed(good, PI4, away)
    assert not result.boots
    wrong = complaints(result)
    assert wrong.keys() == away.keys()
    assert "nothing to start" in wrong["kernel8.img"]
    assert "root file system" in wrong["cmdline.txt"]


def test_an_overlay_that_is_missing_stops_no_board(good: tuple[Lab, Path]) -> None:
    result = changed(good, PI4, {"overlays/vc4-kms-v3d.dtbo": None})
    assert result.boots
    assert "overlays/vc4-kms-v3d.dtbo" in complaints(result)


def test_a_pi_5_takes_the_common_kernel_if_its_own_is_not_there(
    good: tuple[Lab, Path], tmp_path: Path
) -> None:
    result = changed(good, PI5, {"kernel_2712.img": None}, tmp_path)
    assert result.boots
    assert result.kernel == tmp_path / "kernel8.img"
    named = changed(good, PI5, {"kernel_2712.img": None, "config.txt": "kernel=kernel_2712.img\n"})
    assert "kernel_2712.img" in complaints(named)


def test_config_txt_is_obeyed_with_its_filters_includes_and_prefixes(
    good: tuple[Lab, Path], tmp_path: Path
) -> None:
    config = "include more.txt\nos_prefix=current/\n[pi5]\nkernel=five\n[pi4]\nkernel=four\n[all]\ncmdline=words.txt\n"
    files: dict[str, str | None] = {
        "config.txt": config, "more.txt": "auto_initramfs=1\ndtoverlay=own\n", "current/four": "K", "current/words.txt": "a b\nc\n",
        "current/bcm2711-rpi-4-b.dtb": "T", "current/overlays/README": "", "current/overlays/own.dtbo": "O",
    }  # fmt: skip
    result = changed(good, PI4, files, tmp_path)
    assert complaints(result) == {}
    assert result.kernel == tmp_path / "current/four"
    assert result.initramfs is None
    assert result.cmdline == "a b"
    assert (tmp_path / "current/overlays/own.dtbo").read_text() == "O"


def test_a_recovery_elf_is_objected_to(good: tuple[Lab, Path]) -> None:
    assert complaints(changed(good, PI4, {"recovery.elf": "NOOBS"})).keys() == {"recovery.elf"}


def test_a_boot_rom_needs_bootcode_bin_and_no_bootsig_bin_and_goes_no_further(good: tuple[Lab, Path]) -> None:
    result = changed(good, PI3B_PLUS, {"bootcode.bin": None, "bootsig.bin": "signed"})
    assert complaints(result).keys() == {"bootcode.bin", "bootsig.bin"}
    assert not any(step.asked.endswith("start.elf") for step in result.steps)


def test_a_file_that_an_old_eeprom_cannot_count_is_warned_of(
    good: tuple[Lab, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BLOCKS", 10)
    assert "October 2022" in complaints(changed(good, PI4, {}))["kernel8.img"]
    assert "kernel_2712.img" not in complaints(changed(good, PI5, {}))
    assert (
        "September 2025"
        in complaints(changed(good, PI5, {"kernel_2712.img": "k" * 14680}))["kernel_2712.img"]
    )


def test_a_file_that_takes_longer_than_a_board_waits_is_too_slow(
    good: tuple[Lab, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODELS["pi4"]
    (stage,) = model.stages
    hasty = replace(stage, transfer=replace(stage.transfer, limit=0.0))
    monkeypatch.setitem(MODELS, "pi4", replace(model, stages=(hasty,)))
    result = changed(good, PI4, {})
    assert not result.boots
    assert "too slow" in complaints(result)["kernel8.img"]


def test_what_is_saved_stays_in_the_folder(good: tuple[Lab, Path], tmp_path: Path) -> None:
    kept = tmp_path / "a/b"
    files: dict[str, str | None] = {"config.txt": "kernel=x/../../../kernel8.img\n"}
    result = changed(good, PI4, files, kept)
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b"}
    assert result.kernel is None or kept in result.kernel.parents


def test_a_machine_with_uefi_is_told_that_no_boot_file_is_named(good: tuple[Lab, Path]) -> None:
    assert "architecture 11" in complaints(changed(good, UEFI, {}))["DISCOVER"]


def test_a_pi_3_without_the_three_spaces_goes_no_further(tmp_path: Path) -> None:
    with misserved(tmp_path, 'pxe-service=0,"Raspberry Pi Boot"\n' + TFTP) as (lab, _):
        strict, lax = (played(lab, board, patience=PATIENCE) for board in (PI3, PI3B_PLUS))
    assert "three spaces" in complaints(strict)["DISCOVER"]
    assert strict.server is None
    assert lax.boots


def test_without_option_43_a_pi_3_stops_and_a_pi_4_goes_by_option_66(tmp_path: Path) -> None:
    with misserved(tmp_path, 'dhcp-option=66,"192.168.10.2"\n' + TFTP) as (lab, _):
        three, four = (played(lab, board, patience=PATIENCE) for board in (PI3, PI4))
    assert "goes no further" in complaints(three)["DISCOVER"]
    assert not three.boots
    assert four.boots
    assert "option 43" in complaints(four)["DISCOVER"]


def test_a_router_alone_boots_nobody_and_two_routers_are_warned_of(tmp_path: Path) -> None:
    with misserved(tmp_path, "") as (lab, _):
        alone = played(lab, PI4, patience=PATIENCE)
        routed(lab, tmp_path / "second", "192.168.10.3/24")
        two = played(lab, PI4, patience=PATIENCE)
    assert '"Raspberry Pi Boot" in option 43' in complaints(alone)["DISCOVER"]
    assert not alone.boots
    assert any("2 servers give addresses (192.168.10.2, 192.168.10.3)" in step.note for step in two.steps)


def test_a_tftp_server_in_another_subnet_is_out_of_a_pi_3s_reach(tmp_path: Path) -> None:
    with misserved(tmp_path, MENU + 'dhcp-option=66,"10.0.0.1"\n') as (lab, _):
        result = played(lab, PI3, patience=PATIENCE)
    assert "10.0.0.1 is not in 192.168.10.0/24" in complaints(result)["TFTP server"]


def test_a_server_without_tftp_is_told_from_one_without_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tftp, "RETRY_SECONDS", 0.05)
    with misserved(tmp_path, MENU) as (lab, _):
        result = played(lab, PI4, patience=PATIENCE)
    assert [step.got for step in result.steps if step.verdict is Verdict.MISSING] == ["no answer"] * 2
    assert "UDP" in complaints(result)[f"{PI4.serial}/start4.elf"]


def test_a_board_without_an_eeprom_has_no_other_prefix(good: tuple[Lab, Path]) -> None:
    with pytest.raises(PibakeError, match="has no EEPROM"):
        played(good[0], PI3, prefix="mac")


def test_an_interface_with_another_mac_address_is_refused(good: tuple[Lab, Path]) -> None:
    seat = good[0].seat("02:00:00:00:00:07")
    with pytest.raises(PibakeError, match="eth0 does not have the board's MAC address"):
        inside(seat.namespace, lambda: play("pi4", "eth0", mac=PI4.mac, serial=PI4.serial))


def test_a_port_without_a_link_is_told_from_a_server_that_is_silent(
    good: tuple[Lab, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LINK_SECONDS", 0.1)
    lab, _ = good
    seat = lab.seat(PI4.mac)
    ip("-n", lab.server, "link", "set", seat.port, "down")
    with pytest.raises(PibakeError, match="eth0 has no link"):
        inside(seat.namespace, lambda: play("pi4", "eth0", mac=PI4.mac, serial=PI4.serial))
