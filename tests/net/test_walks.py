"""Every board walks DHCP and TFTP against pibake's own dnsmasq, as a proxy beside a router and with reservations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.net import trees
from tests.net.walks import Played, all_played, boards, played, served

from pibake.netboot.values import PROXY, SERVER
from pibake.probe import MODELS, Result, Verdict

if TYPE_CHECKING:
    from pathlib import Path

ROM = ("pi2", "pi3", "pi3b+")


FLOCK = 32


def walked(which: list[Played], dhcp: str, folder: Path) -> list[tuple[Played, Result]]:
    with served(folder, [board.client() for board in which], dhcp) as made:
        return list(zip(which, all_played(made, which, folder / "boards"), strict=True))


@pytest.fixture(scope="module")
def all_walks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Played, Result]]]:
    """Three networks at a time, since most of it is waiting: every board under both kinds of DHCP, and many Pi 3s."""
    jobs = {PROXY: (boards(), PROXY), SERVER: (boards(), SERVER), "flock": (boards(["pi3"] * FLOCK), SERVER)}
    with ThreadPoolExecutor(len(jobs)) as pool:
        begun = {name: pool.submit(walked, *job, tmp_path_factory.mktemp(name)) for name, job in jobs.items()}
        return {name: future.result() for name, future in begun.items()}


@pytest.fixture(scope="module")
def walks(
    all_walks: dict[str, list[tuple[Played, Result]]],
) -> dict[str, dict[str, tuple[Played, Result]]]:
    return {
        dhcp: {board.model: (board, result) for board, result in all_walks[dhcp]} for dhcp in (PROXY, SERVER)
    }


def said(result: Result) -> str:
    return "\n".join(f"{s.verdict}: {s.asked}: {s.got}: {s.note}" for s in result.steps)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_every_board_gets_what_it_boots_and_nothing_to_complain_of(
    walks: dict[str, dict[str, tuple[Played, Result]]], dhcp: str, model: str
) -> None:
    board, result = walks[dhcp][model]
    assert [step for step in result.steps if step.verdict is not Verdict.OK] == [], said(result)
    assert str(result.server) == "192.168.10.2"
    assert result.kernel
    if model == "uefi":
        assert result.kernel.read_bytes().startswith(b"MZ")
    else:
        assert result.kernel.read_bytes() == MODELS[model].board.encode().ljust(trees.BLOCKS, b"k")
        assert result.initramfs
        assert result.cmdline == trees.CMDLINE
    address = str(result.address)
    assert address == f"{board.address}/24" if dhcp == SERVER else address.startswith("192.168.10.1")


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_a_pi_goes_by_its_serials_folder_and_asks_its_boot_rom_s_file_without_it(
    walks: dict[str, dict[str, tuple[Played, Result]]], dhcp: str
) -> None:
    for model, (board, result) in walks[dhcp].items():
        asked = [step.asked for step in result.steps]
        if model != "uefi":
            assert f"{board.serial}/cmdline.txt" in asked
            assert f"{board.serial}/overlays/vc4-kms-v3d.dtbo" in asked
        assert ("bootcode.bin" in asked) == (model in ROM)


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_only_the_boot_roms_that_may_hang_are_answered_late(
    walks: dict[str, dict[str, tuple[Played, Result]]], dhcp: str
) -> None:
    for model in ("pi2", "pi3"):
        steps = walks[dhcp][model][1].steps
        assert max(step.seconds for step in steps if step.asked == "DISCOVER") >= 2
        assert not any("REQUEST" in step.asked for step in steps)


def test_a_proxy_names_no_address_and_the_router_no_server(
    walks: dict[str, dict[str, tuple[Played, Result]]],
) -> None:
    offers = {step.got for step in walks[PROXY]["pi4"][1].steps if step.asked == "DISCOVER"}
    assert any("no address from 192.168.10.2, option 43" in offer for offer in offers)
    assert any("from 192.168.10.1" in offer and "option 43" not in offer for offer in offers)


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_boards_that_are_not_known_get_nothing(dhcp: str, tmp_path: Path) -> None:
    known, stranger, odd = boards(["pi4", "pi4", "uefi"])
    with served(tmp_path, [known.client()], dhcp) as made:
        results = all_played(made, (stranger, odd), tmp_path / "boards", patience=0.5)
    expected = "no answer" if dhcp == SERVER else "option 43"
    for result in results:
        assert not result.boots
        assert "from 192.168.10.2" not in said(result)
        assert result.server is None
    assert expected in said(results[0])


@pytest.mark.parametrize("dhcp", [PROXY, SERVER])
def test_boards_of_which_only_the_serial_is_known_are_recognised(dhcp: str, tmp_path: Path) -> None:
    ours, others = boards(["pi3b+", "pi4", "pi5"] * 2)[:3], boards(["pi3b+", "pi4", "pi5"] * 2)[3:]
    with served(tmp_path, [board.client(mac=False) for board in ours], dhcp) as made:
        results = all_played(made, [*ours, *others], tmp_path / "boards", patience=0.5)
    for board, result in zip(ours, results, strict=False):
        assert result.boots, said(result)
        if dhcp == SERVER:
            assert str(result.address) == f"{board.address}/24"
    assert [result.server for result in results[3:]] == [None] * 3


def test_thirty_two_pi_3s_that_get_power_at_once_all_boot(
    all_walks: dict[str, list[tuple[Played, Result]]],
) -> None:
    flock = all_walks["flock"]
    assert [board.address for board, result in flock if not result.boots] == []
    assert {str(result.address) for _, result in flock} == {f"{board.address}/24" for board, _ in flock}


def test_an_eeprom_set_to_the_mac_address_finds_its_folder_too(tmp_path: Path) -> None:
    (board,) = boards(["cm4"])
    with served(tmp_path, [board.client()]) as made:
        result = played(made, board, prefix="mac")
    assert result.boots
    assert f"{board.mac.replace(':', '-')}/config.txt" in [step.asked for step in result.steps]
