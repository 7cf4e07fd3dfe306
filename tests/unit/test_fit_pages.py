"""The kernel with 4 KiB pages, for the Pi 5 in a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.seeding import DEBIAN
from tests.unit.fitting import TODAY, member

from pibake.boards import BOARDS
from pibake.fit import Level, config_txt, fit, kernel_choice
from pibake.image.firmware import boot_files
from pibake.plan import K3sAgent, NodePlan
from pibake.system import Kernel

SMALL = Kernel("kernel8.img", "6.12.34+rpt-rpi-v8", 4)
LARGE = Kernel("kernel_2712.img", "6.12.34+rpt-rpi-2712", 16)
RASPIOS = replace(DEBIAN, kernels=(SMALL, LARGE))
CONFIG = "dtparam=audio=on\nauto_initramfs=1\n\n[cm4]\notg_mode=1\n\n[gpio4=1]\ndtparam=poe=on\n"


@pytest.fixture
def pi5(plain_node: NodePlan) -> NodePlan:
    return replace(plain_node, board="pi5", memory=8192, member=member(K3sAgent()))


@pytest.mark.parametrize("board", ["pi5", "pi500", "cm5", "generic"])
def test_a_member_that_is_or_may_be_a_pi_5_gets_the_kernel_with_small_pages(
    board: str, pi5: NodePlan
) -> None:
    node = replace(pi5, board=board)
    assert kernel_choice(node, RASPIOS) == "kernel8.img"
    (found,) = fit(node, RASPIOS, today=TODAY)
    assert found.level is Level.NOTE
    assert found.message.startswith("on a Pi 5, node3 boots kernel8.img of debian-13, with pages of 4 KiB")


def test_everything_else_keeps_the_kernel_that_the_firmware_takes(pi5: NodePlan) -> None:
    assert kernel_choice(replace(pi5, member=None), RASPIOS) is None
    assert kernel_choice(replace(pi5, board="pi4"), RASPIOS) is None
    assert kernel_choice(pi5, replace(RASPIOS, kernels=(SMALL,))) is None
    assert fit(pi5, replace(RASPIOS, kernels=(SMALL,)), today=TODAY) == []


@pytest.mark.parametrize("others", [(), (replace(SMALL, release=""),), (replace(SMALL, page_kib=16),)])
def test_a_base_with_large_pages_only_is_warned_about_and_left_alone(
    others: tuple[Kernel, ...], pi5: NodePlan
) -> None:
    system = replace(RASPIOS, kernels=(LARGE, *others))
    (found,) = fit(pi5, system, today=TODAY)
    assert found.level is Level.WARNED
    assert "no kernel with pages of 4 KiB for node3" in found.message
    assert config_txt(CONFIG, pi5, system) == CONFIG
    assert fit(replace(pi5, board="generic"), system, today=TODAY) == []


@pytest.mark.parametrize("board", BOARDS)
def test_config_txt_then_names_that_kernel_for_every_pi_5_and_for_no_other_board(
    board: str, pi5: NodePlan
) -> None:
    written = config_txt(CONFIG, replace(pi5, board="generic"), RASPIOS)
    assert boot_files(written, board).kernel == "kernel8.img"
    fifth = boot_files("", board).kernel == "kernel_2712.img"
    assert (boot_files(written.replace("kernel8.img", "chosen"), board).kernel == "chosen") is fifth


def test_what_stood_in_config_txt_stays_as_it_was(pi5: NodePlan) -> None:
    written = config_txt(CONFIG, pi5, RASPIOS)
    assert written.startswith(CONFIG)
    assert max(map(len, written.splitlines())) <= 98
    assert written.endswith("\n[all]\n# pibake: end\n")
    assert config_txt("arm_64bit=1", pi5, RASPIOS).startswith("arm_64bit=1\n# pibake: begin")
    assert config_txt("", pi5, RASPIOS).startswith("# pibake: begin")


def test_writing_config_txt_again_changes_nothing_and_a_plain_machine_is_rid_of_the_block(
    pi5: NodePlan,
) -> None:
    written = config_txt(CONFIG, pi5, RASPIOS)
    assert config_txt(written, pi5, RASPIOS) == written
    assert config_txt(written + "[pi4]\narm_boost=1\n", pi5, RASPIOS).count("pibake: begin") == 1
    assert config_txt(written, replace(pi5, member=None), RASPIOS) == CONFIG
    assert config_txt(written.replace("\n", "\r\n"), pi5, RASPIOS).count("pibake: begin") == 1
