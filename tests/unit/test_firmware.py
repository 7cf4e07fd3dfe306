from __future__ import annotations

import pytest

from pibake.boards import BOARDS
from pibake.image.firmware import BootFiles, Setting, boot_files, includes, inline, settings

UBUNTU_2404 = """\
[all]
kernel=vmlinuz
cmdline=cmdline.txt
initramfs initrd.img followkernel
[pi4]
max_framebuffers=2
[all]
dtparam=audio=on
"""
UBUNTU_2604 = """\
[all]
os_prefix=current/
[tryboot]
os_prefix=new/
[all]
kernel=vmlinuz
cmdline=cmdline.txt
initramfs initrd.img followkernel
"""


@pytest.mark.parametrize(
    ("config", "board", "expected"),
    [
        ("", "pi4", BootFiles("kernel8.img", "", "cmdline.txt")),
        ("", "pi5", BootFiles("kernel_2712.img", "", "cmdline.txt")),
        (UBUNTU_2404, "pi4", BootFiles("vmlinuz", "initrd.img", "cmdline.txt")),
        (UBUNTU_2604, "pi4", BootFiles("current/vmlinuz", "current/initrd.img", "current/cmdline.txt")),
        ("[pi3]\nkernel=three\n[pi4]\nkernel=four # new\n", "pi4", BootFiles("four", "", "cmdline.txt")),
        ("[pi3]\nkernel=three\n[pi4]\nkernel=four\n", "pi3", BootFiles("three", "", "cmdline.txt")),
        ("[0x1234abcd]\nkernel=special\n", "pi4", BootFiles("kernel8.img", "", "cmdline.txt")),
        ("#kernel=off\nCMDLINE = other.txt \n", "pi4", BootFiles("kernel8.img", "", "other.txt")),
    ],
)
def test_the_files_are_found_as_the_firmware_finds_them(config: str, board: str, expected: BootFiles) -> None:
    assert boot_files(config, board) == expected


FILTERS = (
    "pi0", "pi0w", "pi02", "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "cm4", "cm4s", "pi5", "pi500", "cm5", "none", "tryboot",
)  # fmt: skip


def section(name: str) -> str:
    return f"cmdline=other.txt\n[{name}]\ncmdline=mine.txt\n"


@pytest.mark.parametrize(
    ("board", "seen"),
    [
        ("generic", set()),
        ("pi2", {"pi2"}),
        ("pi3", {"pi3"}),
        ("pi3b+", {"pi3", "pi3+"}),
        ("pi4", {"pi4"}),
        ("pi400", {"pi4", "pi400"}),
        ("cm4", {"pi4", "cm4"}),
        ("pi5", {"pi5"}),
        ("pi500", {"pi5", "pi500"}),
        ("cm5", {"pi5", "cm5"}),
        ("zero2w", {"pi0", "pi0w", "pi02"}),
    ],
)
def test_a_board_sees_the_sections_of_its_own_model_and_of_its_family(board: str, seen: set[str]) -> None:
    assert {name for name in FILTERS if boot_files(section(name), board).cmdline == "mine.txt"} == seen


def test_a_section_for_one_product_is_seen_by_that_product_only() -> None:
    found = {board for board in BOARDS if boot_files(section("board-type=0x14"), board).cmdline == "mine.txt"}
    assert found == {"cm4"}
    assert boot_files(section("board-type=17"), "pi4").cmdline == "mine.txt"


def test_every_board_of_the_fifth_generation_loads_the_kernel_made_for_it() -> None:
    kernels = {board: boot_files("", board).kernel for board in BOARDS}
    assert {board for board, kernel in kernels.items() if kernel == "kernel_2712.img"} == {
        "pi5",
        "pi500",
        "cm5",
    }


def test_filters_of_several_kinds_must_all_hold_until_all_of_them_are_reset() -> None:
    config = "[tryboot]\n[pi4]\nkernel=trial\n[all]\nkernel=settled\n[pi4]\n[gpio4=1]\nkernel=button\n"
    assert boot_files(config, "pi4").kernel == "settled"
    assert boot_files("[none]\n[pi4]\nkernel=never\n", "pi4").kernel == "kernel8.img"
    assert boot_files("[pi3]\n[pi4]\nkernel=four\n", "pi4").kernel == "four"


def test_every_setting_is_told_with_its_filter() -> None:
    config = "a=1\n[Pi4] \nKernel = four # new\n[tryboot]\nos_prefix=new/\n[all]\ninitramfs initrd.img followkernel\nodd\n"
    assert list(settings(config)) == [
        Setting("all", "a", "1"),
        Setting("pi4", "kernel", "four"),
        Setting("tryboot", "os_prefix", "new/"),
        Setting("all", "initramfs", "initrd.img followkernel"),
        Setting("all", "odd", ""),
    ]


def test_included_files_stand_where_they_are_named() -> None:
    config = "[pi4]\ninclude a.txt\n#include no.txt\ncmdline=last\n include absent.txt\n"
    assert includes(config) == ("a.txt", "absent.txt")
    whole = inline(
        config, {"a.txt": "cmdline=first\ninclude b.txt", "b.txt": "[all]\nkernel=b", "no.txt": "kernel=no"}
    )
    assert boot_files(whole, "pi4") == BootFiles("b", "", "last")
    assert boot_files(whole, "pi3") == BootFiles("b", "", "last")


def test_files_that_include_each_other_come_to_an_end() -> None:
    assert inline("include a", {"a": "x=1\ninclude a"}).count("x=1") == 10
