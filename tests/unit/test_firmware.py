from __future__ import annotations

import pytest

from pibake.image.firmware import BootFiles, boot_files

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
