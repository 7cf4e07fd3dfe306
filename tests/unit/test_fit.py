"""Base, board and part in the cluster: what is refused, what is warned about, and what is silent."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from tests.seeding import DEBIAN
from tests.unit.fitting import TODAY, member

from pibake.boards import BOARDS
from pibake.fit import Finding, Level, fit
from pibake.plan import Disk, K3sAgent, K3sServer, KubeadmInit, KubeadmJoin, NodePlan, Part, Wifi
from pibake.secret import Secret
from pibake.system import Kernel, Release, System

RASPIOS = replace(DEBIAN, kernels=(Kernel("kernel8.img", "6.12.34+rpt-rpi-v8"),))
STRETCH = replace(
    DEBIAN,
    release=Release("raspbian", "9", "stretch", "Raspbian GNU/Linux 9 (stretch)"),
    kernels=(Kernel("kernel8.img", "4.14.34-hypriotos-v8"),),
)
ARMHF = replace(DEBIAN, arch="armhf", kernels=())
FIRMWARE = ("config.txt", "bootcode.bin", "start.elf", "fixup.dat")
PARTS: dict[str, Part] = {
    "k3s server": K3sServer(first=True),
    "k3s agent": K3sAgent(),
    "kubeadm control plane": KubeadmInit(),
    "kubeadm worker": KubeadmJoin(control_plane=False),
}


def said(found: list[Finding], level: Level) -> list[str]:
    return [finding.message for finding in found if finding.level is level]


def refusals(
    node: NodePlan, system: System = DEBIAN, boards: tuple[str, ...] = (), files: tuple[str, ...] = ()
) -> list[str]:
    return said(fit(node, system, boards, boot_files=files, today=TODAY), Level.REFUSED)


def warnings(node: NodePlan, system: System = DEBIAN) -> list[str]:
    found = fit(node, system, today=TODAY)
    assert not said(found, Level.REFUSED)
    return said(found, Level.WARNED)


def test_a_plain_node_on_a_base_that_is_made_for_it_is_silent(plain_node: NodePlan) -> None:
    files = ("config.txt", "start4.elf", "bcm2711-rpi-4-b.dtb")
    assert fit(plain_node, DEBIAN, ("pi3", "pi4"), boot_files=files, end_of_life=TODAY, today=TODAY) == []


def test_a_node_that_does_not_say_which_board_it_is_is_silent_on_anything_for_arm64(
    plain_node: NodePlan,
) -> None:
    node = replace(plain_node, board="generic", member=member(K3sServer(first=True)))
    assert fit(node, DEBIAN, ("pi3",), boot_files=("config.txt",), today=TODAY) == []


def test_a_base_whose_catalogue_entry_leaves_the_board_out_is_refused(plain_node: NodePlan) -> None:
    node = replace(plain_node, board="pi5")
    (found,) = fit(node, RASPIOS, ("pi3", "pi4"), today=TODAY)
    assert found.level is Level.REFUSED
    assert found.message == "node3 is a pi5, and debian-13 does not boot there"
    assert found.hint.startswith("debian-13 is for pi3, pi4; give node3 another `base:`")


def test_an_image_of_ones_own_has_no_list_of_boards_to_be_refused_by(plain_node: NodePlan) -> None:
    assert refusals(replace(plain_node, board="pi500"), RASPIOS, ()) == []


@pytest.mark.parametrize(
    ("board", "files"),
    [
        ("pi2", (*FIRMWARE, "bcm2710-rpi-2-b.dtb")),
        ("pi3", (*FIRMWARE, "bcm2710-rpi-3-b.dtb")),
        ("pi3", (*FIRMWARE, "BCM2837-RPI-3-B.DTB")),
        ("pi3b+", (*FIRMWARE, "bcm2837-rpi-3-b-plus.dtb")),
        ("pi4", ("start4.elf", "current/bcm2711-rpi-4-b.dtb")),
        ("pi400", ("start4.elf", "bcm2711-rpi-400.dtb")),
        ("cm4", ("start4.elf", "bcm2711-rpi-cm4-io.dtb")),
        ("pi5", ("config.txt", "current/bcm2712d0-rpi-5-b.dtb")),
        ("pi500", ("config.txt", "bcm2712-rpi-500.dtb")),
        ("cm5", ("config.txt", "bcm2712-rpi-cm5l-cm4io.dtb")),
    ],
)
def test_a_board_boots_with_its_firmware_and_one_of_its_device_trees(
    board: str, files: tuple[str, ...], plain_node: NodePlan
) -> None:
    assert refusals(replace(plain_node, board=board), RASPIOS, (), files) == []


@pytest.mark.parametrize(
    ("board", "files", "missing"),
    [
        ("pi3", ("start4.elf", "bcm2710-rpi-3-b.dtb"), "no firmware for it: bootcode.bin, start.elf"),
        ("pi4", (*FIRMWARE, "bcm2710-rpi-3-b.dtb"), "no firmware for it: start4.elf"),
        ("pi400", ("start4.elf", "bcm2711-rpi-4-b.dtb"), "no device tree for it: bcm2711-rpi-400.dtb"),
        (
            "pi5",
            (*FIRMWARE, "start4.elf", "bcm2711-rpi-4-b.dtb"),
            "no device tree for it: bcm2712-rpi-5-b.dtb or",
        ),
        ("pi3b+", (*FIRMWARE, "bcm2710-rpi-3-b.dtb"), "no device tree for it: bcm2710-rpi-3-b-plus.dtb or"),
    ],
)
def test_a_base_without_firmware_or_device_tree_for_the_board_is_refused(
    board: str, files: tuple[str, ...], missing: str, plain_node: NodePlan
) -> None:
    (message,) = refusals(replace(plain_node, board=board), RASPIOS, (), files)
    assert message.startswith(f"node3 is a {board}, and the boot partition of debian-13 holds {missing}")


def test_a_base_for_another_processor_is_refused(plain_node: NodePlan) -> None:
    (message,) = refusals(plain_node, replace(DEBIAN, arch="amd64"))
    assert message == "debian-13 is made for amd64, which node3, a pi4 board, cannot run"


def test_a_32_bit_base_for_a_board_that_is_not_named_is_warned_about(plain_node: NodePlan) -> None:
    assert "32-bit" in warnings(replace(plain_node, board="generic"), ARMHF)[0]
    assert warnings(replace(plain_node, board="pi3"), ARMHF) == []


@pytest.mark.parametrize("board", ["pi5", "pi500", "cm5"])
def test_a_pi_5_on_a_mainline_kernel_without_its_ethernet_is_refused(
    board: str, plain_node: NodePlan
) -> None:
    node = replace(plain_node, board=board)
    (message,) = refusals(node, DEBIAN)
    assert (
        "Ethernet needs Linux 6.18 or a kernel of Raspberry Pi's own; debian-13 has 6.12.48+deb13-arm64"
        in message
    )
    for release in (
        "6.18.2+deb14-arm64",
        "7.0.1",
        "6.1.0-rpi4-rpi-2712",
        "6.8.0-1010-raspi",
        "6.6.0-v8+",
        "",
    ):
        assert refusals(node, replace(DEBIAN, kernels=(Kernel("vmlinuz", release),))) == []


def test_a_board_without_ethernet_is_refused_unless_the_mac_of_an_adapter_is_given(
    plain_node: NodePlan,
) -> None:
    node = replace(plain_node, board="zero2w")
    assert refusals(node) == ["node3 is a zero2w, which has no Ethernet port"]
    assert refusals(replace(node, link=replace(node.link, mac="00:e0:4c:01:02:03"))) == []


def on_wifi(node: NodePlan, board: str) -> NodePlan:
    return replace(node, board=board, wifi=Wifi("lab", Secret("0" * 64), "DE"))


def test_wi_fi_on_a_board_without_it_is_refused(plain_node: NodePlan) -> None:
    assert refusals(on_wifi(plain_node, "pi2")) == ["node3 is to use Wi-Fi, which a pi2 does not have"]


def test_wi_fi_is_as_good_as_ethernet_where_the_board_has_it(plain_node: NodePlan) -> None:
    assert refusals(on_wifi(plain_node, "zero2w")) == []
    assert refusals(on_wifi(plain_node, "pi5")) == []


def test_a_system_without_systemd_or_python_cannot_join_but_can_be_a_plain_machine(
    plain_node: NodePlan,
) -> None:
    bare = replace(DEBIAN, init="sysvinit", python="")
    assert refusals(plain_node, bare) == []
    found = refusals(replace(plain_node, memory=4096, member=member(K3sAgent())), bare)
    assert ["systemd" in found[0], "/usr/bin/python3" in found[1], len(found)] == [True, True, 2]


def test_kubeadm_on_a_32_bit_system_is_refused(plain_node: NodePlan) -> None:
    (message,) = refusals(replace(plain_node, memory=4096, member=member(KubeadmInit())), ARMHF)
    assert message == (
        "node3 is to run kubeadm, which pibake has for arm64 only, and debian-13 is a 32-bit system"
    )


def test_k3s_on_a_32_bit_system_is_warned_about(plain_node: NodePlan) -> None:
    (message,) = warnings(replace(plain_node, memory=4096, member=member(K3sServer(first=True))), ARMHF)
    assert "k3s-armhf" in message


@pytest.mark.parametrize(
    ("what", "memory", "level"),
    [
        ("k3s server", 512, Level.REFUSED),
        ("k3s server", 1024, Level.WARNED),
        ("k3s server", 2048, None),
        ("k3s agent", 256, Level.WARNED),
        ("k3s agent", 512, None),
        ("kubeadm control plane", 1024, Level.REFUSED),
        ("kubeadm control plane", 1699, Level.REFUSED),
        ("kubeadm control plane", 1700, None),
        ("kubeadm worker", 512, Level.WARNED),
        ("kubeadm worker", 1024, None),
    ],
)
def test_every_part_of_a_cluster_needs_its_memory(
    what: str, memory: int, level: Level | None, plain_node: NodePlan
) -> None:
    node = replace(plain_node, board="generic", memory=memory, member=member(PARTS[what]))
    found = fit(node, DEBIAN, today=TODAY)
    assert [finding.level for finding in found] == ([level] if level else [])
    assert all(what in finding.message for finding in found)


def test_a_further_kubeadm_control_plane_needs_what_the_first_one_needs(plain_node: NodePlan) -> None:
    node = replace(plain_node, memory=1024, member=member(KubeadmJoin(control_plane=True)))
    assert "kubeadm refuses to go on below 1700 MiB" in refusals(node)[0]


def test_memory_that_is_only_assumed_is_warned_about_but_not_refused(plain_node: NodePlan) -> None:
    node = replace(plain_node, board="pi4", member=member(KubeadmInit()))
    (found,) = fit(node, DEBIAN, today=TODAY)
    assert found.level is Level.WARNED
    assert "node3 does not say how much memory it has, and a pi4 may have 1GiB" in found.message
    assert found.hint == "say how much it has, as in `memory: 8GiB`"
    assert warnings(replace(node, board="pi400")) == []


def test_a_board_that_is_sold_with_too_little_only_is_refused_without_being_asked(
    plain_node: NodePlan,
) -> None:
    node = on_wifi(replace(plain_node, member=member(K3sServer(first=True))), "zero2w")
    assert refusals(node)[0].startswith("node3 has 512MiB of memory, too little for a k3s server")
    (message,) = warnings(replace(node, board="pi3"))
    assert message.startswith("node3 has 1GiB of memory, which is little for a k3s server")


@pytest.mark.parametrize(
    ("version", "level"),
    [("v1.30.9", None), ("v1.31.0", Level.WARNED), ("v1.34.2", Level.WARNED), ("v1.35.0", Level.REFUSED)],
)
@pytest.mark.parametrize("part", [K3sAgent(), KubeadmJoin(control_plane=False)])
def test_a_system_of_cgroup_v1_is_warned_about_and_then_refused_by_the_release_of_kubernetes(
    part: Part, version: str, level: Level | None, plain_node: NodePlan
) -> None:
    node = replace(plain_node, memory=4096, member=member(part, version))
    found = fit(node, STRETCH, today=TODAY)
    assert [finding.level for finding in found] == ([level] if level else [])
    assert all("debian-13 (Raspbian GNU/Linux 9 (stretch))" in finding.message for finding in found)


@pytest.mark.parametrize(
    ("name", "version", "kernel", "only_v1"),
    [
        ("debian", "8", "", True),
        ("debian", "10", "4.19.75-v7+", True),
        ("debian", "11", "5.10.0-30-arm64", False),
        ("ubuntu", "20.04", "5.4.0-1110-raspi", True),
        ("ubuntu", "22.04", "5.15.0-1061-raspi", False),
        ("centos", "7", "", True),
        ("alpine", "3.11.3", "4.19.80-0-rpi", True),
        ("alpine", "3.22.1", "6.12.51-0-rpi", False),
        ("debian", "", "", False),
    ],
)
def test_the_age_of_distribution_and_kernel_tell_whether_there_is_cgroup_v2(
    name: str, version: str, kernel: str, only_v1: bool, plain_node: NodePlan
) -> None:
    system = replace(
        DEBIAN, release=Release(name, version, "", name), kernels=(Kernel("kernel8.img", kernel),)
    )
    node = replace(plain_node, memory=4096, member=member(K3sAgent(), "v1.35.0"))
    assert bool(refusals(node, system)) is only_v1
    assert refusals(replace(node, member=None), system) == []


def test_a_base_without_security_updates_is_warned_about_from_the_day_after(plain_node: NodePlan) -> None:
    day = dt.timedelta(days=1)
    (found,) = fit(plain_node, DEBIAN, end_of_life=TODAY - day, today=TODAY)
    assert found.level is Level.WARNED
    assert found.message == "debian-13, the base of node3, has had no security updates since 2026-08-31"
    assert fit(plain_node, DEBIAN, end_of_life=TODAY, today=TODAY) == []


def test_refusals_come_before_warnings(plain_node: NodePlan) -> None:
    node = replace(plain_node, board="zero2w", memory=256, member=member(K3sAgent(), "v1.34.2"))
    levels = [finding.level for finding in fit(node, STRETCH, end_of_life=dt.date(2022, 6, 30), today=TODAY)]
    assert levels == [Level.REFUSED, Level.WARNED, Level.WARNED, Level.WARNED]


@pytest.mark.parametrize("board", BOARDS)
def test_every_finding_names_its_node_and_says_what_to_do(board: str, plain_node: NodePlan) -> None:
    bad = replace(
        STRETCH, arch="armhf", init="busybox", python="", kernels=(Kernel("kernel.img", "4.9.35", 16),)
    )
    for part in PARTS.values():
        node = replace(plain_node, board=board, member=member(part, "v1.35.0"))
        for boards in ((), ("cm1",)):
            found = fit(node, bad, boards, boot_files=("a",), end_of_life=dt.date(2020, 1, 1), today=TODAY)
            assert found
            assert all("node3" in finding.message for finding in found)
            assert all(finding.hint and not finding.hint.endswith(".") for finding in found)


def test_data_disks_need_python_and_systemd(plain_node: NodePlan) -> None:
    node = replace(plain_node, disks=(Disk("/dev/sda", "/srv/data", "ext4", "data", "lab/node3/data"),))
    assert refusals(node) == []
    assert refusals(node, replace(DEBIAN, python="")) == [
        "node3 cannot have data disks with debian-13, which has no /usr/bin/python3: pibake-disks needs it"
    ]
    assert refusals(plain_node, replace(DEBIAN, python="")) == []
