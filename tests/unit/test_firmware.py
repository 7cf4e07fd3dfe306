from __future__ import annotations

import pytest

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
