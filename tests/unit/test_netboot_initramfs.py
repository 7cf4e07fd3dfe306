"""What is added to a distribution's initramfs: programs in every place where one of its kinds looks."""

from __future__ import annotations

import re

import pytest

from pibake.netboot import initramfs

HOOKS = ("cmdline", "initqueue/settled", "mount")


def test_initramfs_tools_finds_a_boot_script_with_the_functions_it_calls() -> None:
    script = initramfs.scripts()["scripts/pibake"].data.decode()
    functions = re.findall(r"^(\w+)\(\)", script, re.MULTILINE)
    assert functions == ["mount_top", "mount_premount", "mount_bottom", "mountroot"]


@pytest.mark.parametrize("folder", initramfs.DRACUT)
@pytest.mark.parametrize("hook", HOOKS)
def test_dracut_finds_its_hooks_in_both_places_it_has_had_for_them(folder: str, hook: str) -> None:
    file = initramfs.scripts()[f"{folder}/{hook}/05-pibake.sh"]
    assert file.mode == 0o755
    assert b"pibake.root=" in file.data


def test_both_start_the_same_program() -> None:
    tree = initramfs.scripts()
    assert tree[initramfs.PROGRAM].mode == 0o755
    callers = [
        path
        for path, file in tree
        if f"/{initramfs.PROGRAM} n".encode() in file.data and path != initramfs.PROGRAM
    ]
    assert len(callers) == 1 + 2 * len(initramfs.DRACUT)


def test_the_program_reads_every_word_that_it_is_told() -> None:
    programs = [initramfs.scripts()[path].data.decode() for path in (initramfs.PROGRAM, "pibake/tell")]
    program = "\n".join(programs)
    told = {"http", "server", "nfs", "nbd", "ip", "mac", "name", "golden", "state", "boot", "clock"}
    assert set(re.findall(r"^ +pibake\.(\w+)=\*\)", program, re.MULTILINE)) == told


def test_nothing_of_the_distributions_own_is_replaced() -> None:
    for path, _ in initramfs.scripts():
        assert "pibake" in path
